//! Tests of the public API.
//!
//! | module | what it shows |
//! |---|---|
//! | `vectors` | known answers of hashes, trees and proofs |
//! | `accepted` | every recorded answer is judged as it should be; no false alarm |
//! | `tampered` | every recorded proof, changed anywhere, is rejected |
//! | `properties` | agreement with a naive database; what it didn't make is rejected |
//! | `forged` | proofs in which everything fits but one tie to the trusted history |
//! | `back` | the walk back, from each state of a naive database |
//! | `signatures` | keys, signatures, what is none |
//! | `arbitrary` | no bytes make it panic; the fuzz targets' functions are in `entry` |
//!
//! `AUDITMON_LONG=1` tries more.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod check;
mod fields;
mod naive;
mod proto;
mod recorded;

mod accepted;
mod arbitrary;
mod back;
mod entry;
mod forged;
mod properties;
mod signatures;
mod tampered;
mod vectors;
