//! Metadata of transactions and entries, in the bytes that are hashed.
//!
//! Attributes stand in the order of their codes, each at most once.

use crate::hash::TxId;
use crate::reason::Reason;
use crate::wire;

/// Most bytes of `extra`.
pub const MAX_EXTRA: usize = 256;

/// Most bytes of a transaction's metadata.
pub const MAX_TX_METADATA: usize = 9 + 3 + MAX_EXTRA;

/// Most bytes of an entry's metadata.
pub const MAX_KV_METADATA: usize = 11;

const TRUNCATED: u8 = 0;
const EXTRA: u8 = 1;
const DELETED: u8 = 0;
const EXPIRES: u8 = 1;
const NON_INDEXABLE: u8 = 2;

/// What a header says beside its transaction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TxMetadata {
    truncated: TxId,
    extra: Vec<u8>,
}

impl TxMetadata {
    pub(crate) fn new(tx: TxId, received: &wire::TxMetadata<'_>) -> Result<Self, Reason> {
        let found = received.extra.len();
        if found > MAX_EXTRA {
            return Err(Reason::ExtraLength { tx, found });
        }
        Ok(Self {
            truncated: TxId(received.truncated_tx_id),
            extra: received.extra.to_vec(),
        })
    }

    /// Values of all transactions below this one may have been deleted.
    pub fn truncated(&self) -> Option<TxId> {
        (self.truncated != TxId(0)).then_some(self.truncated)
    }

    /// Free bytes, at most [`MAX_EXTRA`]; empty if there are none. With
    /// `--log-request-metadata` the user and address of the writer.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// Whether there are no attributes: then there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.truncated == TxId(0) && self.extra.is_empty()
    }

    /// Appends the hashed bytes, at most [`MAX_TX_METADATA`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(tx) = self.truncated() {
            out.push(TRUNCATED);
            out.extend_from_slice(&tx.0.to_be_bytes());
        }
        if let Ok(length @ 1..) = u16::try_from(self.extra.len()) {
            out.push(EXTRA);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&self.extra);
        }
    }

    /// Reads the hashed bytes; `None` unless they are in the one spelling.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut metadata = Self::default();
        let mut rest = bytes;
        if let Some((&TRUNCATED, behind)) = rest.split_first() {
            let (id, behind) = behind.split_first_chunk()?;
            metadata.truncated = TxId(u64::from_be_bytes(*id));
            metadata.truncated()?;
            rest = behind;
        }
        if let Some((&EXTRA, behind)) = rest.split_first() {
            let (length, behind) = behind.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            if !(1..=MAX_EXTRA).contains(&length) {
                return None;
            }
            let (extra, behind) = behind.split_at_checked(length)?;
            metadata.extra = extra.to_vec();
            rest = behind;
        }
        rest.is_empty().then_some(metadata)
    }
}

impl wire::KvMetadata {
    /// Whether there are no attributes: then there are no bytes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The hashed bytes and how many of them count.
    pub fn encode(&self) -> ([u8; MAX_KV_METADATA], usize) {
        let mut out = [0; MAX_KV_METADATA];
        let mut length = 0;
        if self.deleted {
            out[0] = DELETED;
            length = 1;
        }
        if let Some(seconds) = self.expires_at {
            out[length] = EXPIRES;
            out[length + 1..length + 9].copy_from_slice(&seconds.to_be_bytes());
            length += 9;
        }
        if self.non_indexable {
            out[length] = NON_INDEXABLE;
            length += 1;
        }
        (out, length)
    }

    /// Reads the hashed bytes; `None` unless they are in the one spelling.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut metadata = Self::default();
        let mut rest = bytes;
        if let Some((&DELETED, behind)) = rest.split_first() {
            metadata.deleted = true;
            rest = behind;
        }
        if let Some((&EXPIRES, behind)) = rest.split_first() {
            let (seconds, behind) = behind.split_first_chunk()?;
            metadata.expires_at = Some(i64::from_be_bytes(*seconds));
            rest = behind;
        }
        if let Some((&NON_INDEXABLE, behind)) = rest.split_first() {
            metadata.non_indexable = true;
            rest = behind;
        }
        rest.is_empty().then_some(metadata)
    }
}
