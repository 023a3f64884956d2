//! Records of one segment, in order, and where they can't be read.

use std::io;
use std::path::Path;

use auditmon_journal::format::{FRAME_HEAD, FrameHead, Record, RecordIter, SegmentHead, origin_hash};
use auditmon_journal::inspect::{FIRST_FRAME, Look, SegmentFile};

use crate::files::open;

/// What comes next in a segment.
pub(crate) enum Next {
    /// A frame of which the first record has the wanted seq.
    Frame(FrameHead),
    /// Records up to here, exclusive, can't be read.
    Missing {
        /// Where readable frames end.
        offset: u64,
        until: u64,
    },
    /// Its records are over.
    Over,
}

/// How the newest segment ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tail {
    /// The file was cut behind its last frame, as an orderly stop and sealing do.
    pub(crate) cut: bool,
    /// The last frame is a mark.
    pub(crate) marked: bool,
    /// Bytes that are no frame: offset and length.
    pub(crate) torn: Option<(u64, u64)>,
}

pub(crate) struct Segment {
    file: SegmentFile,
    /// The next frame's.
    offset: u64,
    /// Where the frame is whose records are asked for.
    at: u64,
    /// That frame's head, once one was found.
    passed: Option<FrameHead>,
    /// The last record is before this one; `None` for the newest segment.
    end: Option<u64>,
    marked: bool,
}

impl Segment {
    pub(crate) fn open(path: &Path, end: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            file: SegmentFile::of(open(path)?)?,
            offset: FIRST_FRAME,
            at: FIRST_FRAME,
            passed: None,
            end,
            marked: false,
        })
    }

    /// Reads on in a file that grew. Where it was written anew meanwhile, because an event was erased, frames lie
    /// elsewhere: the place is then looked for.
    pub(crate) fn reopen(&mut self, path: &Path, end: Option<u64>) -> io::Result<()> {
        self.file = SegmentFile::of(open(path)?)?;
        self.end = end;
        let Some(passed) = self.passed else { return Ok(()) };
        if matches!(self.file.look(self.at)?, Look::Frame(head) if head == passed) {
            return Ok(());
        }
        let (mut at, mut seq, until) = (FIRST_FRAME, 0, passed.next_seq());
        loop {
            let found = match self.file.look(at)? {
                Look::Frame(head) => Some((at, head)),
                _ => self.file.find(at + 1, seq..until)?,
            };
            let Some((found, head)) = found.filter(|(_, head)| head.next_seq() <= until) else {
                return Ok(());
            };
            self.pass(found, &head);
            (at, seq) = (self.offset, head.next_seq());
        }
    }

    /// What is wrong with the head, if anything is.
    pub(crate) fn head(&self, first_seq: u64, origin: &str) -> io::Result<Option<String>> {
        let expected = SegmentHead {
            first_seq,
            origin: origin_hash(origin),
        };
        Ok(match self.file.head()? {
            Ok(head) if head == expected => None,
            Ok(head) if head.first_seq != first_seq => {
                Some(format!("its head says that it begins with seq {}", head.first_seq))
            }
            Ok(_) => Some("it belongs to another journal".to_owned()),
            Err(error) => Some(format!("its head can't be read: {error}")),
        })
    }

    /// Hash of the origin that the head names.
    pub(crate) fn origin(&self) -> io::Result<Option<[u8; 32]>> {
        Ok(self.file.head()?.ok().map(|head| head.origin))
    }

    /// Looks for the frame that begins with `seq`. Where there is none, only frames are passed over for which
    /// `is_damage` holds of the largest seq that anything behind says was on disk.
    pub(crate) fn next(&mut self, seq: u64, is_damage: impl Fn(u64) -> bool) -> io::Result<Next> {
        let until = self.end.unwrap_or(u64::MAX);
        if seq >= until {
            return Ok(Next::Over);
        }
        let fits = |head: &FrameHead| head.first_seq == seq && head.next_seq() <= until;
        match self.file.look(self.offset)? {
            Look::Frame(head) if fits(&head) => {
                self.pass(self.offset, &head);
                return Ok(Next::Frame(head));
            }
            _ => {}
        }
        let offset = self.offset;
        let found = self.file.find(offset + 1, seq..until)?;
        if self.end.is_none() {
            // Frames behind bad bytes prove damage by what they say was synced.
            let mut synced = 0;
            let mut next = found;
            while let Some((at, head)) = next {
                synced = synced.max(head.synced);
                next = if synced > seq {
                    None
                } else {
                    self.file.find(at + head.len() as u64, seq..until)?
                };
            }
            if !is_damage(synced) {
                return Ok(Next::Over);
            }
        }
        Ok(match (found, self.end) {
            (Some((at, head)), _) => {
                self.offset = at;
                if head.first_seq == seq {
                    // Only bytes between frames that nothing needs; the caller is told of them all the same.
                    return Ok(Next::Missing { offset, until: seq });
                }
                Next::Missing {
                    offset,
                    until: head.first_seq,
                }
            }
            (None, Some(end)) => Next::Missing { offset, until: end },
            (None, None) => Next::Over,
        })
    }

    fn pass(&mut self, at: u64, head: &FrameHead) {
        self.at = at;
        self.offset = at + head.len() as u64;
        self.marked = head.count == 0;
        self.passed = Some(*head);
    }

    /// The records of the frame that was found last.
    pub(crate) fn records(&mut self, head: &FrameHead) -> io::Result<&[u8]> {
        self.file.records(self.at, head)
    }

    /// Hands over all records from the frame on that was found last, as far as whole frames follow each other.
    pub(crate) fn rest(&mut self, mut each: impl FnMut(u64, &Record<'_>)) -> io::Result<()> {
        let mut at = self.at;
        while let Look::Frame(head) = self.file.look(at)? {
            let records = self.file.records(at, &head)?;
            for (seq, record) in (head.first_seq..).zip(RecordIter::new(records).flatten()) {
                each(seq, &record);
            }
            at += head.len() as u64;
        }
        Ok(())
    }

    /// Where the next frame would begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    /// How the file ends behind the last frame.
    pub(crate) fn tail(&mut self) -> io::Result<Tail> {
        let size = self.file.size();
        let torn = self
            .file
            .last_nonzero(self.offset)?
            .map(|end| (self.offset, end - self.offset));
        let left = size.saturating_sub(self.offset);
        // A file that isn't cut has been made longer than what is written to it. One that ends with the bytes that
        // are no frame was cut behind what was one.
        let cut = match (left, self.file.look(self.offset)?) {
            (0, _) => true,
            (left, _) if left <= FRAME_HEAD as u64 => true,
            _ => torn.is_some_and(|(_, length)| length == left),
        };
        Ok(Tail {
            cut,
            marked: self.marked,
            torn,
        })
    }
}

