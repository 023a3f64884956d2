//! Events put together to one body, within a limit.

use crate::{Credentials, Format, Framing, Item};

/// Where a format asks for credentials and there are none.
const NOBODY: &Credentials = &Credentials {
    username: String::new(),
    password: String::new(),
};

/// A body under construction; never larger than its limit.
#[derive(Debug)]
pub struct Body<'f> {
    format: &'f Format,
    credentials: &'f Credentials,
    framing: Framing,
    limit: usize,
    bytes: Vec<u8>,
    events: usize,
}

/// An event did not fit; the body is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Overflow {
    /// It fits the next body.
    #[error("the body is full")]
    Full,
    /// It is larger than a body may be, even alone.
    #[error("the event makes a body of {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The body that it would need.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl<'f> Body<'f> {
    /// An empty body of at most `limit` bytes.
    #[must_use]
    pub const fn new(format: &'f Format, framing: Framing, limit: usize) -> Self {
        Self {
            format,
            credentials: NOBODY,
            framing,
            limit,
            bytes: Vec::new(),
            events: 0,
        }
    }

    /// The same with credentials, for formats that have them in the body.
    #[must_use]
    pub const fn with(mut self, credentials: &'f Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`Overflow`]; also where the framing has room for one event only.
    pub fn push(&mut self, item: &Item<'_>) -> Result<(), Overflow> {
        if self.framing == Framing::Event && self.events == 1 {
            return Err(Overflow::Full);
        }
        let [open, between, close] = self.framing.marks();
        let before = self.bytes.len();
        self.bytes
            .extend_from_slice(if self.events == 0 { open } else { between });
        self.format.write(item, self.credentials, &mut self.bytes);
        let bytes = self.bytes.len() + close.len();
        if bytes > self.limit {
            self.bytes.truncate(before);
            return Err(if self.events == 0 {
                Overflow::TooLarge {
                    bytes,
                    limit: self.limit,
                }
            } else {
                Overflow::Full
            });
        }
        self.events += 1;
        Ok(())
    }

    /// How many events.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Value of `Content-Type`.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.format.content_type(self.framing)
    }

    /// The finished body; without events nothing at all.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if self.events > 0 {
            let [_, _, close] = self.framing.marks();
            self.bytes.extend_from_slice(close);
        }
        self.bytes
    }
}
