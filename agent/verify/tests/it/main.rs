//! The check against directories that were made by the format's page, and changed by someone who knows it.

#![allow(clippy::unwrap_used)]

mod cases;
mod checkpoints;
mod flips;
mod generations;
mod journal;
mod letters;
mod model;
mod proofs;
mod put_back;
mod records;
mod rotation;
mod rows;
mod segments;
mod strange;
mod tiles;
