//! An exported transaction: header, entries and values in one message.

use crate::entries::digest;
use crate::hash::Hash;
use crate::header::{Bytes, TxHeader};
use crate::reason::Reason;
use crate::tree::Tree;
use crate::wire::KvMetadata;

/// How entries are laid out, which depends on the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Up to 1.1: no metadata.
    UpTo1_1,
    /// Since 1.2.
    Since1_2,
}

/// An exported transaction. That its header is the transaction's is for its
/// Alh to say; [`verify_entries`](Self::verify_entries) ties the rest to it.
#[derive(Clone, Debug)]
pub struct Exported<'a> {
    header: TxHeader,
    entries: &'a [u8],
    layout: Layout,
    truncated: bool,
}

/// An entry of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportedEntry<'a> {
    /// The stored key.
    pub key: &'a [u8],
    /// What it says beside key and value.
    pub metadata: KvMetadata,
    /// The stored value; its hash if the transaction is truncated.
    pub value: &'a [u8],
}

impl<'a> Exported<'a> {
    /// Reads a whole message, without the eight bytes of its length.
    ///
    /// # Errors
    /// The bytes are no exported transaction of that layout, or its header has
    /// no valid form.
    pub fn decode(message: &'a [u8], layout: Layout) -> Result<Self, Reason> {
        let mut rest = Bytes(message);
        let length = slice32(&mut rest)?;
        let header = TxHeader::decode(length)?;
        let entries = rest.0;
        for _ in 0..header.nentries() {
            entry(&mut rest, layout)?;
        }
        let entries = &entries[..entries.len() - rest.0.len()];
        let truncated = match (layout, rest.0) {
            (_, []) | (Layout::Since1_2, [0, 1, 0]) => false,
            (Layout::Since1_2, [0, 1, 1]) => true,
            _ => return Err(Reason::ExportForm),
        };
        Ok(Self {
            header,
            entries,
            layout,
            truncated,
        })
    }

    /// Its header.
    pub fn header(&self) -> &TxHeader {
        &self.header
    }

    /// Whether the values are gone and their hashes stand in their places.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Its entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = ExportedEntry<'a>> + use<'a> {
        let (mut rest, layout) = (Bytes(self.entries), self.layout);
        std::iter::from_fn(move || entry(&mut rest, layout).ok())
    }

    /// Checks keys, values and metadata against the header.
    ///
    /// # Errors
    /// They aren't the transaction's.
    pub fn verify_entries(&self) -> Result<(), Reason> {
        let mut tree = Tree::new();
        for entry in self.entries() {
            let h_value = if self.truncated {
                let found: Result<[u8; 32], _> = entry.value.try_into();
                Hash::from(found.map_err(|_| Reason::ExportForm)?)
            } else {
                Hash::of(entry.value)
            };
            let digest = digest(self.header.version(), &[entry.key], Some(&entry.metadata), &h_value)?;
            tree.push(digest.leaf());
        }
        if tree.root() == self.header.eh() {
            Ok(())
        } else {
            Err(Reason::Entries { tx: self.header.id() })
        }
    }
}

/// Splits off the first message of an export stream's content; `None` while
/// it isn't whole. Whoever gathers the content bounds it.
pub fn split_message(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = content.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
}

fn slice32<'a>(rest: &mut Bytes<'a>) -> Result<&'a [u8], Reason> {
    let length = u32::from_be_bytes(rest.take()?);
    rest.slice(usize::try_from(length).map_err(|_| Reason::ExportForm)?)
}

fn slice16<'a>(rest: &mut Bytes<'a>) -> Result<&'a [u8], Reason> {
    let length = u16::from_be_bytes(rest.take()?);
    rest.slice(length.into())
}

fn entry<'a>(rest: &mut Bytes<'a>, layout: Layout) -> Result<ExportedEntry<'a>, Reason> {
    match layout {
        Layout::UpTo1_1 => {
            let lengths: [u8; 8] = rest.take()?;
            let [key, value] = [&lengths[..4], &lengths[4..]].map(|length| {
                let mut length = Bytes(length);
                length.take().map(u32::from_be_bytes)
            });
            let [key, value] = [key?, value?].map(|length| usize::try_from(length).map_err(|_| Reason::ExportForm));
            Ok(ExportedEntry {
                key: rest.slice(key?)?,
                metadata: KvMetadata::default(),
                value: rest.slice(value?)?,
            })
        }
        Layout::Since1_2 => {
            let key = slice16(rest)?;
            let metadata = KvMetadata::decode(slice16(rest)?).ok_or(Reason::ExportForm)?;
            let value = slice32(rest)?;
            Ok(ExportedEntry { key, metadata, value })
        }
    }
}
