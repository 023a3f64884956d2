//! What an event says: who did what to what, and whether it worked.
//!
//! A [`Summary`] reads an event once and answers from there, borrowing. The main record is the
//! SYSCALL record, else the first one; only its first `pid=`, `uid=`, … count, because the text
//! of a user message may claim others.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::event::{Event, Record};
use crate::execve::{Argv, Joiner};
use crate::fields::{Field, Quote, Value, fields};
use crate::interpret;
use crate::kind::RecordType;
use crate::saddr;
use crate::table::{self, TOPS, Top};
use crate::untrusted::decode_untrusted;

mod path;
mod resource;

pub use path::Path;

/// Whether what was tried has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has.
    Success,
    /// It has not.
    Failure,
    /// The records do not say (`exit_group`, anomalies, plain messages).
    Unknown,
}

/// What an event says. See the module.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    pub(crate) event: &'a Event,
    /// Index of the main record.
    pub(crate) main: Option<usize>,
    pub(crate) top: [Option<Value<'a>>; TOPS],
    /// Fields of the main record beyond `top` and `message`, at most [`MAX_FIELDS`].
    pub(crate) rest: Rest<'a>,
    /// Text between the quotes of `msg='…'`.
    pub(crate) message: Option<&'a [u8]>,
    pub(crate) cwd: Option<Sole<'a>>,
    pub(crate) title: Option<Sole<'a>>,
    pub(crate) saddr: Option<Sole<'a>>,
    pub(crate) uring_key: Option<Value<'a>>,
    pub(crate) has_execve: bool,
    pub(crate) has_path: bool,
    /// A record has more fields than are decoded.
    pub(crate) fields_cut: bool,
}

/// Fields of one record that are decoded; EXECVE apart, no kernel writes a tenth of them.
pub(crate) const MAX_FIELDS: usize = 512;

pub(crate) type Rest<'a> = SmallVec<[Field<'a>; 16]>;

/// The only field of a record, and the record's index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sole<'a> {
    pub(crate) record: usize,
    pub(crate) value: Value<'a>,
}

/// Rule keys of an event.
pub type Keys<'a> = SmallVec<[Cow<'a, [u8]>; 2]>;

