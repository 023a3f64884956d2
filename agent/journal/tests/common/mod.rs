//! A journal in a temporary directory, and hands to damage it with.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{
    AgentNote, Committed, Fs, Gap, Handle, Item, Linger, Opened, Options, RealFs, Records, Refused, open,
};

pub const WAIT: Duration = Duration::from_secs(20);

/// A journal that runs.
pub struct Journal {
    pub handle: Handle,
    pub opened: Opened,
}

pub fn prefix(kind: Kind) -> Prefix {
    Prefix {
        event_id: [7; 16],
        received_ns: now_ns(),
        kind,
        source: source_hash("app"),
    }
}

/// Seq, kind and payload of a record.
pub type Seen = (u64, Kind, Vec<u8>);

pub fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_nanos() as u64
}

/// Small segments; events tell notes by their debug text.
pub fn options(dir: &Path) -> Options {
    let tell = |note: AgentNote, records: &mut Records| {
        let text = format!("{note:?}");
        let prefix = prefix(Kind::Agent);
        records.push(&prefix, [1; 16], |out| out.extend(text.bytes())).unwrap();
    };
    let mut options = Options::new(dir, "host", Box::new(tell));
    options.segment_size = 8192;
    options.reserve = 4096;
    options
}

impl Journal {
    pub fn open(dir: &Path) -> Self {
        Self::with(RealFs, options(dir))
    }

    pub fn with<F: Fs>(fs: F, options: Options) -> Self {
        let (writer, opened) = open(fs, options).unwrap();
        let handle = writer.spawn(Box::new(|_| {})).unwrap();
        Self { handle, opened }
    }

    /// With a sink that has confirmed nothing, so that nothing may go.
    pub fn held(options: Options) -> Self {
        let (writer, opened) = open(RealFs, options).unwrap();
        writer.set_hold("sink", 0);
        let handle = writer.spawn(Box::new(|_| {})).unwrap();
        Self { handle, opened }
    }

    pub fn send(&self, records: Records, linger: Linger) -> Receiver<Result<Committed, Refused>> {
        let (done, answer) = channel();
        let done = Box::new(move |fate| {
            let _ = done.send(fate);
        });
        self.handle.submit(records, linger, done);
        answer
    }

    pub fn submit(&self, records: Records) -> Result<Committed, Refused> {
        self.send(records, Linger::NONE).recv_timeout(WAIT).unwrap()
    }

    /// Writes events with these texts, a frame each.
    pub fn write(&self, texts: &[&str]) -> Vec<Committed> {
        texts.iter().map(|text| self.submit(event(text)).unwrap()).collect()
    }

    pub fn read(&self, from: u64) -> (Vec<Seen>, Vec<Gap>) {
        read(&self.handle, from)
    }

    /// Texts of application events.
    pub fn texts(&self) -> Vec<String> {
        self.texts_of(Kind::Application)
    }

    pub fn texts_of(&self, kind: Kind) -> Vec<String> {
        let (records, _) = self.read(0);
        records
            .into_iter()
            .filter(|(_, other, _)| *other == kind)
            .map(|(_, _, payload)| String::from_utf8(payload).unwrap())
            .collect()
    }

    pub fn close(self) {
        assert!(self.handle.close(WAIT));
    }
}

pub fn read(handle: &Handle, from: u64) -> (Vec<Seen>, Vec<Gap>) {
    let mut reader = handle.reader(from);
    let mut records = Vec::new();
    let mut gaps = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Records(batch) => records.extend(batch.iter().map(|entry| {
                let payload = entry.record.payload().unwrap().to_vec();
                (entry.seq, entry.record.prefix.kind, payload)
            })),
            Item::Gap(gap) => gaps.push(gap),
        }
    }
    (records, gaps)
}

pub fn event(text: &str) -> Records {
    let mut records = Records::new();
    let prefix = prefix(Kind::Application);
    records.push(&prefix, [2; 16], |out| out.extend(text.bytes())).unwrap();
    records
}

pub fn state(plugin: &str, key: &[u8], expiry_ns: u64, value: &[u8]) -> Records {
    let mut records = Records::new();
    records
        .push_state(plugin, [3; 16], now_ns(), [4; 16], key, expiry_ns, value)
        .unwrap();
    records
}

pub fn wait_for(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !test() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a power cut would leave of a running journal before a checkpoint is
/// signed, all that was written kept.
pub fn image(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(from, copy.path());
    forget_checkpoints(copy.path());
    copy
}

/// All of a journal that doesn't run.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(from, copy.path());
    copy
}

/// As if none had been signed.
pub fn forget_checkpoints(dir: &Path) {
    for name in ["checkpoint", "checkpoints"] {
        let _ = std::fs::remove_file(dir.join("journal/1").join(name));
    }
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                // It was renamed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

pub fn seg_dir(dir: &Path) -> PathBuf {
    dir.join("journal/1/seg")
}

pub fn seg(dir: &Path, first: u64) -> PathBuf {
    seg_dir(dir).join(format!("{first:020}.seg"))
}

/// First seqs of files with this ending, ascending.
pub fn files(dir: &Path, ending: &str) -> Vec<u64> {
    let mut found: Vec<u64> = std::fs::read_dir(seg_dir(dir))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(ending)?.parse().ok()
        })
        .collect();
    found.sort_unstable();
    found
}

/// Offset, first seq, `synced` and count of every frame in order.
pub fn frames(path: &Path) -> Vec<(usize, u64, u64, u32)> {
    let bytes = std::fs::read(path).unwrap();
    let mut found = Vec::new();
    let mut at = 64;
    while let Ok((head, _)) = auditmon_journal::format::parse_frame(&bytes[at..]) {
        found.push((at, head.first_seq, head.synced, head.count));
        at += head.len();
    }
    found
}

/// Offset behind the last frame.
pub fn end(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 64;
    while let Ok((head, _)) = auditmon_journal::format::parse_frame(&bytes[at..]) {
        at += head.len();
    }
    at
}

/// Overwrites bytes in a file.
pub fn patch(path: &Path, at: usize, bytes: &[u8]) {
    let mut content = std::fs::read(path).unwrap();
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(path, content).unwrap();
}

/// Flips one bit.
pub fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 1;
    std::fs::write(path, content).unwrap();
}

/// A whole frame of one event.
pub fn frame(first_seq: u64, synced: u64, text: &str) -> Vec<u8> {
    let records = event(text);
    let head = auditmon_journal::format::frame_head(first_seq, synced, 1, records.as_bytes());
    [head.as_slice(), records.as_bytes()].concat()
}
