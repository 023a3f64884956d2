//! Source: the event API, `POST /api/v1/events`.
//!
//! One request is one frame of the journal: wholly there or wholly absent. A 2xx answer is sent only after the
//! frame is on disk.
//!
//! | module | what it does |
//! |---|---|
//! | `config` | settings of `sources.ingest` |
//! | `body` | reads a request's body within time, size and memory |
//! | `events` | splits a body into events and checks each |
//! | `handler` | the route: from request to answer |

mod body;
mod config;
mod events;
mod handler;

pub use config::IngestConfig;
