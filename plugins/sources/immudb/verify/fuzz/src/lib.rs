//! The functions that the targets run; the crate's tests run them too.

#[path = "../../tests/it/entry.rs"]
mod entry;

pub use entry::*;
