//! The check against directories that were made by the format's page, and changed by someone who knows it.

#![allow(clippy::unwrap_used)]

mod flips;
mod journal;
mod model;
mod proofs;
mod rows;
mod tampering;
