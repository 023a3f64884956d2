//! The `event_data` object of a kernel event, written straight into bytes.
//!
//! Members, in this order, absent where the event does not have them:
//!
//! * from the main record: `syscall` (name, else number as text), `arch`, `success`, `exit`,
//!   `exit_name` (errno of a failed call), `a0`…`a3` (hex text), `items`, `ppid`, `pid`, `auid`,
//!   `uid`, `gid`, `euid`, `suid`, `fsuid`, `egid`, `sgid`, `fsgid` (numbers, each with
//!   `<name>_name` if the caller knows it; 4294967295 is `unset`), `tty`, `ses`, `comm`, `exe`,
//!   `subj`, `res`;
//! * `keys`, `argv`, `argv_hex`, `argv_truncated`, `cwd`, `paths` (an object per PATH record),
//!   `saddr` (an object), `proctitle` (arguments separated by spaces);
//! * `msg`: the fields in the text of a user message, apart from the trusted ones;
//! * `details`: every other field of every record, under the record type in lower case; an
//!   object, or a list of objects if the event has several records of the type. Words without
//!   `=` stand under `words`. A name that a record repeats has a list of its values;
//! * `cut`, `fields_truncated` (not all fields are shown), `records`, `records_hex`,
//!   `records_truncated` (`records`, `bytes`: how many there were), `incomplete`, `late`,
//!   `unstamped` (true, else absent).
//!
//! Strings that are not UTF-8 are shown with U+FFFD, and `<name>_hex` holds all bytes. No object
//! has a name twice; depth is at most 5; the whole stays below 1 MiB less 64 KiB.

use crate::execve::Joiner;
use crate::fields::Value;
use crate::interpret;
use crate::kind::RecordType;
use crate::saddr::{self, SockAddr};
use crate::table::{Kind, Top};
use crate::untrusted::append_untrusted;
use crate::view::Summary;

use self::object::{Writer, hex_by_index, id_name, not_utf8, strings};
use self::text::{append_hex, is_number, number};

mod address;
mod details;
mod object;
mod text;

pub use text::string;

/// Names of users and groups, as far as they are known without waiting.
pub trait Names {
    /// Name of a user.
    fn user(&self, id: u32) -> Option<&str>;
    /// Name of a group.
    fn group(&self, id: u32) -> Option<&str>;
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn user(&self, _: u32) -> Option<&str> {
        None
    }

    fn group(&self, _: u32) -> Option<&str> {
        None
    }
}

/// Writes events; keeps memory for the next one.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    joiner: Joiner,
    scratch: Vec<u8>,
}

/// Bytes of the single members before the arguments. The arguments themselves cannot pass
/// 608 KiB: 64 KiB of them, at worst every second byte an argument that needs hex.
const TOP_LIMIT: usize = 256 << 10;
/// Bytes up to which details and paths are written.
const DETAILS_LIMIT: usize = 900 << 10;
/// Bytes up to which records are written; what follows them needs some hundred bytes.
const RECORDS_LIMIT: usize = 958 << 10;

impl Encoder {
    /// Makes an encoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the `event_data` of an event. `cut` names members of the envelope that the
    /// caller had to cut; they are listed under `cut`.
    pub fn event_data<N: Names + ?Sized>(&mut self, summary: &Summary<'_>, names: &N, cut: &[&str], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'{');
        let writer = Writer {
            out,
            names,
            scratch: &mut self.scratch,
            fields_cut: summary.fields_cut,
        };
        let mut event = EventWriter { start, summary, writer };
        event.main_members();
        let missing = event.arguments(&mut self.joiner);
        event.single_members();
        event.details();
        event.tail(cut, missing);
        out.push(b'}');
    }
}

/// Writes one event; `start` is where its brace stands.
struct EventWriter<'w, 's, N: Names + ?Sized> {
    start: usize,
    summary: &'w Summary<'s>,
    writer: Writer<'w, N>,
}

impl<N: Names + ?Sized> EventWriter<'_, '_, N> {
    fn main_members(&mut self) {
        self.call();
        self.text(Top::Success, "success");
        self.exit();
        for (top, name) in [(Top::A0, "a0"), (Top::A1, "a1"), (Top::A2, "a2"), (Top::A3, "a3")] {
            self.text(top, name);
        }
        for (top, name) in [(Top::Items, "items"), (Top::Ppid, "ppid"), (Top::Pid, "pid")] {
            self.number(top, name);
        }
        for (top, name, kind) in IDS {
            self.id(*top, name, *kind);
        }
        self.text(Top::Tty, "tty");
        self.number(Top::Ses, "ses");
        for (top, name) in [(Top::Comm, "comm"), (Top::Exe, "exe")] {
            if let Some(value) = self.summary.top(top) {
                self.untrusted(name, &value);
            }
        }
        self.text(Top::Subj, "subj");
        self.text(Top::Res, "res");
        self.keys();
    }

