//! Runs plugins it has never heard of
