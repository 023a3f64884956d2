//! What the writer and its readers share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auditmon_merkle::{Ed25519Signer, Tiler};
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{Alarm, SignedCheckpoint};
use crate::collapse::Collapsed;
use crate::commitments::Commitments;
use crate::find::Span;
use crate::fs::Fs;
use crate::layout::Layout;
use crate::options::PauseReason;
use crate::recent::Recent;
use crate::tree::Tree;

/// A segment whose payloads are on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first_seq: u64,
    pub(crate) path: PathBuf,
    /// Offset behind the last byte that readers may look at; `u64::MAX` is the
    /// end of the file.
    pub(crate) end: AtomicU64,
    /// Bytes on disk.
    pub(crate) bytes: AtomicU64,
    /// When the newest record was received; 0 is not known yet.
    pub(crate) newest_ns: AtomicU64,
    /// Seqs at some frames' offsets, so that readers need not walk from the front.
    pub(crate) index: Mutex<Vec<(u64, u64)>>,
}

impl Segment {
    pub(crate) fn new(first_seq: u64, path: PathBuf, end: u64, bytes: u64) -> Self {
        Self {
            first_seq,
            path,
            end: AtomicU64::new(end),
            bytes: AtomicU64::new(bytes),
            newest_ns: AtomicU64::new(0),
            index: Mutex::new(Vec::new()),
        }
    }

    /// Bytes that readers may look at.
    pub(crate) fn used(&self) -> u64 {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.end.load(Ordering::Acquire).min(bytes)
    }

    /// Remembers a frame's place, at most one each 256 KiB.
    pub(crate) fn note_frame(&self, seq: u64, offset: u64) {
        let mut index = self.index.lock();
        if index.last().is_none_or(|(_, last)| offset - last >= 256 << 10) {
            index.push((seq, offset));
        }
    }

    /// Bytes in front of `seq`, estimated between the frames around it whose places are known; `next_seq` is that
    /// behind the last record.
    pub(crate) fn bytes_before(&self, seq: u64, next_seq: u64) -> u64 {
        let used = match self.end.load(Ordering::Acquire) {
            u64::MAX => self.bytes.load(Ordering::Relaxed),
            end => end,
        };
        let index = self.index.lock();
        let behind = index.partition_point(|(first, _)| *first <= seq);
        let before = behind.checked_sub(1).and_then(|at| index.get(at)).copied();
        let (low_seq, low) = before.unwrap_or((self.first_seq, 0));
        let (high_seq, high) = index.get(behind).copied().unwrap_or((next_seq, used));
        let records = u128::from(high_seq.saturating_sub(low_seq).max(1));
        let share =
            u128::from(high.saturating_sub(low)) * u128::from(seq.saturating_sub(low_seq).min(high_seq)) / records;
        low.saturating_add(u64::try_from(share).unwrap_or(u64::MAX)).min(used)
    }

    /// A frame's seq and offset at or before `seq`.
    pub(crate) fn nearest(&self, seq: u64) -> Option<(u64, u64)> {
        let index = self.index.lock();
        let behind = index.partition_point(|(first, _)| *first <= seq);
        index.get(behind.checked_sub(1)?).copied()
    }
}

/// From where on a sink needs payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) seq: u64,
    /// Gives way where the journal or the volume is full.
    pub(crate) yields: bool,
}

/// Counts for metrics; all only grow.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Frames on disk since start, marks left out.
    pub frames: u64,
    /// Records on disk since start.
    pub records: u64,
    /// Syncs of frames that succeeded.
    pub syncs: u64,
    /// Writes or syncs that failed.
    pub failed_syncs: u64,
    /// Time in successful syncs.
    pub sync_time: Duration,
    /// Successful syncs by duration, not cumulated; one for each of
    /// [`SYNC_BUCKETS`] and one above.
    pub sync_buckets: [u64; SYNC_BUCKETS.len() + 1],
    /// Checkpoints signed and stored.
    pub checkpoints: u64,
    /// Checkpoints that could not be stored; each was tried again.
    pub failed_checkpoints: u64,
}

/// Upper bounds of the buckets of sync durations, in µs.
pub const SYNC_BUCKETS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
];

/// The segment that holds a seq, or what stands in its place.
pub(crate) enum Located {
    /// In this segment, which ends before the seq beside it.
    In(Arc<Segment>, u64),
    /// Not here: the next payload has this seq.
    Gone(u64),
}

pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) layout: Layout,
    pub(crate) origin: String,
    durable: AtomicU64,
    /// Leaf hash of the record before `durable`, with that seq.
    pub(crate) last_leaf: Mutex<(u64, Option<[u8; 32]>)>,
    pub(crate) segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Records in each `.leaf`, by first seq.
    pub(crate) leaves: RwLock<BTreeMap<u64, u64>>,
    /// What has become of older leaves.
    pub(crate) collapsed: Mutex<Collapsed>,
    /// What is known of the ids in each `.leaf`, by first seq.
    pub(crate) spans: Mutex<BTreeMap<u64, Span>>,
    pub(crate) holds: Mutex<BTreeMap<String, Hold>>,
    pub(crate) metrics: Mutex<Metrics>,
    pub(crate) paused: Mutex<Option<PauseReason>>,
    /// Over the records that are on disk.
    pub(crate) tree: Mutex<Tree>,
    /// Of records that are on disk in segments that aren't sealed.
    pub(crate) commitments: Mutex<Commitments>,
    /// The newest records that are on disk.
    pub(crate) recent: Mutex<Recent>,
    /// Held while tiles are written.
    pub(crate) tile_writer: Mutex<()>,
    /// The newest checkpoint that is on disk.
    pub(crate) checkpoint: RwLock<Option<Arc<SignedCheckpoint>>>,
    /// Keys that sign, the current one first; none where it could not be made.
    pub(crate) keys: Mutex<Vec<Ed25519Signer>>,
    /// Of the thread that signs.
    pub(crate) alarm: Arc<Alarm>,
}

