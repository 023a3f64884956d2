//! The store against real journals in temporary directories.

mod delivery;
mod faults;
mod harness;
mod pruning;
mod reading;
mod remembered;
