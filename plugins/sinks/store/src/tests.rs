//! The store against real journals in temporary directories.

mod delivery;
mod erasure;
mod faults;
mod harness;
mod pruning;
mod reading;
mod remembered;
