//! Event formats: pure functions from an event to bytes, without I/O. Sinks name a format, never build one.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@format`] | [`Format`]: what an event looks like |
//! | [`framing`] | [`Framing`]: how events stand in one body |
//! | [`body`] | [`Body`]: events put together, within a limit |
//!
//! A further format is a variant of [`Format`] with a module of its own; the compiler then names the places that have
//! to know it. One that takes settings is a variant with fields, `format: {NAME: {…}}` in the configuration.

#![forbid(unsafe_code)]

pub mod body;
pub mod format;
pub mod framing;

mod auditmon;
mod immuclient;

pub use body::{Body, Overflow};
pub use format::{Format, Item};
pub use framing::Framing;
pub use immuclient::Credentials;