#[cfg(test)]
mod tests {
    use auditmon_journal::Records;
    use auditmon_journal::format::{Kind, Prefix, frame_head, mark};

    use super::*;

    /// A frame with one record.
    fn frame(seq: u64, text: &str) -> Vec<u8> {
        let prefix = Prefix {
            event_id: [7; 16],
            received_ns: 1,
            kind: Kind::Application,
            source: [0; 8],
        };
        let mut records = Records::new();
        records.push(&prefix, [1; 16], |out| out.extend(text.bytes())).unwrap();
        let mut frame = frame_head(seq, seq, 1, records.as_bytes()).to_vec();
        frame.extend_from_slice(records.as_bytes());
        frame
    }

    fn write(path: &Path, frames: &[Vec<u8>]) {
        let origin = origin_hash("o");
        let mut bytes = SegmentHead { first_seq: 0, origin }.encode().to_vec();
        bytes.extend(frames.concat());
        // Beside it: who has it open goes on with what was there.
        let beside = path.with_extension("new");
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    #[test]
    fn a_segment_that_was_written_anew_is_read_on_where_its_frames_are_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.seg");
        let rest = || [frame(3, "three"), frame(4, "four")].concat();
        let before = [frame(0, "a long text"), frame(1, "one as long"), frame(2, "two")];
        let mut bad = frame(0, "a long text");
        *bad.last_mut().unwrap() ^= 1;
        for now in [
            [frame(0, "a long text"), frame(1, "one as long"), frame(2, "two")],
            [frame(0, ""), frame(1, "one as long"), frame(2, "two")],
            [frame(0, "a long text"), frame(1, ""), frame(2, "two")],
            [frame(0, "a long text"), frame(1, "one as long"), frame(2, "")],
            [[mark(0).to_vec(), frame(0, "")].concat(), frame(1, ""), frame(2, "")],
            [bad.clone(), frame(1, ""), frame(2, "two")],
        ] {
            write(&path, &before);
            let mut segment = Segment::open(&path, None).unwrap();
            for seq in 0..3 {
                assert!(matches!(segment.next(seq, |_| true).unwrap(), Next::Frame(_)));
            }
            write(&path, &[now.concat(), rest()]);
            segment.reopen(&path, None).unwrap();
            let mut heard = Vec::new();
            segment.rest(|seq, _| heard.push(seq)).unwrap();
            assert_eq!(heard, [2, 3, 4]);
            for seq in 3..5 {
                assert!(matches!(segment.next(seq, |_| true).unwrap(), Next::Frame(head) if head.first_seq == seq));
            }
        }
    }
}
