//! The check against directories that were made by the format's page, and changed by someone who knows it.

#![allow(clippy::unwrap_used)]

mod flips;
mod journal;
mod letters;
mod model;
mod proofs;
mod rotation;
mod rows;
mod tampering;