    /// `syscall` and `arch`.
    fn call(&mut self) {
        let summary = self.summary;
        if let Some(value) = summary.top(Top::Syscall) {
            match summary.syscall_name() {
                Some(name) => {
                    self.key("syscall");
                    self.quoted(name);
                }
                None => self.string("syscall", value.text),
            }
        }
        if let Some(value) = summary.top(Top::Arch) {
            match summary.arch().and_then(interpret::arch_name) {
                Some(name) => {
                    self.key("arch");
                    self.quoted(name);
                }
                None => self.string("arch", value.text),
            }
        }
    }

    fn exit(&mut self) {
        self.number(Top::Exit, "exit");
        let failed = self.summary.top(Top::Success).is_some_and(|value| value.text == b"no");
        let errno = self.summary.exit().filter(|_| failed).and_then(i64::checked_neg);
        let name = errno
            .and_then(|n| u32::try_from(n).ok())
            .and_then(interpret::errno_name);
        if let Some(name) = name {
            self.key("exit_name");
            self.quoted(name);
        }
    }

    fn keys(&mut self) {
        let keys = self.summary.keys();
        if keys.is_empty() && self.summary.top(Top::Key).is_none() {
            return;
        }
        let mark = self.writer.out.len();
        self.key("keys");
        let list = || keys.iter().map(AsRef::as_ref);
        if !strings(list(), self.writer.out) {
            self.key("keys_hex");
            hex_by_index(not_utf8(list()), self.writer.out);
        }
        self.keep(mark, TOP_LIMIT);
    }

    /// `argv` and what belongs to it; tells whether records of it are missing.
    fn arguments(&mut self, joiner: &mut Joiner) -> bool {
        if !self.summary.has_execve {
            return false;
        }
        let Some(argv) = self.summary.event.argv(joiner) else {
            return false;
        };
        self.key("argv");
        if !strings(argv.iter(), self.writer.out) {
            self.key("argv_hex");
            hex_by_index(not_utf8(argv.iter()), self.writer.out);
        }
        if let Some(truncated) = argv.truncated {
            self.key("argv_truncated");
            self.plain(b"{\"count\":");
            number(truncated.count, self.writer.out);
            self.plain(b",\"bytes\":");
            number(truncated.bytes, self.writer.out);
            self.plain(b",\"sha256\":\"");
            append_hex(&truncated.sha256, self.writer.out);
            self.plain(b"\"}");
        }
        argv.missing
    }

    fn single_members(&mut self) {
        if let Some(cwd) = self.summary.cwd {
            self.untrusted("cwd", &cwd.value);
        }
        self.paths();
        if let Some(saddr) = self.summary.saddr {
            self.address(&saddr.value);
        }
        if let Some(title) = self.summary.title {
            self.title(&title.value);
        }
    }

    fn address(&mut self, value: &Value<'_>) {
        self.key("saddr");
        self.writer.scratch.clear();
        append_untrusted(value, self.writer.scratch);
        let address: SockAddr<'_> = saddr::decode(self.writer.scratch);
        address::write(&address, self.writer.out);
    }

    /// The command line with spaces for NULs, as people read it; the record has the bytes.
    fn title(&mut self, value: &Value<'_>) {
        if value.is_null() {
            return self.untrusted("proctitle", value);
        }
        let mark = self.writer.out.len();
        self.key("proctitle");
        self.writer.scratch.clear();
        append_untrusted(value, self.writer.scratch);
        for byte in self.writer.scratch.iter_mut().filter(|byte| **byte == 0) {
            *byte = b' ';
        }
        if !string(self.writer.scratch, self.writer.out) {
            self.writer.scratch.clear();
            append_untrusted(value, self.writer.scratch);
            self.hex_of_scratch("proctitle");
        }
        self.keep(mark, DETAILS_LIMIT);
    }

