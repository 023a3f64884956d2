//! The web page
