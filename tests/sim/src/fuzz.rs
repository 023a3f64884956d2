//! What the fuzz targets run, and the ordinary tests with bounded random bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use auditmon_journal::bare::{self, Time};
use auditmon_journal::format::{
    FRAME_HEAD, FrameHead, RecordIter, SEGMENT_HEAD, SegmentHead, StateRecord, frame_head, parse_frame, parse_record,
};
use auditmon_journal::{AgentNote, Dump, Item, Options, Position, Records, fsck};

use crate::disk::SimFs;

const ORIGIN: &str = "fuzz/0123456789abcdef";

/// Parses bytes as everything that they might be.
pub fn parse(bytes: &[u8]) {
    let _ = parse_frame(bytes);
    let _ = parse_record(bytes);
    let _ = StateRecord::parse(bytes);
    let _ = Position::parse(bytes);
    for record in RecordIter::new(bytes).flatten() {
        let _ = record.leaf();
    }
    if let Some(head) = bytes.first_chunk::<FRAME_HEAD>() {
        let _ = FrameHead::parse(head);
    }
    if let Some(head) = bytes.first_chunk::<SEGMENT_HEAD>() {
        let _ = SegmentHead::parse(head);
    }
}

/// The bytes with the CRCs that they should have where they look like frames
/// that follow each other: what a fuzzer can't guess.
pub fn with_crcs(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut rest = bytes.as_mut_slice();
    while let Some((head, behind)) = rest.split_first_chunk_mut::<FRAME_HEAD>() {
        let Ok(frame) = FrameHead::parse(head) else {
            break;
        };
        let Some((records, next)) = behind.split_at_mut_checked(frame.records_len as usize) else {
            break;
        };
        *head = frame_head(frame.first_seq, frame.synced, frame.count, records);
        rest = next;
    }
    bytes
}

/// Opens a journal whose newest segment holds these bytes behind a good head,
/// reads all of it, writes and opens it again: the second start must find
/// nothing that the first did not settle.
///
/// # Panics
/// If a promise of recovery is broken.
pub fn recover(bytes: &[u8]) {
    let fs = SimFs::new(1);
    for dir in ["/d/journal", "/d/journal/1", "/d/journal/1/seg"] {
        let made = auditmon_journal::Fs::create_dir(&fs, Path::new(dir));
        assert!(made.is_ok());
    }
    fs.put(Path::new("/d/journal/origin"), ORIGIN.as_bytes());
    let origin = auditmon_journal::format::origin_hash(ORIGIN);
    let head = SegmentHead { first_seq: 0, origin };
    let content = [head.encode().as_slice(), bytes].concat();
    let path = PathBuf::from("/d/journal/1/seg").join(format!("{:020}.seg", 0));
    fs.put(&path, &content);
    let mut now = Time { wall_ns: 1, mono_ns: 1 };
    let Ok((mut core, opened)) = bare::open(Arc::new(fs.clone()), options(), now, None) else {
        panic!("a journal must open, whatever its newest segment holds");
    };
    assert!(opened.next_seq <= core.durable());
    let before = read(&core);
    now.mono_ns += 2_000_000_000;
    core.maintain(now);
    core.seal_all(now);
    core.close(now);
    let _ = fsck::check(&fs, Path::new("/d"));
    if let Ok(mut dump) = Dump::new(fs.clone(), Path::new("/d"), false) {
        while let Ok(Some(_)) = dump.next() {}
    }
    drop(core);
    fs.power_cycle();
    let again = bare::open(Arc::new(fs), options(), now, None);
    let Ok((core, opened)) = again else {
        panic!("it opened before");
    };
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    let after = read(&core);
    assert!(after.starts_with(&before), "what was shown stays");
}

/// Seqs and payloads, in order.
fn read(core: &bare::Core) -> Vec<(u64, Vec<u8>)> {
    let mut reader = core.reader(0);
    let mut seen = Vec::new();
    while let Ok(Some(item)) = reader.next() {
        if let Item::Records(batch) = item {
            seen.extend(batch.iter().map(|entry| {
                let payload = entry.record.payload().unwrap_or_default();
                (entry.seq, payload.to_vec())
            }));
        }
    }
    seen
}

fn options() -> Options {
    let tell = |note: AgentNote, records: &mut Records| {
        let prefix = auditmon_journal::format::Prefix {
            event_id: [1; 16],
            received_ns: 1,
            kind: auditmon_journal::format::Kind::Agent,
            source: [0; 8],
        };
        let text = format!("{note:?}");
        let pushed = records.push(&prefix, [0; 16], |out| out.extend(text.bytes()));
        debug_assert!(pushed.is_ok());
    };
    let mut options = Options::new("/d", "fuzz", Box::new(tell));
    options.segment_size = 4096;
    options.reserve = 0;
    options.entropy = Box::new(|buf| buf.fill(7));
    options
}
