//! The sink against real servers on this host.

mod batches;
mod building;
mod network;
mod notifications;
mod order;
mod receiver;
mod secrets;
mod signing;
mod statuses;
mod support;
mod transport;
