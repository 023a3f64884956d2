//! The journal's model test: the real writer, recovery, reader and fsck over a
//! disk that loses unsynced writes and names at a crash and tears pages.
//!
//! [`disk`] is that disk, [`model`] knows what must be in the journal, and
//! [`history`] drives both through a random life.

pub mod checkpoints;
pub mod disk;
pub mod fuzz;
pub mod history;
pub mod inode;
pub mod model;
pub mod rng;
