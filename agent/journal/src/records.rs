//! What a source hands over at once.

use thiserror::Error;

use crate::commitments::are_worth;
use crate::format::{
    FRAME_HEAD, Kind, MAX_EVENTS, MAX_FRAME, MAX_STATES, PREFIX, Prefix, RECORD_HEAD, SALT, StateRecord, commitment,
    encode_state, leaf, leaf_hash, source_hash,
};

/// Why a record could not be added; the records are as they were before.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
pub enum PushError {
    /// The frame would be over [`MAX_FRAME`].
    #[error("more than 24 MiB in one frame")]
    Bytes,
    /// The frame would have over [`MAX_EVENTS`].
    #[error("more than 10,000 events in one frame")]
    Events,
    /// The frame would have over [`MAX_STATES`].
    #[error("more than 1,000 state records in one frame")]
    States,
    /// A state's key, expiry and value are over 64 KiB together.
    #[error("state longer than 64 KiB")]
    State,
    /// State records are the last of a frame: no event may follow.
    #[error("event behind a state record")]
    Order,
}

/// Records of one source, encoded and hashed on that source's thread; they
/// become one frame, wholly in the journal or wholly absent.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    events: u32,
    states: u32,
    /// Where the first state record begins.
    states_at: usize,
    leaf_hashes: Vec<[u8; 32]>,
    commitments: Vec<[u8; 32]>,
}

impl Records {
    /// No records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No records yet; `buffer` is emptied and its memory used.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            bytes: buffer,
            ..Self::default()
        }
    }

    /// Gives the memory back, emptied.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.bytes.clear();
        self.bytes
    }

    /// Adds an event; `write` appends its canonical bytes. `salt` must be 16
    /// fresh random bytes.
    ///
    /// # Errors
    /// A limit of the frame; nothing was added.
    pub fn push(
        &mut self,
        prefix: &Prefix,
        salt: [u8; SALT],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), PushError> {
        self.try_push(prefix, salt, |out| {
            write(out);
            Ok(())
        })
    }

    /// Adds an event as [`push`](Self::push) does; if `write` fails or a limit
    /// is passed, nothing was added.
    ///
    /// # Errors
    /// What `write` returned, or a limit of the frame.
    pub fn try_push<E: From<PushError>>(
        &mut self,
        prefix: &Prefix,
        salt: [u8; SALT],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.states > 0 {
            return Err(PushError::Order.into());
        }
        if self.events >= MAX_EVENTS {
            return Err(PushError::Events.into());
        }
        self.append(prefix, salt, write)?;
        self.events += 1;
        Ok(())
    }

    /// Adds a state of the plugin with this name; an empty `value` removes the
    /// key, an `expiry_ns` of 0 is never. Events can't follow.
    ///
    /// # Errors
    /// A limit of the frame or of a state; nothing was added.
    #[allow(clippy::too_many_arguments)] // a record has as many parts
    pub fn push_state(
        &mut self,
        plugin: &str,
        event_id: [u8; 16],
        received_ns: u64,
        salt: [u8; SALT],
        key: &[u8],
        expiry_ns: u64,
        value: &[u8],
    ) -> Result<(), PushError> {
        let prefix = Prefix {
            event_id,
            received_ns,
            kind: Kind::State,
            source: source_hash(plugin),
        };
        self.push_state_record(&prefix, salt, &StateRecord { key, expiry_ns, value })
    }

    /// Adds a state whose prefix is already made.
    pub(crate) fn push_state_record(
        &mut self,
        prefix: &Prefix,
        salt: [u8; SALT],
        state: &StateRecord<'_>,
    ) -> Result<(), PushError> {
        if self.states >= MAX_STATES {
            return Err(PushError::States);
        }
        let start = self.bytes.len();
        self.append(prefix, salt, |out| {
            encode_state(state, out).map_err(|_| PushError::State)
        })?;
        if self.states == 0 {
            self.states_at = start;
        }
        self.states += 1;
        Ok(())
    }

    fn append<E: From<PushError>>(
        &mut self,
        prefix: &Prefix,
        salt: [u8; SALT],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let prefix = prefix.encode();
        self.bytes.extend_from_slice(&[0; 5]);
        self.bytes.extend_from_slice(&prefix);
        self.bytes.extend_from_slice(&salt);
        let written = write(&mut self.bytes).and_then(|()| {
            if FRAME_HEAD + self.bytes.len() > MAX_FRAME || self.bytes.len() < start + RECORD_HEAD {
                return Err(PushError::Bytes.into());
            }
            Ok(())
        });
        if let Err(error) = written {
            self.bytes.truncate(start);
            return Err(error);
        }
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
        let payload = &self.bytes[start + RECORD_HEAD..];
        let commitment = commitment(&salt, payload);
        self.leaf_hashes.push(leaf_hash(&leaf(&prefix, &commitment)));
        self.commit(commitment);
        debug_assert_eq!(RECORD_HEAD, 5 + PREFIX + SALT);
        Ok(())
    }

    /// Number of events.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Number of state records.
    pub fn states(&self) -> u32 {
        self.states
    }

    /// Number of records: events and states.
    pub fn records(&self) -> u32 {
        self.events + self.states
    }

    /// Bytes of all records as they will be on disk, without the frame's head.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded records.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded state records.
    pub(crate) fn state_bytes(&self) -> &[u8] {
        if self.states == 0 {
            return &[];
        }
        self.bytes.get(self.states_at..).unwrap_or_default()
    }

    /// RFC 6962 leaf hash of every record, in order.
    pub fn leaf_hashes(&self) -> &[[u8; 32]] {
        &self.leaf_hashes
    }

    /// Keeps a record's commitment, or none if that isn't worth it.
    fn commit(&mut self, commitment: [u8; 32]) {
        let others = self.leaf_hashes.len() - 1;
        if self.commitments.len() == others {
            self.commitments.push(commitment);
            if !are_worth(self.commitments.len(), self.bytes.len()) {
                self.commitments = Vec::new();
            }
        }
    }

    /// SHA-256 of every record's salt and payload, in order, if they were worth keeping; they are so no more.
    pub(crate) fn take_commitments(&mut self) -> Vec<[u8; 32]> {
        let all = self.commitments.len() == self.leaf_hashes.len();
        let commitments = std::mem::take(&mut self.commitments);
        if all { commitments } else { Vec::new() }
    }

    /// The encoded records, which are here no more; their hashes stay.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records() == 0
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.leaf_hashes.clear();
        self.commitments.clear();
        self.events = 0;
        self.states = 0;
    }
}
