//! Sink: SQLite store, and its reader
