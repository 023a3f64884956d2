//! The auditor against a server of our own, which builds real trees by brute force and lies in every way.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, missing_docs)]
#[path = "../../verify/tests/it/naive.rs"]
mod naive;
#[allow(dead_code, missing_docs)]
#[path = "../../verify/tests/it/proto.rs"]
mod proto;

mod before;
mod compat;
mod contract;
mod fake;
mod honest;
mod lies;
mod located;
mod peers;
mod real;
mod recorded;
mod relay;
mod room;
mod tls;
mod trial;
mod trouble;
mod trust;
mod values;
