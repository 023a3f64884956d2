//! Protobuf messages, generated from the `.proto` files beside and checked in: no build needs `protoc`, and
//! `tests/generated.rs` looks that both are the same.

/// The part of immudb's API that the auditor speaks.
#[allow(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated; the .proto file describes them"
)]
pub mod immudb;
