//! Headers of transactions.

use crate::hash::{Alh, Hash, TreeSize, TxId, ZERO};
use crate::metadata::TxMetadata;
use crate::part::Part;
use crate::reason::Reason;
use crate::wire;

/// Which bytes of a header, and of its entries, are hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderVersion {
    /// Written up to 1.1: no metadata.
    V0,
    /// Written since 1.2.
    V1,
}

/// A header that can be hashed: every digest has 32 bytes, and no two headers
/// that differ have the same bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TxHeader {
    id: TxId,
    prev_alh: Alh,
    timestamp: i64,
    version: HeaderVersion,
    metadata: TxMetadata,
    nentries: u32,
    eh: Hash,
    tree_size: TreeSize,
    tree_root: Hash,
}

impl TxHeader {
    /// Checks the form of a received header.
    ///
    /// # Errors
    /// A digest of another length; an unknown version (inconclusive); a number
    /// of entries that the version can't hold; metadata on version 0; `extra`
    /// beyond 256 bytes; a tree that isn't older than the transaction; a root
    /// without a tree.
    pub fn new(received: &wire::TxHeader<'_>) -> Result<Self, Reason> {
        let id = TxId(received.id);
        let version = match received.version {
            0 => HeaderVersion::V0,
            1 => HeaderVersion::V1,
            version => return Err(Reason::HeaderVersion { tx: id, version }),
        };
        let metadata = match &received.metadata {
            Some(metadata) => TxMetadata::new(id, metadata)?,
            None => TxMetadata::default(),
        };
        let header = Self {
            id,
            prev_alh: Alh(Hash::received(Part::PrevAlh, received.prev_alh)?),
            timestamp: received.ts,
            version,
            metadata,
            nentries: u32::try_from(received.nentries).map_err(|_| Reason::Nentries {
                tx: id,
                nentries: received.nentries.into(),
            })?,
            eh: Hash::received(Part::EntriesRoot, received.eh)?,
            tree_size: TreeSize(received.bl_tx_id),
            tree_root: Hash::received(Part::TreeRoot, received.bl_root)?,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Reason> {
        let tx = self.id;
        let most = match self.version {
            HeaderVersion::V0 => u32::from(u16::MAX),
            HeaderVersion::V1 => i32::MAX.unsigned_abs(),
        };
        if self.nentries > most {
            let nentries = self.nentries.into();
            return Err(Reason::Nentries { tx, nentries });
        }
        if self.version == HeaderVersion::V0 && !self.metadata.is_empty() {
            return Err(Reason::MetadataVersion { tx });
        }
        if self.tree_size.0 >= tx.0 {
            let size = self.tree_size;
            return Err(Reason::TreeTooLarge { tx, size });
        }
        if self.tree_size == TreeSize(0) && self.tree_root != ZERO {
            return Err(Reason::NotZero { part: Part::TreeRoot });
        }
        Ok(())
    }

    /// Its transaction, at least 1.
    pub fn id(&self) -> TxId {
        self.id
    }

    /// Alh of the transaction before.
    pub fn prev_alh(&self) -> Alh {
        self.prev_alh
    }

    /// When it was written by the server's clock, in seconds since 1970.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Which bytes are hashed.
    pub fn version(&self) -> HeaderVersion {
        self.version
    }

    /// What it says beside its transaction.
    pub fn metadata(&self) -> &TxMetadata {
        &self.metadata
    }

    /// Number of entries.
    pub fn nentries(&self) -> u32 {
        self.nentries
    }

    /// Root of the tree of entries.
    pub fn eh(&self) -> Hash {
        self.eh
    }

    /// Leaves of the transaction tree that it commits to (`blTxId`); fewer than its id.
    pub fn tree_size(&self) -> TreeSize {
        self.tree_size
    }

    /// Root of that tree; zero if it has no leaves.
    pub fn tree_root(&self) -> Hash {
        self.tree_root
    }

    /// Whether its tree lacks transactions before it. Only 1.0.5 to 1.2.4
    /// wrote such headers.
    pub fn lags(&self) -> bool {
        self.tree_size.0 + 1 < self.id.0
    }

    /// Hash of all but id and predecessor.
    pub fn inner(&self) -> Hash {
        // Nearly every header has no metadata: then nothing is allocated.
        let mut metadata = Vec::new();
        self.metadata.encode(&mut metadata);
        let mut start = [0; 12];
        start[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        let mut tail = [0; 76];
        tail[..4].copy_from_slice(&self.nentries.to_be_bytes());
        tail[4..36].copy_from_slice(self.eh.as_bytes());
        tail[36..44].copy_from_slice(&self.tree_size.0.to_be_bytes());
        tail[44..].copy_from_slice(self.tree_root.as_bytes());
        match self.version {
            // The low 16 bits of the number of entries; it has no others.
            HeaderVersion::V0 => Hash::of_parts(&[&start[..10], &tail[2..]]),
            HeaderVersion::V1 => {
                start[9] = 1;
                start[10..].copy_from_slice(&(metadata.len() as u16).to_be_bytes());
                Hash::of_parts(&[&start, &metadata, &tail])
            }
        }
    }

    /// Hash of this transaction and all before it.
    pub fn alh(&self) -> Alh {
        self.prev_alh.then(self.id, &self.inner())
    }

    /// Appends the serialised form, as in an export: 124 bytes for version 0,
    /// 128 and the metadata for version 1.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0.to_be_bytes());
        out.extend_from_slice(self.prev_alh.0.as_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        match self.version {
            HeaderVersion::V0 => {
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&(self.nentries as u16).to_be_bytes());
            }
            HeaderVersion::V1 => {
                let mut metadata = Vec::new();
                self.metadata.encode(&mut metadata);
                out.extend_from_slice(&[0, 1]);
                out.extend_from_slice(&(metadata.len() as u16).to_be_bytes());
                out.extend_from_slice(&metadata);
                out.extend_from_slice(&self.nentries.to_be_bytes());
            }
        }
        out.extend_from_slice(self.eh.as_bytes());
        out.extend_from_slice(&self.tree_size.0.to_be_bytes());
        out.extend_from_slice(self.tree_root.as_bytes());
    }

    /// Reads the serialised form.
    ///
    /// # Errors
    /// As [`new`](Self::new), or the bytes are no header.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut rest = Bytes(bytes);
        let id = TxId(u64::from_be_bytes(rest.take()?));
        let prev_alh = Alh(Hash::from(rest.take()?));
        let timestamp = i64::from_be_bytes(rest.take()?);
        let (version, metadata, nentries) = match u16::from_be_bytes(rest.take()?) {
            0 => (
                HeaderVersion::V0,
                TxMetadata::default(),
                u16::from_be_bytes(rest.take()?).into(),
            ),
            1 => {
                let length = u16::from_be_bytes(rest.take()?);
                let metadata = TxMetadata::decode(rest.slice(length.into())?).ok_or(Reason::ExportForm)?;
                (HeaderVersion::V1, metadata, u32::from_be_bytes(rest.take()?))
            }
            version => {
                let version = version.into();
                return Err(Reason::HeaderVersion { tx: id, version });
            }
        };
        let header = Self {
            id,
            prev_alh,
            timestamp,
            version,
            metadata,
            nentries,
            eh: Hash::from(rest.take()?),
            tree_size: TreeSize(u64::from_be_bytes(rest.take()?)),
            tree_root: Hash::from(rest.take()?),
        };
        rest.end()?;
        header.check()?;
        Ok(header)
    }
}

/// Bytes to read from the front.
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Reason::ExportForm)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Reason::ExportForm)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn end(&self) -> Result<(), Reason> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Reason::ExportForm)
        }
    }
}