impl<'a> Summary<'a> {
    /// Reads an event.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        let mut summary = Self {
            event,
            main: None,
            top: [None; TOPS],
            rest: Rest::new(),
            message: None,
            cwd: None,
            title: None,
            saddr: None,
            uring_key: None,
            has_execve: false,
            has_path: false,
            fields_cut: false,
        };
        let mut first = None;
        for (at, record) in event.records().enumerate() {
            let sole = |name| sole(at, record.body, name);
            match record.kind {
                RecordType::SYSCALL => summary.main = summary.main.or(Some(at)),
                RecordType::EXECVE => summary.has_execve = true,
                RecordType::PATH => summary.has_path = true,
                RecordType::CWD => summary.cwd = summary.cwd.or_else(|| sole(b"cwd")),
                RecordType::PROCTITLE => {
                    summary.title = summary.title.or_else(|| sole(b"proctitle"));
                }
                RecordType::SOCKADDR => summary.saddr = summary.saddr.or_else(|| sole(b"saddr")),
                RecordType::URINGOP => {
                    let key = || fields(record.body).find(|field| field.name == b"key");
                    summary.uring_key = summary.uring_key.or_else(|| key().map(|field| field.value));
                }
                _ => {}
            }
            if record.kind != RecordType::EOE {
                first = first.or(Some(at));
            }
        }
        summary.has_execve |= event.argv.is_some();
        summary.main = summary.main.or(first);
        summary.read_main();
        summary
    }

    fn read_main(&mut self) {
        let Some(main) = self.main() else { return };
        // Arguments, paths and single values are read by those who show them.
        if matches!(main.kind, RecordType::EXECVE | RecordType::PATH)
            || [self.cwd, self.title, self.saddr]
                .iter()
                .any(|sole| sole.is_some_and(|sole| Some(sole.record) == self.main))
        {
            return;
        }
        for field in fields(main.body) {
            if field.value.quote == Quote::Single && self.message.is_none() {
                self.message = Some(field.value.text);
                continue;
            }
            if let Some(top) = table::info(field.name).top
                && let Some(place) = self.top.get_mut(top as usize)
                && place.is_none()
            {
                *place = Some(field.value);
            } else if self.rest.len() < MAX_FIELDS {
                self.rest.push(field);
            } else {
                self.fields_cut = true;
            }
        }
    }

    /// The event itself.
    #[must_use]
    pub const fn event(&self) -> &'a Event {
        self.event
    }

    /// The SYSCALL record, else the first one that is no EOE; `None` if there is none.
    #[must_use]
    pub fn main(&self) -> Option<Record<'a>> {
        self.main.and_then(|at| self.event.record(at))
    }

    /// Type of the main record; EOE if there is no other record.
    #[must_use]
    pub fn kind(&self) -> RecordType {
        self.main().map_or(RecordType::EOE, |record| record.kind)
    }

    /// The system call's name (`execve`, a number as text if unknown), else the main record's
    /// type in lower case (`user_login`).
    #[must_use]
    pub fn event_name(&self) -> Cow<'static, str> {
        let kind = self.kind();
        if kind == RecordType::SYSCALL
            && let Some(number) = self.syscall_number()
        {
            return interpret::syscall_text(self.arch().unwrap_or(0), number);
        }
        kind.lower()
    }

    /// Whether it worked.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if let Some(success) = self.top(Top::Success) {
            return outcome_of(success.text);
        }
        match self.kind() {
            // Its res=1 says that the record could be written, not that dying was a success.
            RecordType::ANOM_ABEND => return Outcome::Unknown,
            RecordType::SYSCALL => return Outcome::Unknown,
            _ => {}
        }
        let result = self.top(Top::Res).or_else(|| self.claimed(b"res"));
        if let Some(result) = result {
            return outcome_of(result.text);
        }
        let words = self
            .message
            .unwrap_or_else(|| self.main().map_or(b"", |main| main.body));
        if words.starts_with(b"avc: ") {
            let denied = memchr::memmem::find(words, b" denied ").is_some();
            return if denied { Outcome::Failure } else { Outcome::Success };
        }
        Outcome::Unknown
    }

    /// Architecture number, `AUDIT_ARCH_*`.
    #[must_use]
    pub fn arch(&self) -> Option<u32> {
        self.top(Top::Arch)?.hex().and_then(|arch| u32::try_from(arch).ok())
    }

    /// Number of the system call in its architecture.
    #[must_use]
    pub fn syscall_number(&self) -> Option<u32> {
        self.id(Top::Syscall)
    }

    /// Name of the system call; `None` if there is none or it has no name here.
    #[must_use]
    pub fn syscall_name(&self) -> Option<&'static str> {
        interpret::syscall_name(self.arch()?, self.syscall_number()?)
    }

    /// Process id (thread group).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.id(Top::Pid)
    }

    /// Process id of the parent.
    #[must_use]
    pub fn ppid(&self) -> Option<u32> {
        self.id(Top::Ppid)
    }

    /// Login user id; 4294967295 if unset.
    #[must_use]
    pub fn auid(&self) -> Option<u32> {
        self.id(Top::Auid)
    }

    /// User id.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.id(Top::Uid)
    }

    /// Group id.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.id(Top::Gid)
    }

    /// Effective user id.
    #[must_use]
    pub fn euid(&self) -> Option<u32> {
        self.id(Top::Euid)
    }

    /// Saved user id.
    #[must_use]
    pub fn suid(&self) -> Option<u32> {
        self.id(Top::Suid)
    }

    /// User id for file access.
    #[must_use]
    pub fn fsuid(&self) -> Option<u32> {
        self.id(Top::Fsuid)
    }

    /// Effective group id.
    #[must_use]
    pub fn egid(&self) -> Option<u32> {
        self.id(Top::Egid)
    }

    /// Saved group id.
    #[must_use]
    pub fn sgid(&self) -> Option<u32> {
        self.id(Top::Sgid)
    }

    /// Group id for file access.
    #[must_use]
    pub fn fsgid(&self) -> Option<u32> {
        self.id(Top::Fsgid)
    }

    /// Login session; 4294967295 if unset.
    #[must_use]
    pub fn ses(&self) -> Option<u32> {
        self.id(Top::Ses)
    }

    /// Result of the system call, −errno on failure; may be a pointer.
    #[must_use]
    pub fn exit(&self) -> Option<i64> {
        self.top(Top::Exit)?.signed()
    }

    /// System call argument 0 to 3.
    #[must_use]
    pub fn argument(&self, number: usize) -> Option<u64> {
        let top = *[Top::A0, Top::A1, Top::A2, Top::A3].get(number)?;
        self.top(top)?.hex()
    }

    /// Terminal; `(none)` without one.
    #[must_use]
    pub fn tty(&self) -> Option<&'a [u8]> {
        self.top(Top::Tty).map(|value| value.text)
    }

    /// Name of the thread, at most 15 bytes; its own choice.
    #[must_use]
    pub fn comm(&self) -> Option<Cow<'a, [u8]>> {
        self.top(Top::Comm).and_then(text_of)
    }

    /// Path of the executable, of the new one after an exec.
    #[must_use]
    pub fn exe(&self) -> Option<Cow<'a, [u8]>> {
        self.top(Top::Exe).and_then(text_of)
    }

    /// Working directory.
    #[must_use]
    pub fn cwd(&self) -> Option<Cow<'a, [u8]>> {
        self.cwd.and_then(|sole| text_of(sole.value))
    }

    /// Up to 128 bytes of the command line with NULs between arguments, writable by the process.
    #[must_use]
    pub fn proctitle(&self) -> Option<Cow<'a, [u8]>> {
        self.title.and_then(|sole| text_of(sole.value))
    }

    /// Keys of the rules that matched, in order, each once; those of an io_uring operation that
    /// the system call carried out too. Byte 1 separates keys within a field.
    #[must_use]
    pub fn keys(&self) -> Keys<'a> {
        let mut keys = Keys::new();
        for value in [self.top(Top::Key), self.uring_key].into_iter().flatten() {
            if let Some(text) = text_of(value) {
                split_keys(text, &mut keys);
            }
        }
        keys
    }

    /// Bytes of the socket address; decode them with [`saddr::decode`].
    #[must_use]
    pub fn saddr_bytes(&self) -> Option<Cow<'a, [u8]>> {
        self.saddr.and_then(|sole| text_of(sole.value))
    }

    /// The socket address as one text; see [`saddr::SockAddr::text`].
    #[must_use]
    pub fn saddr_text(&self) -> Option<Vec<u8>> {
        let bytes = self.saddr_bytes()?;
        saddr::decode(&bytes).text().map(Cow::into_owned)
    }

    /// The PATH records in order.
    pub fn paths(&self) -> impl Iterator<Item = Path<'a>> {
        self.event
            .records()
            .filter(|record| record.kind == RecordType::PATH)
            .map(|record| Path::of(record.body))
    }

    /// Whether PATH records of a system call are missing: SYSCALL counts more items than came. Calls of
    /// message queues are left out, since the kernel counts names there that it does not tell; so are
    /// events that were cut here.
    #[must_use]
    pub fn paths_missing(&self) -> bool {
        let Some(items) = self.top(Top::Items).and_then(|value| value.id()) else {
            return false;
        };
        items as usize > self.paths().count()
            && self.event.truncated.is_none()
            && !self.syscall_name().is_some_and(|name| name.starts_with("mq_"))
            && self.event.records().any(|record| record.kind == RecordType::SYSCALL)
    }

    /// Arguments of an exec; `None` if the event has no EXECVE record.
    #[must_use]
    pub fn argv(&self) -> Option<Argv> {
        self.event.argv(&mut Joiner::new()).cloned()
    }

    /// What it was done to; see [`mod@self`]: the executable of an exec (of a failed one the
    /// path that was tried), the peer of a network call, the path of a file call, else the
    /// executable that acted. `None` if nothing is named. Bytes, of any length.
    #[must_use]
    pub fn resource(&self) -> Option<Cow<'a, [u8]>> {
        resource::of(self)
    }

    /// A field that stands in the text of a user message: a claim of its sender.
    #[must_use]
    pub fn claimed(&self, name: &[u8]) -> Option<Value<'a>> {
        let message = self.message?;
        fields(message)
            .find(|field| field.name == name)
            .map(|field| field.value)
    }

    /// Any field of the main record that is none of the common ones: `op`, `list`, `dir`, …
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Value<'a>> {
        self.rest
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.value)
    }

    pub(crate) fn top(&self, top: Top) -> Option<Value<'a>> {
        self.top.get(top as usize).copied().flatten()
    }

    fn id(&self, top: Top) -> Option<u32> {
        self.top(top)?.id()
    }
}

