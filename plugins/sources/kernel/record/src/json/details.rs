//! The parts of `event_data` that go by record: paths, details, and the records themselves.

use super::text::{append_hex, escape, number};
use super::{DETAILS_LIMIT, EventWriter, Names, RECORDS_LIMIT, line_head, string};
use crate::event::Record;
use crate::kind::RecordType;

impl<N: Names + ?Sized> EventWriter<'_, '_, N> {
    /// `paths`: an object per PATH record.
    pub(super) fn paths(&mut self) {
        if !self.summary.has_path {
            return;
        }
        self.key("paths");
        let event = self.summary.event;
        let bodies = event
            .records()
            .filter(|record| record.kind == RecordType::PATH)
            .map(|record| Part::Body(record.body));
        self.list(bodies);
    }

    /// `msg` and `details`.
    pub(super) fn details(&mut self) {
        if let Some(message) = self.summary.message {
            let mark = self.writer.out.len();
            self.key("msg");
            self.writer.body(message, true);
            self.keep(mark, DETAILS_LIMIT);
        }
        let event = self.summary.event;
        let before = self.writer.out.len();
        self.key("details");
        self.plain(b"{");
        let start = self.writer.out.len();
        for (at, record) in event.records().enumerate() {
            let Some(part) = self.part(at, &record) else {
                continue;
            };
            let kind = record.kind;
            let same = |(_, other): &(usize, Record<'_>)| other.kind == kind;
            let shown_before = event
                .records()
                .enumerate()
                .take(at)
                .filter(same)
                .any(|(at, record)| self.part(at, &record).is_some());
            if shown_before {
                continue;
            }
            let mark = self.writer.out.len();
            if mark > start {
                self.plain(b",");
            }
            self.plain(b"\"");
            self.plain(kind.lower().as_bytes());
            self.plain(b"\":");
            let several = event
                .records()
                .enumerate()
                .skip(at + 1)
                .filter(same)
                .any(|(at, record)| self.part(at, &record).is_some());
            if several {
                let summary = self.summary;
                let parts = event
                    .records()
                    .enumerate()
                    .skip(at)
                    .filter(same)
                    .filter_map(|(at, record)| detail_of(summary, at, &record));
                self.list(parts);
            } else {
                self.one(part);
            }
            self.keep(mark, DETAILS_LIMIT);
        }
        if self.writer.out.len() == start {
            self.writer.out.truncate(before);
        } else {
            self.plain(b"}");
        }
    }

    /// `cut` to `unstamped`.
    pub(super) fn tail(&mut self, cut: &[&str], missing: bool) {
        if !cut.is_empty() {
            self.key("cut");
            super::strings(cut.iter().map(|name| name.as_bytes()), self.writer.out);
        }
        let records_cut = self.records();
        if self.writer.fields_cut {
            self.flag("fields_truncated");
        }
        let event = self.summary.event;
        let truncated = event.truncated.or_else(|| {
            records_cut.then(|| crate::event::Truncated {
                records: event.len() as u64,
                bytes: event.records().map(|record| record.payload.len() as u64).sum(),
            })
        });
        if let Some(truncated) = truncated {
            self.key("records_truncated");
            self.plain(b"{\"records\":");
            number(truncated.records, self.writer.out);
            self.plain(b",\"bytes\":");
            number(truncated.bytes, self.writer.out);
            self.plain(b"}");
        }
        if event.incomplete || missing || self.summary.paths_missing() {
            self.flag("incomplete");
        }
        if event.late {
            self.flag("late");
        }
        if event.unstamped {
            self.flag("unstamped");
        }
    }

    /// `records` and `records_hex`; tells whether some did not fit.
    fn records(&mut self) -> bool {
        let event = self.summary.event;
        self.key("records");
        self.plain(b"[");
        let start = self.writer.out.len();
        let (mut cut, mut shown) = (false, 0);
        // Bytes that records_hex will need.
        let mut hex = 0;
        for record in event.records() {
            let mark = self.writer.out.len();
            self.plain(if mark == start { b"\"" } else { b",\"" });
            line_head(record.kind, self.writer.out);
            let good = std::str::from_utf8(record.payload).is_ok();
            if good {
                escape(record.payload, self.writer.out);
                self.plain(b"\"");
            } else {
                // string() writes its own opening quote: take that away again.
                let at = self.writer.out.len();
                string(record.payload, self.writer.out);
                self.writer.out.remove(at);
            }
            hex += if good { 0 } else { record.payload.len() * 2 + 128 };
            if self.writer.out.len() + hex + 32 - self.start > RECORDS_LIMIT {
                self.writer.out.truncate(mark);
                cut = true;
                break;
            }
            shown += 1;
        }
        self.plain(b"]");
        if hex > 0 {
            self.records_hex(shown);
        }
        cut
    }

    /// Writes the hex of the shown lines that are not UTF-8.
    fn records_hex(&mut self, shown: usize) {
        self.key("records_hex");
        let mut brace: &[u8] = b"{\"";
        for (at, record) in self.summary.event.records().take(shown).enumerate() {
            if std::str::from_utf8(record.payload).is_ok() {
                continue;
            }
            self.plain(std::mem::replace(&mut brace, b",\""));
            number(at as u64, self.writer.out);
            self.plain(b"\":\"");
            self.writer.scratch.clear();
            line_head(record.kind, self.writer.scratch);
            append_hex(self.writer.scratch, self.writer.out);
            append_hex(record.payload, self.writer.out);
            self.plain(b"\"");
        }
        self.plain(b"}");
    }

    /// Writes a list of objects, each only if it fits.
    fn list<'p>(&mut self, parts: impl Iterator<Item = Part<'p>>) {
        self.plain(b"[");
        let start = self.writer.out.len();
        for part in parts {
            let mark = self.writer.out.len();
            if mark > start {
                self.plain(b",");
            }
            self.one(part);
            if !self.keep(mark, DETAILS_LIMIT) {
                break;
            }
        }
        self.plain(b"]");
    }

    fn one(&mut self, part: Part<'_>) {
        match part {
            Part::Main => {
                let summary = self.summary;
                self.writer.object(&summary.rest, false);
            }
            Part::Body(body) => self.writer.body(body, false),
        }
    }

    fn flag(&mut self, name: &str) {
        self.key(name);
        self.plain(b"true");
    }

    fn part<'r>(&self, at: usize, record: &Record<'r>) -> Option<Part<'r>> {
        detail_of(self.summary, at, record)
    }
}

/// What of a record belongs into the details.
enum Part<'r> {
    /// The fields of the main record that have no place of their own.
    Main,
    /// All fields.
    Body(&'r [u8]),
}

fn detail_of<'r>(summary: &crate::view::Summary<'_>, at: usize, record: &Record<'r>) -> Option<Part<'r>> {
    if matches!(record.kind, RecordType::EXECVE | RecordType::PATH) {
        return None;
    }
    let is_shown = [summary.cwd, summary.title, summary.saddr]
        .iter()
        .any(|sole| sole.is_some_and(|sole| sole.record == at));
    if is_shown {
        return None;
    }
    if summary.main == Some(at) {
        return (!summary.rest.is_empty()).then_some(Part::Main);
    }
    (!record.body.is_empty()).then_some(Part::Body(record.body))
}
