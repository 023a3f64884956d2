//! What the writer and its readers share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::find::Span;
use crate::fs::Fs;
use crate::layout::Layout;
use crate::options::PauseReason;

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

    /// A frame's seq and offset at or before `seq`.
    pub(crate) fn nearest(&self, seq: u64) -> Option<(u64, u64)> {
        let index = self.index.lock();
        let behind = index.partition_point(|(first, _)| *first <= seq);
        index.get(behind.checked_sub(1)?).copied()
    }
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
    /// What is known of the ids in each `.leaf`, by first seq.
    pub(crate) spans: Mutex<BTreeMap<u64, Span>>,
    pub(crate) holds: Mutex<BTreeMap<String, u64>>,
    pub(crate) metrics: Mutex<Metrics>,
    pub(crate) paused: Mutex<Option<PauseReason>>,
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
            spans: Mutex::default(),
            holds: Mutex::default(),
            metrics: Mutex::default(),
            paused: Mutex::default(),
        }
    }

    /// All records below are on disk.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable(&self, seq: u64) {
        self.durable.store(seq, Ordering::Release);
    }

    /// Seq that the slowest durable sink wants next.
    pub(crate) fn lowest_hold(&self) -> u64 {
        self.holds.lock().values().copied().min().unwrap_or(u64::MAX)
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

    /// Bytes of segments, and of leaves.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let segments = self.segments.read();
        let payload = segments
            .values()
            .map(|segment| segment.bytes.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add);
        let records = self.leaves.read().values().copied().fold(0, u64::saturating_add);
        (payload, records.saturating_mul(crate::format::LEAF as u64))
    }
}
