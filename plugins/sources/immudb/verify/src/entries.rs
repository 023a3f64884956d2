//! Entries of a transaction: digests, the tree over them, values.

use crate::hash::{EntryDigest, Hash};
use crate::header::{HeaderVersion, TxHeader};
use crate::part::Part;
use crate::reason::Reason;
use crate::tree::Tree;
use crate::wire;

/// Digest of an entry, by the version of its transaction's header. The key is
/// the stored one, in pieces.
///
/// # Errors
/// Metadata in version 0, whose digest doesn't cover it; a key beyond 65,535 bytes.
pub(crate) fn digest(
    version: HeaderVersion,
    key: &[&[u8]],
    metadata: Option<&wire::KvMetadata>,
    h_value: &Hash,
) -> Result<EntryDigest, Reason> {
    let found = key.iter().map(|part| part.len()).sum();
    let key_length = u16::try_from(found).map_err(|_| Reason::KeyLength { found })?;
    let metadata = metadata.copied().unwrap_or_default();
    let (bytes, length) = metadata.encode();
    let [key, more] = match key {
        [key] => [*key, &[]],
        [key, more] => [*key, *more],
        _ => return Err(Reason::KeyLength { found }),
    };
    let hash = match version {
        HeaderVersion::V0 if length > 0 => return Err(Reason::EntryMetadata),
        HeaderVersion::V0 => Hash::of_parts(&[key, more, h_value.as_bytes()]),
        HeaderVersion::V1 => Hash::of_parts(&[
            &(length as u16).to_be_bytes(),
            &bytes[..length],
            &key_length.to_be_bytes(),
            key,
            more,
            h_value.as_bytes(),
        ]),
    };
    Ok(EntryDigest(hash))
}

impl wire::TxEntry<'_> {
    /// Digest of this entry in a transaction whose header has this version.
    ///
    /// # Errors
    /// `hValue` has not 32 bytes; metadata in version 0, whose digest doesn't
    /// cover it; a key beyond 65,535 bytes.
    pub fn digest(&self, version: HeaderVersion) -> Result<EntryDigest, Reason> {
        let h_value = Hash::received(Part::ValueHash, self.h_value)?;
        digest(version, &[self.key], self.metadata.as_ref(), &h_value)
    }

    /// Checks a stored value against this entry. That the entry itself is the
    /// transaction's is for [`TxHeader::verify_entries`] to say.
    ///
    /// # Errors
    /// The value has another hash or length.
    pub fn verify_value(&self, value: &[u8]) -> Result<(), Reason> {
        if Hash::of(value) != Hash::received(Part::ValueHash, self.h_value)? {
            return Err(Reason::ValueHash);
        }
        if i64::try_from(value.len()).is_ok_and(|length| length == i64::from(self.v_len)) {
            Ok(())
        } else {
            Err(Reason::ValueLength {
                expected: self.v_len.into(),
                found: value.len(),
            })
        }
    }
}

impl TxHeader {
    /// Checks that these are all entries of the transaction, in order.
    ///
    /// Says nothing about `vLen`, which no hash covers.
    ///
    /// # Errors
    /// They aren't.
    pub fn verify_entries(&self, entries: &[wire::TxEntry<'_>]) -> Result<(), Reason> {
        let (tx, expected, found) = (self.id(), self.nentries(), entries.len());
        if !u32::try_from(found).is_ok_and(|found| found == expected) {
            return Err(Reason::EntriesCount { tx, expected, found });
        }
        let mut tree = Tree::new();
        for entry in entries {
            tree.push(entry.digest(self.version())?.leaf());
        }
        if tree.root() == self.eh() {
            Ok(())
        } else {
            Err(Reason::Entries { tx })
        }
    }
}
