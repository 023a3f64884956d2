//! Tests of the public API.
//!
//! | module | what it shows |
//! |---|---|
//! | `oracle` | agreement with Go's `sumdb`, see `golden/oracle.go` |
//! | `properties` | agreement with a naive tree, small ones exhaustively |
//! | `large` | the same up to 2^63 leaves |
//! | `tiles` | tiles made, resumed, read; readers that fail |

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod naive;

mod large;
mod oracle;
mod properties;
mod tiles;
