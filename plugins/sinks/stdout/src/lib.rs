//! Sink: JSON lines on standard output
