//! The sink against real servers on this host.

mod batches;
mod network;
mod order;
mod receiver;
mod secrets;
mod signing;
mod statuses;
mod support;
mod transport;
