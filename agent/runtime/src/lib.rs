//! Runs plugins it has never heard of.
//!
//! | module | what it does |
//! |---|---|
//! | [`agent`] | the agent: what the binary starts, asks, changes and stops |
//! | `start`, `stop` | the order of start and end |
//! | `plan` | from configuration to plans: what is to run |
//! | `plugins`, `slot` | all plugins; one: built, run, built again, ended |
//! | `supervisor` | when a plugin that has ended is started again |
//! | `teller` | plugins that fail and recover, as events |
//! | `driver`, `hot` | the loop around a sink: batching, deadlines, retries, positions, gaps; decoded parts that all sinks share |
//! | [`dead_letters`] | what sinks refused for good: files, listing, replay |
//! | [`reload`], `files` | loading the configuration again; files that sections name |
//! | [`status`] | how everything is |
//! | [`admin`] | the socket through which commands speak to the running agent |
//! | [`prepare`] | plans and needs, before anything of the host is changed |
//! | [`privileges`] | giving up privileges before the async runtime starts |
//! | `parts`, `mounts`, `reader`, `expose` | what plugins share: contexts, routes, the store's reader, metrics |
//! | `lookup` | single events by id: the store first, then the journal |
//! | [`accounts`] | API keys, page sessions and one-time tokens in `accounts.db` |
//! | [`erase`], `erased` | erasing one event; what of it is still in memory |
//! | `scratch` | where SQLite puts what it can't hold in memory |
//! | `notes` | what happened to the journal, as events |
//! | `listener`, `guard`, `rest` | connections: limits, time-outs, shutdown, bodies that nobody read |
//! | `listeners` | those beside the shared one |
//! | [`request_id`] | what a request is called in log and answer |
//! | `tls`, `prefix` | certificates of a listener, followed while it runs; the path under which a proxy shows the agent |
//! | `routes` | the agent's own routes: probes, metrics, reading events |
//! | `telemetry` | metrics of process, journal, plugins and HTTP |
//! | `expose`, `openmetrics` | `/metrics`: all registries as one, in the format that the client wants |

pub mod accounts;
pub mod admin;
pub mod agent;
pub mod dead_letters;
mod driver;
pub mod erase;
mod erased;
mod expose;
mod files;
mod guard;
mod hot;
mod listener;
mod listeners;
pub mod logkey;
mod lookup;
mod mounts;
mod notes;
pub mod offline;
mod openmetrics;
mod parts;
mod plan;
mod plugins;
mod prefix;
pub mod prepare;
pub mod privileges;
mod protect;
mod reader;
pub mod reload;
pub mod remembered;
pub mod request_id;
mod rest;
pub mod rollback;
mod routes;
mod scratch;
mod slot;
mod start;
pub mod status;
mod stop;
mod supervisor;
mod telemetry;
mod teller;
mod tlog;
mod tls;
