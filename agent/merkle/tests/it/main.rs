//! Tests of the public API.
//!
//! | module | what it shows |
//! |---|---|
//! | `vectors` | the published and our own golden vectors |
//! | `oracle` | agreement with Go's `sumdb`, see `golden/oracle.go` |
//! | `properties` | agreement with a naive tree, small ones exhaustively |
//! | `large` | the same up to 2^63 leaves |
//! | `tiles` | tiles made, resumed, read; readers that fail |
//! | `notes` | keys, notes, checkpoints: what is refused; another signature type |
//! | `tampering` | every changed proof is rejected |
//! | `arbitrary` | no bytes make it panic; the fuzz targets' functions are in `entry` |

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod naive;

mod arbitrary;
mod entry;
mod large;
mod notes;
mod oracle;
mod properties;
mod tampering;
mod tiles;
mod vectors;
