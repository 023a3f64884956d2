//! Source: audits immudb servers from outside.
//!
//! Each interval every database has to show that its state follows from the one that is trusted. What is trusted lies in
//! the journal, in the same frame as the event that tells of it.
//!
//! | module | what it does |
//! |---|---|
//! | `config`, `address`, `select`, `secret` | settings of `sources.immudb` |
//! | `client` | calls to one server |
//! | `audit` | one audit of one database |
//! | `verdict` | what it comes to, in codes and in words |
//! | `trusted` | what is remembered of a database |
//! | `history`, `locate` | hashes of what was found in order; where a history begins to differ |
//! | `descent`, `earlier` | what lies before the first contact, and its hashes |
//! | `checked` | which values were checked |
//! | `chore`, `past`, `values` | work beside the audits, so many calls an interval: headers from before the first contact, values |
//! | `behind` | databases whose index doesn't catch up |
//! | `key` | stored keys, for people |
//! | `link` | the way to one server: logins, list, one audit and what is kept of it |
//! | `server` | one server: all its databases at once, every interval |
//! | `ledger`, `note` | from verdicts to memory and metrics, events and log |
//! | `word`, `desk` | operators' words after a finding, from the configuration and from commands |
//! | `source` | the plugin |
//! | `check` | one audit for a command |
//! | `peers`, `evidence` | what other agents have seen of the same servers, and what proves that one shows two histories |
//! | `compat` | what immuclient's auditor and immugw's show of themselves |

mod address;
mod audit;
mod behind;
mod check;
mod checked;
mod chore;
mod client;
mod compat;
mod config;
mod descent;
mod desk;
mod earlier;
mod evidence;
mod history;
mod key;
mod ledger;
mod link;
mod locate;
mod metrics;
mod note;
mod past;
mod peers;
mod room;
mod secret;
mod select;
mod server;
mod source;
mod trusted;
mod values;
mod verdict;
mod voice;
mod weigh;
mod word;

pub use check::{Checked, Outcome, Report, Unreached, check, reach, whole_address};
pub use compat::{CompatConfig, Known, Level, Program, StateDirectory, read_states};
pub use config::{Accept, ImmudbConfig, Login, Password, ServerConfig, TlsConfig};
pub use evidence::{SplitView, verify_evidence};
pub use peers::PeerConfig;
