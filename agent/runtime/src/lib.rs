//! Runs plugins it has never heard of.
//!
//! | module | what it does |
//! |---|---|
//! | [`agent`] | start and end of the agent: journal, plugins, listener, one deadline |
//! | [`accounts`] | API keys, page sessions and one-time tokens in `accounts.db` |
//! | [`driver`] | the loop around a sink: batching, deadlines, retries, positions, gaps |
//! | [`hot`] | decoded parts near the journal's head, shared by all sinks |
//! | [`dead_letters`] | what sinks refused for good: files, listing, replay |
//! | [`supervisor`] | the loop around a source or service: restarts with backoff |
//! | [`notes`] | what happened to the journal, as events |
//! | [`listener`] | connections: limits, time-outs, shutdown |
//! | [`guard`] | the time-outs of one connection |
//! | [`routes`] | the agent's own routes: probes, metrics, reading events |
//! | [`telemetry`] | metrics of process, journal, plugins and HTTP |

pub mod accounts;
pub mod agent;
pub mod dead_letters;
mod driver;
mod guard;
mod hot;
mod listener;
mod notes;
mod routes;
mod supervisor;
mod telemetry;
