//! Runs plugins it has never heard of.
//!
//! | module | what it does |
//! |---|---|
//! | [`agent`] | start and end of the agent: journal, plugins, listener, one deadline |
//! | [`admin`] | the socket through which commands speak to the running agent |
//! | [`accounts`] | API keys, page sessions and one-time tokens in `accounts.db` |
//! | `plan` | from the configuration to what can be built |
//! | [`driver`] | the loop around a sink: batching, deadlines, retries, positions, gaps |
//! | [`hot`] | decoded parts near the journal's head, shared by all sinks |
//! | [`dead_letters`] | what sinks refused for good: files, listing, replay |
//! | [`supervisor`] | the loop around a source or service: restarts with backoff |
//! | [`notes`] | what happened to the journal, as events |
//! | [`listener`] | connections: limits, time-outs, shutdown |
//! | [`guard`] | the time-outs of one connection |
//! | [`rest`] | what is left of a body that its handler did not read |
//! | [`tls`] | certificates of a listener, followed while it runs |
//! | [`prefix`] | the path under which a proxy shows the agent |
//! | [`routes`] | the agent's own routes: probes, metrics, reading events |
//! | [`status`] | what the agent says of itself |
//! | [`telemetry`] | metrics of process, journal, plugins and HTTP |

pub mod accounts;
pub mod admin;
pub mod agent;
pub mod dead_letters;
mod driver;
mod guard;
mod hot;
mod listener;
mod lookup;
mod notes;
mod plan;
mod prefix;
mod rest;
mod routes;
mod status;
mod supervisor;
mod telemetry;
mod tls;
