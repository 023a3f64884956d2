//! Events by HTTP POST, to any number of receivers.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | `sinks.webhook.NAME` |
//! | `address` | where events go, without showing what may be a secret |
//! | `credentials` | who a body says it is from |
//! | `headers` | further headers of the configuration |
//! | `secret` | files that hold secrets, and texts that must not repeat one |
//! | `signature` | Standard Webhooks: keys and signatures |
//! | `tls` | whom a certificate must come from, and what is wrong with one |
//! | `answer` | what a status means |
//! | `client` | one POST and what became of it |
//! | `order` | which events must stay in order |
//! | `sink` | a batch of events over several workers |
//! | `round` | what became of each event of a batch |

#![forbid(unsafe_code)]

pub mod config;

mod address;
mod answer;
mod client;
mod credentials;
mod headers;
mod order;
mod round;
mod secret;
mod signature;
mod sink;
mod tls;

pub use config::WebhookConfig;
pub use credentials::{CredentialsConfig, Hidden};
pub use order::Order;

#[cfg(test)]
mod tests;
