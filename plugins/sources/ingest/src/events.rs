//! Splits a body into events and checks each.

use auditmon_core::batch::{Batch, Rejected};
use auditmon_core::inbound::{Code, Inbound, Rejection};
use auditmon_core::time::Nanos;
use serde::Serialize;
use serde_json::value::RawValue;

/// How a body is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// One object, or an array of objects.
    Json,
    /// One object a line.
    Ndjson,
}

/// A fault of one event of a request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refused {
    /// Index among the request's events, from 0.
    pub(crate) index: u32,
    #[serde(flatten)]
    pub(crate) rejection: Rejection,
}

/// What came of a body.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Ids of the good events, in order.
    pub(crate) ids: Vec<uuid_text::Id>,
    /// Faults of the others.
    pub(crate) rejected: Vec<Refused>,
    /// How many events had faults.
    pub(crate) bad: u32,
    /// The body was one object, not a list.
    pub(crate) single: bool,
}

/// Ids as they stand in answers.
pub(crate) mod uuid_text {
    use serde::Serializer;

    /// An event's id.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Id(pub(crate) [u8; 36]);

    impl serde::Serialize for Id {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_str(std::str::from_utf8(&self.0).unwrap_or_default())
        }
    }
}

/// A fault of the body as a whole; nothing of it is stored.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum BodyFault {
    /// Not readable at all: 400.
    Malformed(String),
    /// More events than a request may have: 413.
    TooMany(u32),
    /// One frame of the journal can't hold it: 413.
    FrameFull,
}

/// Most faults that an answer lists; the others are counted.
const MAX_LISTED: usize = 1_000;

/// How many events a body holds at most, without reading it: lines, or opening braces.
pub(crate) fn at_most(body: &[u8], form: Form, max_events: u32) -> usize {
    let marks = match form {
        Form::Json => memchr::memchr_iter(b'{', body).take(max_events as usize).count(),
        Form::Ndjson => 1 + memchr::memchr_iter(b'\n', body).take(max_events as usize).count(),
    };
    marks.min(max_events as usize)
}

/// Reads all events of a body into a batch.
pub(crate) fn read(body: &[u8], form: Form, max_events: u32, batch: &mut Batch) -> Result<Outcome, BodyFault> {
    let mut reading = Reading {
        outcome: Outcome::default(),
        index: 0,
        max_events,
        now: batch.received(),
        batch,
    };
    match form {
        Form::Json => {
            let text = std::str::from_utf8(body).map_err(|error| {
                BodyFault::Malformed(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
            })?;
            match text.trim_ascii_start().as_bytes().first() {
                None => return Err(BodyFault::Malformed("the body is empty".to_owned())),
                Some(b'[') => reading.array(text)?,
                Some(_) => {
                    reading.outcome.single = true;
                    reading.one(text)?;
                    // A single object that is no JSON at all is a fault of the body.
                    if let Some(fault) = reading
                        .outcome
                        .rejected
                        .first()
                        .filter(|r| r.rejection.code == Code::Malformed)
                    {
                        return Err(BodyFault::Malformed(fault.rejection.message.clone()));
                    }
                }
            }
        }
        Form::Ndjson => reading.lines(body)?,
    }
    if reading.index == 0 {
        return Err(BodyFault::Malformed("the body holds no event".to_owned()));
    }
    Ok(reading.outcome)
}

struct Reading<'b> {
    outcome: Outcome,
    index: u32,
    max_events: u32,
    now: Nanos,
    batch: &'b mut Batch,
}

impl Reading<'_> {
    fn array(&mut self, text: &str) -> Result<(), BodyFault> {
        let items: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| BodyFault::Malformed(format!("the body is not valid JSON: {error}")))?;
        if items.len() > self.max_events as usize {
            return Err(BodyFault::TooMany(self.max_events));
        }
        items.into_iter().try_for_each(|item| self.one(item.get()))
    }

    fn lines(&mut self, body: &[u8]) -> Result<(), BodyFault> {
        // Checking the whole at once is much cheaper than line by line; only a bad body is looked at again.
        let text = std::str::from_utf8(body);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len())) {
            let line = match &text {
                Ok(text) => Ok(&text[start..end]),
                Err(_) => std::str::from_utf8(&body[start..end]),
            };
            start = end + 1;
            match line {
                Ok(line) if line.trim_ascii().is_empty() => {}
                Ok(line) => self.one(line)?,
                Err(error) => {
                    let message = format!("the line is not UTF-8 from its byte {} on", error.valid_up_to());
                    self.refuse(vec![Rejection::whole(Code::InvalidText, message)])?;
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, text: &str) -> Result<(), BodyFault> {
        let source = self.batch.event_source().to_owned();
        match Inbound::parse(text, &source, self.now) {
            Err(faults) => self.refuse(faults),
            Ok(event) => {
                self.count()?;
                match self.batch.push(event.draft(self.now)) {
                    Ok(id) => {
                        let mut text = [0; 36];
                        id.hyphenated().encode_lower(&mut text);
                        self.outcome.ids.push(uuid_text::Id(text));
                        Ok(())
                    }
                    Err(refused @ Rejected::TooLarge { .. }) => {
                        self.list(vec![refused.rejection()]);
                        Ok(())
                    }
                    Err(Rejected::Full(_)) => Err(BodyFault::FrameFull),
                }
            }
        }
    }

    fn count(&mut self) -> Result<(), BodyFault> {
        if self.index >= self.max_events {
            return Err(BodyFault::TooMany(self.max_events));
        }
        self.index += 1;
        Ok(())
    }

    fn refuse(&mut self, faults: Vec<Rejection>) -> Result<(), BodyFault> {
        self.count()?;
        self.list(faults);
        Ok(())
    }

    fn list(&mut self, faults: Vec<Rejection>) {
        self.outcome.bad += 1;
        let index = self.index - 1;
        let room = MAX_LISTED.saturating_sub(self.outcome.rejected.len());
        self.outcome.rejected.extend(
            faults
                .into_iter()
                .take(room)
                .map(|rejection| Refused { index, rejection }),
        );
    }
}