impl Shared {
    pub(crate) fn new(fs: Arc<dyn Fs>, layout: Layout, origin: String) -> Self {
        Self {
            fs,
            layout,
            origin,
            durable: AtomicU64::new(0),
            last_leaf: Mutex::new((0, None)),
            segments: RwLock::default(),
            leaves: RwLock::default(),
            collapsed: Mutex::default(),
            spans: Mutex::default(),
            holds: Mutex::default(),
            metrics: Mutex::default(),
            paused: Mutex::default(),
            tree: Mutex::new(Tree::new(Tiler::new())),
            commitments: Mutex::default(),
            recent: Mutex::default(),
            tile_writer: Mutex::default(),
            checkpoint: RwLock::default(),
            keys: Mutex::default(),
            alarm: Arc::default(),
        }
    }

    /// The newest checkpoint that is on disk.
    pub(crate) fn checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.checkpoint.read().clone()
    }

    /// All records below are on disk.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable(&self, seq: u64) {
        self.durable.store(seq, Ordering::Release);
    }

    /// Seq that the slowest durable sink wants next; without those that yield if `full`.
    pub(crate) fn lowest_hold(&self, full: bool) -> u64 {
        let holds = self.holds.lock();
        let counting = holds.values().filter(|hold| !(full && hold.yields));
        counting.map(|hold| hold.seq).min().unwrap_or(u64::MAX)
    }

    /// Sets or lifts a hold.
    pub(crate) fn set_hold(&self, name: &str, hold: Option<Hold>) {
        let mut holds = self.holds.lock();
        match hold {
            Some(hold) => match holds.get_mut(name) {
                Some(held) => *held = hold,
                None => {
                    holds.insert(name.to_owned(), hold);
                }
            },
            None => {
                holds.remove(name);
            }
        }
    }

    /// Where `seq` is, `seq < durable`. Leaves too say where a segment began,
    /// and so where the one before it ended.
    pub(crate) fn locate(&self, seq: u64, durable: u64) -> Located {
        let segments = self.segments.read();
        let leaves = self.leaves.read();
        let behind = seq.saturating_add(1)..;
        let next_segment = segments
            .range(behind.clone())
            .next()
            .map_or(durable, |(first, _)| (*first).min(durable));
        let next_leaves = leaves.range(behind).next().map(|(first, _)| *first);
        let began = leaves.range(..=seq).next_back().map(|(first, _)| *first);
        match segments.range(..=seq).next_back() {
            Some((first, segment)) if began.is_none_or(|began| began <= *first) => {
                let end = next_leaves.map_or(next_segment, |leaves| leaves.min(next_segment));
                Located::In(Arc::clone(segment), end)
            }
            _ => Located::Gone(next_segment),
        }
    }

    /// Seq of the oldest record whose payload is on disk.
    pub(crate) fn oldest_payload(&self) -> u64 {
        let segments = self.segments.read();
        segments.keys().next().copied().unwrap_or_else(|| self.durable())
    }

    /// About how many bytes the records from `seq` on take.
    pub(crate) fn bytes_from(&self, seq: u64) -> u64 {
        let durable = self.durable();
        if seq >= durable {
            return 0;
        }
        let segments = self.segments.read();
        let mut bytes = 0_u64;
        let mut next_seq = durable;
        for (first, segment) in segments.iter().rev() {
            let whole = segment.bytes_before(next_seq, next_seq);
            if *first <= seq {
                return bytes.saturating_add(whole.saturating_sub(segment.bytes_before(seq, next_seq)));
            }
            bytes = bytes.saturating_add(whole);
            next_seq = *first;
        }
        bytes
    }

    /// Seq behind the newest leaves: all full tiles below are on disk.
    pub(crate) fn sealed_end(&self) -> u64 {
        let leaves = self.leaves.read();
        let last = leaves.iter().next_back();
        last.map_or(0, |(first, count)| first.saturating_add(*count))
    }

    /// Bytes of segments; and of leaves, of what they collapsed to, and of tiles.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let segments = self.segments.read();
        let payload = segments
            .values()
            .map(|segment| segment.bytes.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add);
        let records = self.leaves.read().values().copied().fold(0, u64::saturating_add);
        drop(segments);
        let leaves = records.saturating_mul(crate::format::LEAF as u64);
        let sealed = self.sealed_end();
        (payload, leaves.saturating_add(self.collapsed.lock().bytes(sealed)))
    }
}
