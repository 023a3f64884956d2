//! Source: audits immudb servers from outside.
//!
//! Each interval every database has to show that its state follows from the one that is trusted. What is trusted lies in
//! the journal, in the same frame as the event that tells of it.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`](self::config), `address`, `select`, `secret` | settings of `sources.immudb` |
//! | `client` | calls to one server |
//! | `audit` | one audit of one database |
//! | `verdict` | what it comes to, in codes and in words |
//! | `trusted` | what is remembered of a database |
//! | `server` | one server: login, list, all its databases at once |
//! | `ledger` | from verdicts to events, memory and metrics |
//! | `source` | the plugin |

mod address;
mod audit;
mod client;
mod config;
mod ledger;
mod metrics;
mod secret;
mod select;
mod server;
mod source;
mod trusted;
mod verdict;

pub use config::{Accept, ImmudbConfig, Login, Password, ServerConfig, TlsConfig};
