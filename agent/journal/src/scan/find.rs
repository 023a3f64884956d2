//! Finding frames behind damage: every offset is tried.
//!
//! Bytes that stand there may have been chosen by whoever posts events, so the
//! CRC of a candidate is computed from prefix CRCs in constant time: many
//! candidates with long lengths must not cost their product.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{FRAME_HEAD, FrameHead};
use crate::fs::{FsFile, read_full_at};

const CHUNK: usize = 256 << 10;
/// Bytes between two kept prefix CRCs.
const BLOCK: u64 = 4096;
/// How far above the expected seq a frame may lie.
pub(crate) const REACH: u64 = 1 << 24;

/// Tries offsets of a part of a file.
pub(crate) struct Finder {
    file: Arc<dyn FsFile>,
    base: u64,
    limit: u64,
    /// CRC of `base..base + i * BLOCK`.
    prefixes: Vec<u32>,
}

impl Finder {
    /// Looks at `base..limit` of `file`.
    pub(crate) fn new(file: Arc<dyn FsFile>, base: u64, limit: u64) -> Self {
        Self {
            file,
            base,
            limit,
            prefixes: vec![0],
        }
    }

    /// The first frame at or behind `from` with a first seq in `seqs` and at
    /// most [`REACH`] above its start.
    pub(crate) fn find(&mut self, from: u64, seqs: Range<u64>) -> io::Result<Option<(u64, FrameHead)>> {
        let highest = seqs.end.min(seqs.start.saturating_add(REACH + 1));
        let seqs = seqs.start..highest;
        let mut buf = vec![0; CHUNK];
        let mut chunk = from.max(self.base);
        while chunk + FRAME_HEAD as u64 <= self.limit {
            let want = (self.limit - chunk).min(CHUNK as u64) as usize;
            let read = read_full_at(&*self.file, &mut buf[..want], chunk)?;
            let bytes = &buf[..read];
            for (at, head) in bytes.windows(FRAME_HEAD).enumerate() {
                // Lengths are below 2^25: nearly every offset ends here.
                if head[0] > 1 {
                    continue;
                }
                let Some(head) = head.first_chunk().and_then(|h| FrameHead::parse(h).ok()) else {
                    continue;
                };
                let offset = chunk + at as u64;
                if seqs.contains(&head.first_seq)
                    && offset + head.len() as u64 <= self.limit
                    && self.is_frame(offset, &head)?
                {
                    return Ok(Some((offset, head)));
                }
            }
            if read < FRAME_HEAD {
                break;
            }
            chunk += (read - FRAME_HEAD + 1) as u64;
        }
        Ok(None)
    }

    fn is_frame(&mut self, offset: u64, head: &FrameHead) -> io::Result<bool> {
        let covered = offset + 8;
        let end = offset + head.len() as u64;
        let before = self.prefix(covered)?;
        let whole = self.prefix(end)?;
        // crc(A ‖ B) = shift(crc(A), |B|) ^ crc(B), and combining with the CRC
        // of nothing is the shift alone.
        let shifted = crc32c::crc32c_combine(before, 0, (end - covered) as usize);
        if whole ^ shifted != head.crc {
            return Ok(false);
        }
        let mut records = vec![0; head.records_len as usize];
        let read = read_full_at(&*self.file, &mut records, offset + FRAME_HEAD as u64)?;
        records.truncate(read);
        Ok(head.check(&records).is_ok())
    }

    /// CRC of `base..to`.
    fn prefix(&mut self, to: u64) -> io::Result<u32> {
        let block = ((to - self.base) / BLOCK) as usize;
        let mut buf = [0; BLOCK as usize];
        while self.prefixes.len() <= block {
            let at = self.base + (self.prefixes.len() as u64 - 1) * BLOCK;
            let read = read_full_at(&*self.file, &mut buf, at)?;
            let last = self.prefixes.last().copied().unwrap_or(0);
            self.prefixes.push(crc32c::crc32c_append(last, &buf[..read]));
        }
        let at = self.base + block as u64 * BLOCK;
        let part = &mut buf[..(to - at) as usize];
        let read = read_full_at(&*self.file, part, at)?;
        let start = self.prefixes.get(block).copied().unwrap_or(0);
        Ok(crc32c::crc32c_append(start, &part[..read]))
    }
}
