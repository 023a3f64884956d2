//! What a plugin author reads.
//!
//! | module | what it holds |
//! |---|---|
//! | [`event`] | the event: members, limits, canonical bytes, and the view of stored bytes |
//! | [`inbound`] | an event as an application sends it: parsing and the rejection codes |
//! | [`batch`] | events and state that are accepted together: one frame of the journal |
//! | [`emitter`] | how a source hands a batch over and gets its answer |
//! | [`subscription`] | how a sink is given what was accepted |
//! | [`members`] | the members of a stored event, found without parsing its JSON |
//! | [`delivery`] | how a sink is handed events, and what it answers |
//! | [`schema`] | what a configuration's schema tells the runtime |
//! | [`plugin`] | the traits of source, sink and service, their contexts and the registry entry |
//! | [`process`] | metrics of the process |
//! | [`privileged`] | what needs privilege, and the one thread that has it |
//! | [`reader`] | reading stored events: the query and the trait that a store implements |
//! | [`keys`] | API keys and sessions as plugins see them |
//! | [`http`] | error answers as all routes give them |
//! | [`health`] | the state of a plugin |
//! | [`memory`] | buffers for large bodies and batches |
//! | [`json`] | strings written minimally escaped; raw values checked without recursion |
//! | [`time`] | RFC 3339, strictly read and canonically written |
//! | [`units`] | sizes and durations as the configuration spells them |

pub mod batch;
pub mod delivery;
pub mod emitter;
pub mod event;
pub mod health;
pub mod http;
pub mod inbound;
pub mod json;
pub mod keys;
pub mod members;
pub mod memory;
pub mod plugin;
pub mod privileged;
pub mod process;
pub mod reader;
pub mod schema;
pub mod subscription;
pub mod time;
pub mod units;

pub use batch::{Batch, Rejected};
pub use emitter::{Accepted, Emitter, Refused};
pub use event::{Data, Draft, EventView, Kind, Outcome, Severity};

/// The journal's formats, for those who read records themselves.
pub use auditmon_journal::format as journal;
