//! Segment change: how a new segment comes to be.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Active, Core, FIRST_FRAME, Refused};
use crate::Records;
use crate::fault::Fault;
use crate::format::{FRAME_HEAD, Kind, Prefix, SegmentHead, StateRecord, frame_head, origin_hash};
use crate::fs::{is_full, write_all_at};
use crate::options::PauseReason;
use crate::seal::SealJob;
use crate::shared::Segment;

/// The bytes that a new segment begins with.
struct Head {
    bytes: Vec<u8>,
    records: u64,
    leaf_hashes: Vec<[u8; 32]>,
}

impl Core {
    /// Begins a new segment with room for a frame of `len` bytes. `own` is for
    /// the journal's own frames: they may pass `max_size` and take the reserve.
    pub(crate) fn change_segment(&mut self, len: u64, own: bool) -> Result<(), Refused> {
        if !own && !self.has_size_for(len) {
            self.pause_for(PauseReason::SizeLimit);
            return Err(Refused::SizeLimit);
        }
        let mut result = self.create_segment(len);
        if own && self.active.is_some() && result.as_ref().is_err_and(is_full) && self.release_reserve() {
            result = self.create_segment(len);
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                self.pause_for(PauseReason::Reserve);
                Err(Refused::Reserve)
            }
            Err(_) => {
                self.shared.metrics.lock().failed_syncs += 1;
                self.break_off(self.now);
                Err(Refused::SyncFailed)
            }
        }
    }

    /// Makes a segment that begins at the durable seq. All of it is on disk
    /// before it gets its name, so whoever sees the name sees it whole.
    ///
    /// Space is allocated, not filled with zeros: zeros written ahead gave the
    /// bare loop of `examples/commits.rs` 3–30 % more commits of 512 B and
    /// 60–80 % more of 32 KiB, but groups wait for their submitters' threads
    /// (64 of them: 1,460 commits/s of 8,000), and every byte would be written twice.
    pub(crate) fn create_segment(&mut self, len: u64) -> io::Result<()> {
        self.create(len, self.options.segment_size)
    }

    /// The same where the disk is full: with room for the journal's own frames only. It grows when there is more.
    pub(crate) fn create_small_segment(&mut self) -> io::Result<()> {
        self.create(0, 0)
    }

    fn create(&mut self, len: u64, at_least: u64) -> io::Result<()> {
        let first_seq = self.shared.durable();
        let fs = Arc::clone(&self.shared.fs);
        let layout = self.shared.layout.clone();
        let head = self.head(first_seq);
        let used = head.bytes.len() as u64;
        let size = at_least.max(used + len) + self.headroom();
        let beside = layout.seg_new(first_seq);
        let written = fs.create(&beside).and_then(|file| {
            file.allocate(size)?;
            write_all_at(&*file, &mut [IoSlice::new(&head.bytes)], 0)?;
            file.sync()?;
            Ok(file)
        });
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                // Gives the space back; recovery removes what this can't.
                let _ = fs.remove(&beside);
                return Err(error);
            }
        };
        // From here on the name may be on disk, and ends the segment before.
        self.retire_active();
        fs.rename(&beside, &layout.seg(first_seq))?;
        if !self.faults.is(Fault::NoDirSync) {
            fs.sync_dir(&layout.seg_dir())?;
        }
        let segment = Arc::new(Segment::new(first_seq, layout.seg(first_seq), used, size));
        segment.newest_ns.store(self.now.wall_ns, Ordering::Relaxed);
        // The next one may need room.
        self.upkeep.retention_ns = self.upkeep.retention_ns.min(self.now.mono_ns);
        self.shared.segments.write().insert(first_seq, Arc::clone(&segment));
        self.active = Some(Active {
            file,
            segment,
            first_seq,
            head_end: used,
            end: used,
            allocated: size,
        });
        self.next_seq = first_seq + head.records;
        if let Some(last) = head.leaf_hashes.last() {
            *self.shared.last_leaf.lock() = (self.next_seq, Some(*last));
        }
        self.shared.set_durable(self.next_seq);
        self.shared.tree.lock().extend(first_seq, &head.leaf_hashes);
        self.shared.alarm.ring();
        self.upkeep.mark_due(self.now);
        Ok(())
    }

    /// The segment's head and the current state of all sources: one frame, or
    /// several where the limits of a frame ask for it.
    fn head(&mut self, first_seq: u64) -> Head {
        let origin = origin_hash(&self.shared.origin);
        let mut head = Head {
            bytes: SegmentHead { first_seq, origin }.encode().to_vec(),
            records: 0,
            leaf_hashes: Vec::new(),
        };
        if self.faults.is(Fault::ForgetStates) {
            return head;
        }
        self.states.drop_expired(self.now.wall_ns);
        let mut frame = Records::new();
        for (source, states) in self.states.map() {
            for (key, value) in states {
                let mut random = [0; 32];
                (self.options.entropy)(&mut random);
                let (id, salt) = split(&random);
                let prefix = Prefix {
                    event_id: uuid_v7(self.now.wall_ns, id),
                    received_ns: self.now.wall_ns,
                    kind: Kind::State,
                    source: *source,
                };
                let state = StateRecord {
                    key,
                    expiry_ns: value.expiry_ns,
                    value: &value.value,
                };
                if frame.push_state_record(&prefix, salt, &state).is_err() {
                    head.append(first_seq, &mut frame);
                    // Alone it always fits: it did when it was submitted.
                    let _ = frame.push_state_record(&prefix, salt, &state);
                }
            }
        }
        head.append(first_seq, &mut frame);
        head
    }

    /// Ends the segment being written, if any; it waits to be sealed.
    pub(crate) fn retire_active(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        let end_seq = self.shared.durable();
        // Without a record its name is taken over by the next.
        if end_seq > active.first_seq {
            self.seals.push_back(SealJob::new(active.first_seq, end_seq));
        }
    }

    /// Whether `max_size` leaves room for a new segment.
    pub(crate) fn has_size_for(&mut self, len: u64) -> bool {
        let wanted = self.options.segment_size.max(len + FIRST_FRAME);
        self.has_size(wanted) || (self.make_room(wanted) && self.has_size(wanted))
    }

    fn has_size(&self, wanted: u64) -> bool {
        let (payload, leaves) = self.shared.bytes();
        let used = payload.saturating_add(self.counted_leaves(leaves));
        // One segment there must be, however small the limit.
        payload == 0 || used.saturating_add(wanted) <= self.options.max_size
    }

    /// The seeded fault that gives the new segment its name before the one
    /// before it is synced.
    pub(crate) fn change_before_sync(&mut self) {
        if self.staged.is_empty() || self.write_staged().is_err() {
            return;
        }
        let Some(old) = self.active.as_ref().map(|active| Arc::clone(&active.file)) else {
            return;
        };
        let mut staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let durable = self.shared.durable();
        self.shared.set_durable(self.next_seq);
        let created = self.create_segment(0).is_ok();
        if !created {
            self.shared.set_durable(durable);
        }
        let synced = old.sync().is_ok();
        self.states.keep();
        for staged in &mut staged {
            if let Some((done, _)) = staged.done.take() {
                done(if created && synced {
                    Ok(super::Committed {
                        first_seq: staged.first_seq,
                        last_seq: staged.first_seq + u64::from(staged.records.records()) - 1,
                    })
                } else {
                    Err(Refused::Unknown)
                });
            }
        }
    }
}

impl Head {
    fn append(&mut self, segment_first: u64, frame: &mut Records) {
        if frame.is_empty() {
            return;
        }
        let first_seq = segment_first + self.records;
        // All below the segment is on disk; that this frame is, its name says.
        let head: [u8; FRAME_HEAD] = frame_head(first_seq, segment_first, frame.records(), frame.as_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(frame.as_bytes());
        self.records += u64::from(frame.records());
        self.leaf_hashes.extend_from_slice(frame.leaf_hashes());
        frame.clear();
    }
}

fn split(random: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let mut id = [0; 16];
    let mut salt = [0; 16];
    id.copy_from_slice(&random[..16]);
    salt.copy_from_slice(&random[16..]);
    (id, salt)
}

/// A UUIDv7 of this time from 16 random bytes.
fn uuid_v7(wall_ns: u64, mut id: [u8; 16]) -> [u8; 16] {
    let millis = (wall_ns / 1_000_000).to_be_bytes();
    id[..6].copy_from_slice(&millis[2..]);
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    id
}
