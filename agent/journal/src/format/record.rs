//! Record, commitment and leaf.

use sha2::{Digest, Sha256};

use super::{FormatError, MAX_FRAME, take};

/// Bytes of a prefix.
pub const PREFIX: usize = 34;
/// Bytes of a salt.
pub const SALT: usize = 16;
/// Bytes of a leaf: prefix and commitment.
pub const LEAF: usize = PREFIX + 32;
/// Bytes of a record around its payload: length, flags, prefix, salt.
pub const RECORD_HEAD: usize = 4 + 1 + PREFIX + SALT;
/// Bytes of an erased record.
pub const ERASED_RECORD: usize = 4 + 1 + LEAF;

const VERSION: u8 = 1;
const WHOLE: u8 = 0x00;
const ERASED: u8 = 0x01;

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Kind {
    /// An event that an application posted.
    Application = 1,
    /// An event of the kernel's audit subsystem.
    Kernel = 2,
    /// A verdict about an immudb server.
    Immudb = 3,
    /// An event about the agent itself.
    Agent = 4,
    /// What a source must remember; no sink sees it.
    State = 5,
}

impl Kind {
    /// The kind of a number on disk, `None` if it is not 1–5.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Application,
            2 => Self::Kernel,
            3 => Self::Immudb,
            4 => Self::Agent,
            5 => Self::State,
            _ => return None,
        })
    }
}

/// The fixed head of a record, and the half of a leaf that is in the clear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// UUIDv7; its time is `received_ns` in ms.
    pub event_id: [u8; 16],
    /// When the agent received it, in ns since the Unix epoch.
    pub received_ns: u64,
    /// What the record is about.
    pub kind: Kind,
    /// [`source_hash`] of the event source's name.
    pub source: [u8; 8],
}

impl Prefix {
    /// The 34 bytes on disk.
    pub fn encode(&self) -> [u8; PREFIX] {
        let mut out = [0; PREFIX];
        out[0] = VERSION;
        out[1..17].copy_from_slice(&self.event_id);
        out[17..25].copy_from_slice(&self.received_ns.to_be_bytes());
        out[25] = self.kind as u8;
        out[26..34].copy_from_slice(&self.source);
        out
    }

    /// Reads a prefix.
    ///
    /// # Errors
    /// Unknown version or kind.
    pub fn parse(bytes: &[u8; PREFIX]) -> Result<Self, FormatError> {
        let mut rest = bytes.as_slice();
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(FormatError::Version);
        }
        let event_id = take(&mut rest)?;
        let received_ns = u64::from_be_bytes(take(&mut rest)?);
        let [kind] = take(&mut rest)?;
        Ok(Self {
            event_id,
            received_ns,
            kind: Kind::from_u8(kind).ok_or(FormatError::Kind)?,
            source: take(&mut rest)?,
        })
    }
}

/// The first 8 bytes of SHA-256 of an event source's name.
pub fn source_hash(event_source: &str) -> [u8; 8] {
    let hash: [u8; 32] = Sha256::digest(event_source.as_bytes()).into();
    let mut out = [0; 8];
    out.copy_from_slice(&hash[..8]);
    out
}

/// SHA-256 of salt and payload.
pub fn commitment(salt: &[u8; SALT], payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(payload).finalize().into()
}

/// Prefix and commitment: the entry in the Merkle tree.
pub fn leaf(prefix: &[u8; PREFIX], commitment: &[u8; 32]) -> [u8; LEAF] {
    let mut out = [0; LEAF];
    out[..PREFIX].copy_from_slice(prefix);
    out[PREFIX..].copy_from_slice(commitment);
    out
}

/// RFC 6962 hash of a leaf: SHA-256 of a zero byte and the leaf.
pub fn leaf_hash(leaf: &[u8; LEAF]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// What stands behind a record's prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body<'a> {
    /// The record as it was written.
    Whole {
        /// Random bytes that keep the commitment from being guessed.
        salt: [u8; SALT],
        /// Canonical bytes of an event, or a state.
        payload: &'a [u8],
    },
    /// Only the commitment is left.
    Erased {
        /// SHA-256 of salt and payload.
        commitment: [u8; 32],
    },
}

/// A record, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Its head.
    pub prefix: Prefix,
    /// Its content.
    pub body: Body<'a>,
}

impl<'a> Record<'a> {
    /// Appends the bytes on disk.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.body {
            Body::Whole { salt, payload } => {
                let length = 1 + PREFIX + SALT + payload.len();
                out.extend_from_slice(&(length as u32).to_be_bytes());
                out.push(WHOLE);
                out.extend_from_slice(&self.prefix.encode());
                out.extend_from_slice(&salt);
                out.extend_from_slice(payload);
            }
            Body::Erased { commitment } => encode_erased(&self.prefix, &commitment, out),
        }
    }

    /// The payload, `None` once it was erased.
    pub fn payload(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::Whole { payload, .. } => Some(payload),
            Body::Erased { .. } => None,
        }
    }

    /// The record's entry in the Merkle tree; the same before and after erasure.
    pub fn leaf(&self) -> [u8; LEAF] {
        leaf(&self.prefix.encode(), &self.commitment())
    }

    /// SHA-256 of salt and payload.
    pub fn commitment(&self) -> [u8; 32] {
        match &self.body {
            Body::Whole { salt, payload } => commitment(salt, payload),
            Body::Erased { commitment } => *commitment,
        }
    }
}

/// Appends a record in its erased form.
pub fn encode_erased(prefix: &Prefix, commitment: &[u8; 32], out: &mut Vec<u8>) {
    out.extend_from_slice(&((1 + LEAF) as u32).to_be_bytes());
    out.push(ERASED);
    out.extend_from_slice(&prefix.encode());
    out.extend_from_slice(commitment);
}

/// Reads the record at the front of `input`; returns it with its length on disk.
///
/// # Errors
/// Cut short, a length outside the format, or an unknown version, kind or flag.
pub fn parse_record(input: &[u8]) -> Result<(Record<'_>, usize), FormatError> {
    let mut rest = input;
    let length = content_len(&mut rest)?;
    let mut content = rest.get(..length).ok_or(FormatError::Short)?;
    let [flags] = take(&mut content)?;
    let prefix = Prefix::parse(&take(&mut content)?)?;
    let body = match flags {
        WHOLE => Body::Whole {
            salt: take(&mut content)?,
            payload: content,
        },
        ERASED => {
            let commitment = take(&mut content)?;
            if !content.is_empty() {
                return Err(FormatError::Length);
            }
            Body::Erased { commitment }
        }
        _ => return Err(FormatError::Flags),
    };
    Ok((Record { prefix, body }, 4 + length))
}

/// Bytes of the record at the front of `input` by what its first four say; `None` where they say nothing sound.
pub(crate) fn record_len(input: &[u8]) -> Option<usize> {
    Some(4 + content_len(&mut { input }).ok()?)
}

/// Takes the length off the front of `rest`.
fn content_len(rest: &mut &[u8]) -> Result<usize, FormatError> {
    let length = u32::from_be_bytes(take(rest)?) as usize;
    if (1 + PREFIX..=MAX_FRAME).contains(&length) {
        Ok(length)
    } else {
        Err(FormatError::Length)
    }
}

/// The records that follow each other in `bytes`; ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
}

impl<'a> RecordIter<'a> {
    /// Iterates over `bytes`, which begin with a record or are empty.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match parse_record(self.rest) {
            Ok((record, length)) => {
                self.rest = self.rest.get(length..).unwrap_or_default();
                Some(Ok(record))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