/// Splits the bytes of a key field at byte 1; keeps each key once.
pub(crate) fn split_keys<'a>(bytes: Cow<'a, [u8]>, keys: &mut Keys<'a>) {
    /// Keys of an event; one rule has at most 256 bytes of them.
    const MAX_KEYS: usize = 1_024;
    let mut add = |key: Cow<'a, [u8]>| {
        if keys.len() < MAX_KEYS && !keys.contains(&key) {
            keys.push(key);
        }
    };
    match bytes {
        Cow::Borrowed(bytes) => bytes.split(|b| *b == 1).map(Cow::Borrowed).for_each(&mut add),
        Cow::Owned(bytes) => {
            bytes
                .split(|b| *b == 1)
                .map(|key| Cow::Owned(key.to_vec()))
                .for_each(&mut add);
        }
    }
}

/// Gives the value of a record that consists of one field with this name.
fn sole<'a>(record: usize, body: &'a [u8], name: &[u8]) -> Option<Sole<'a>> {
    let mut fields = fields(body);
    let field = fields.next().filter(|field| field.name == name)?;
    fields.next().is_none().then_some(Sole {
        record,
        value: field.value,
    })
}

/// Decodes an untrusted string; `None` for the kernel's `(null)`.
pub(crate) fn text_of(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    (!value.is_null()).then(|| match decode_untrusted(&value) {
        Cow::Borrowed(_) => Cow::Borrowed(value.text),
        Cow::Owned(bytes) => Cow::Owned(bytes),
    })
}

fn outcome_of(text: &[u8]) -> Outcome {
    match text {
        b"yes" | b"1" | b"success" => Outcome::Success,
        b"no" | b"0" | b"failed" | b"fail" | b"failure" => Outcome::Failure,
        _ => Outcome::Unknown,
    }
}
