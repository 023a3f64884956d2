//! Joins the EXECVE records of an event to the argument list.
//!
//! The kernel prints about 7,500 bytes of arguments per record, goes on in further records, and
//! splits a long argument into pieces `aN[0]`, `aN[1]`, … Each piece is quoted or hex on its own
//! (reference, section 15, EXECVE), so pieces are decoded one by one and their *bytes* joined: a
//! piece may end inside a multi-byte character.

use sha2::{Digest, Sha256};

use crate::fields::fields;
use crate::untrusted::append_untrusted;

/// Bytes of arguments that are kept, each argument counted with its NUL.
pub const KEPT_BYTES: usize = 64 * 1024;

/// The arguments of one exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argv {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Set if not all arguments are kept.
    pub truncated: Option<Truncation>,
    /// Set if the records do not hold what `argc` and the numbering promise: a record is lost.
    pub missing: bool,
}

/// What all arguments were, when only the first [`KEPT_BYTES`] are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Number of arguments.
    pub count: u64,
    /// Length of all arguments, each with one NUL behind it.
    pub bytes: u64,
    /// SHA-256 of all arguments, each followed by one NUL.
    pub sha256: [u8; 32],
}

/// Collects the records of one event, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Joiner {
    argv: Argv,
    argc: Option<u64>,
    /// Arguments seen, the open one included.
    count: u64,
    /// Bytes of all arguments with their NULs, the open one's NUL not yet included.
    total: u64,
    /// The argument that is being put together.
    open: bool,
    index: u64,
    next_piece: u64,
    missing: bool,
    /// Runs from the moment when something does not fit any more.
    overflow: Option<Sha256>,
    piece: Vec<u8>,
}

impl Argv {
    /// Number of kept arguments; the last may be cut.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Tells whether no argument is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The kept arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let argument = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            argument
        })
    }

    /// The kept arguments as a list of their own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Vec<u8>> {
        self.iter().map(<[u8]>::to_vec).collect()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.truncated = None;
        self.missing = false;
    }
}

impl Joiner {
    /// Makes an empty joiner.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the body of the next EXECVE record.
    pub fn push(&mut self, body: &[u8]) {
        for field in fields(body) {
            match Name::of(field.name) {
                Name::Argc => self.argc = self.argc.or(field.value.decimal()),
                Name::Length(index) => self.begin(index),
                Name::Whole(index) => {
                    self.begin(index);
                    self.append(&field.value);
                    self.end();
                }
                Name::Piece(index, piece) => {
                    if !(self.open && self.index == index) {
                        // Its `_len` record is lost: what comes is the rest of an argument.
                        self.begin(index);
                    }
                    self.missing |= piece != self.next_piece;
                    self.next_piece = piece.wrapping_add(1);
                    self.append(&field.value);
                }
                Name::Other => {}
            }
        }
    }

    /// Bytes of memory behind this joiner, to be counted against a limit.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.argv.bytes.capacity()
            + self.argv.ends.capacity() * size_of::<u32>()
            + self.piece.capacity()
            + size_of::<Self>()
    }

    /// Gives the arguments.
    #[must_use]
    pub fn finish(mut self) -> Argv {
        self.close();
        self.argv
    }

    /// Gives the arguments of one exec whose bodies are given, keeping the memory for the next.
    pub fn join<'a>(&mut self, bodies: impl Iterator<Item = &'a [u8]>) -> &Argv {
        self.argv.clear();
        self.argc = None;
        (self.count, self.total, self.index, self.next_piece) = (0, 0, 0, 0);
        (self.open, self.missing, self.overflow) = (false, false, None);
        bodies.for_each(|body| self.push(body));
        self.close();
        &self.argv
    }

    fn close(&mut self) {
        self.end();
        self.argv.missing = self.missing || self.argc.is_none_or(|argc| argc != self.count);
        if let Some(hash) = self.overflow.take() {
            self.argv.truncated = Some(Truncation {
                count: self.count,
                bytes: self.total,
                sha256: hash.finalize().into(),
            });
        }
    }

    fn begin(&mut self, index: u64) {
        self.end();
        self.missing |= index != self.count;
        self.open = true;
        self.index = index;
        self.next_piece = 0;
        self.count += 1;
    }

    fn append(&mut self, value: &crate::fields::Value<'_>) {
        if self.overflow.is_none() {
            let start = self.argv.bytes.len();
            append_untrusted(value, &mut self.argv.bytes);
            let length = self.argv.bytes.len() - start;
            self.total += length as u64;
            // The NUL of this argument has to fit as well.
            if self.total < KEPT_BYTES as u64 {
                return;
            }
            self.overflow();
            return;
        }
        let mut piece = std::mem::take(&mut self.piece);
        piece.clear();
        append_untrusted(value, &mut piece);
        self.total += piece.len() as u64;
        if let Some(hash) = &mut self.overflow {
            hash.update(&piece);
        }
        self.piece = piece;
    }

    /// Ends the open argument with its NUL.
    fn end(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.total += 1;
        if let Some(hash) = &mut self.overflow {
            hash.update([0]);
            return;
        }
        // At most KEPT_BYTES: fits.
        self.argv.ends.push(self.argv.bytes.len() as u32);
        if self.total > KEPT_BYTES as u64 {
            // Only an empty argument gets here: there is no room for its NUL.
            self.argv.ends.pop();
            let mut hash = self.hash_of_kept();
            hash.update([0]);
            self.overflow = Some(hash);
        }
    }

    /// Starts to hash, because the open argument does not fit; keeps of it what fits, up to the
    /// end of a character.
    fn overflow(&mut self) {
        let begin = self.argv.ends.last().map_or(0, |end| *end as usize);
        let mut hash = self.hash_of_kept();
        hash.update(self.argv.bytes.get(begin..).unwrap_or_default());
        self.overflow = Some(hash);
        // Room: what is kept of earlier arguments with their NULs, and this one's NUL.
        let room = KEPT_BYTES.saturating_sub(begin + self.argv.ends.len() + 1);
        let head = self.argv.bytes.get(begin..).unwrap_or_default();
        let keep = cut_at_character(head, room);
        self.argv.bytes.truncate(begin + keep);
        if keep > 0 {
            self.argv.ends.push((begin + keep) as u32);
        }
    }

    fn hash_of_kept(&self) -> Sha256 {
        let mut hash = Sha256::new();
        for argument in self.argv.iter() {
            hash.update(argument);
            hash.update([0]);
        }
        hash
    }
}

/// Gives the largest length up to `room` that does not cut a UTF-8 character in two.
pub(crate) fn cut_at_character(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    // A character has at most three continuation bytes; other bytes are cut anywhere.
    (room.saturating_sub(3)..=room)
        .rev()
        .find(|at| bytes.get(*at).is_none_or(|b| b & 0xc0 != 0x80))
        .unwrap_or(room)
}

/// What a field of an EXECVE record is.
enum Name {
    Argc,
    Whole(u64),
    Length(u64),
    Piece(u64, u64),
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        if name == b"argc" {
            return Self::Argc;
        }
        let Some(rest) = name.strip_prefix(b"a") else {
            return Self::Other;
        };
        let Some((index, rest)) = leading_number(rest) else {
            return Self::Other;
        };
        match rest {
            b"" => Self::Whole(index),
            b"_len" => Self::Length(index),
            _ => match rest.strip_prefix(b"[").and_then(leading_number) {
                Some((piece, b"]")) => Self::Piece(index, piece),
                _ => Self::Other,
            },
        }
    }
}

fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((crate::fields::Value::bare(number).decimal()?, rest))
}