    fn id(&mut self, top: Top, name: &str, kind: Kind) {
        let Some(value) = self.summary.top(top) else {
            return;
        };
        let Some(id) = value.id() else {
            return self.string(name, value.text);
        };
        self.key(name);
        number(u64::from(id), self.writer.out);
        if let Some(text) = id_name(self.writer.names, kind, id) {
            self.plain(b",\"");
            self.plain(name.as_bytes());
            self.plain(b"_name\":");
            string(text.as_bytes(), self.writer.out);
        }
    }

    fn number(&mut self, top: Top, name: &str) {
        let Some(value) = self.summary.top(top) else {
            return;
        };
        if is_number(&value) {
            self.key(name);
            self.plain(value.text);
        } else {
            self.string(name, value.text);
        }
    }

    fn text(&mut self, top: Top, name: &str) {
        if let Some(value) = self.summary.top(top) {
            self.string(name, value.text);
        }
    }

    fn string(&mut self, name: &str, text: &[u8]) {
        let mark = self.writer.out.len();
        self.key(name);
        if !string(text, self.writer.out) {
            self.writer.scratch.clear();
            self.writer.scratch.extend_from_slice(text);
            self.hex_of_scratch(name);
        }
        self.keep(mark, TOP_LIMIT);
    }

    fn untrusted(&mut self, name: &str, value: &Value<'_>) {
        let mark = self.writer.out.len();
        self.key(name);
        if value.is_null() {
            return self.plain(b"null");
        }
        self.writer.scratch.clear();
        append_untrusted(value, self.writer.scratch);
        if !string(self.writer.scratch, self.writer.out) {
            self.hex_of_scratch(name);
        }
        self.keep(mark, if name == "cwd" { DETAILS_LIMIT } else { TOP_LIMIT });
    }

    fn hex_of_scratch(&mut self, name: &str) {
        self.plain(b",\"");
        self.plain(name.as_bytes());
        self.plain(b"_hex\":\"");
        append_hex(self.writer.scratch, self.writer.out);
        self.plain(b"\"");
    }

    /// Takes back what was written since `mark` if the event is over the limit.
    fn keep(&mut self, mark: usize, limit: usize) -> bool {
        let fits = self.writer.out.len() - self.start <= limit;
        if !fits {
            self.writer.out.truncate(mark);
            self.writer.fields_cut = true;
        }
        fits
    }

    /// Starts a member of the event.
    fn key(&mut self, name: &str) {
        if self.writer.out.len() > self.start + 1 {
            self.writer.out.push(b',');
        }
        key_of(name.as_bytes(), self.writer.out);
    }

    /// Writes a name from our own tables, in which nothing needs an escape.
    fn quoted(&mut self, text: &str) {
        self.plain(b"\"");
        self.plain(text.as_bytes());
        self.plain(b"\"");
    }

    fn plain(&mut self, text: &[u8]) {
        self.writer.out.extend_from_slice(text);
    }
}

/// Appends the start of a member. Names of fields consist of letters, digits, `_-[]`.
fn key_of(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

/// Appends what stands before the payload in audit files.
fn line_head(kind: RecordType, out: &mut Vec<u8>) {
    out.extend_from_slice(b"type=");
    match kind.known_name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => out.extend_from_slice(kind.name().as_bytes()),
    }
    out.extend_from_slice(b" msg=");
}

const IDS: &[(Top, &str, Kind)] = &[
    (Top::Auid, "auid", Kind::User),
    (Top::Uid, "uid", Kind::User),
    (Top::Gid, "gid", Kind::Group),
    (Top::Euid, "euid", Kind::User),
    (Top::Suid, "suid", Kind::User),
    (Top::Fsuid, "fsuid", Kind::User),
    (Top::Egid, "egid", Kind::Group),
    (Top::Sgid, "sgid", Kind::Group),
    (Top::Fsgid, "fsgid", Kind::Group),
];
