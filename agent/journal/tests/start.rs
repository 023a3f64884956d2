//! A start after a kill reads what it must, whatever lags behind in sealing.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use auditmon_journal::bare::{Submission, Time};
use auditmon_journal::format::Kind;
use auditmon_journal::{Fs, FsFile, RealFs, Records, open};
use common::{copy, options, prefix};

const SEGMENT: u64 = 2 << 20;
const RECORDS: u64 = 200_000;

/// The real file system; counts what is read of segments.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingFile(Arc<dyn FsFile>, Arc<AtomicU64>);

impl Counting {
    fn wrap(&self, path: &Path, file: io::Result<Arc<dyn FsFile>>) -> io::Result<Arc<dyn FsFile>> {
        if path.extension().is_some_and(|extension| extension == "seg") {
            return Ok(Arc::new(CountingFile(file?, Arc::clone(&self.0))));
        }
        file
    }
}

impl Fs for Counting {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        self.wrap(path, RealFs.open(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        self.wrap(path, RealFs.open_read(path))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        RealFs.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFs.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        RealFs.free(path)
    }
}

impl FsFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        self.1.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.0.write_at(bufs, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// A journal of many segments none of which is sealed; a checkpoint covers it.
fn unsealed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.segment_size = SEGMENT;
    let (writer, _) = open(RealFs, small).unwrap();
    let mut core = writer.into_core();
    let now = Time {
        wall_ns: common::now_ns(),
        mono_ns: 1,
    };
    let prefix = prefix(Kind::Application);
    for _ in 0..RECORDS / 1000 {
        let mut records = Records::new();
        for _ in 0..1000 {
            records.push(&prefix, [2; 16], |out| out.push(b'e')).unwrap();
        }
        let submission = Submission {
            records,
            done: Box::new(|fate| assert!(fate.is_ok())),
            since_ns: 0,
            own: false,
        };
        core.commit([submission], now);
    }
    core.close(now);
    assert_eq!(core.newest_checkpoint().unwrap().size, RECORDS);
    dir
}

fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("journal/1/seg")).unwrap();
    names.count()
}

#[test]
fn of_unsealed_segments_only_what_no_tile_stands_for_is_read() {
    let dir = unsealed();
    assert!(segments(dir.path()) >= 6);
    let fs = Counting::default();
    let mut small = options(dir.path());
    small.segment_size = SEGMENT;
    let (writer, opened) = open(fs.clone(), small).unwrap();
    let read = fs.0.load(Ordering::SeqCst);
    assert_eq!((opened.generation, opened.next_seq), (1, RECORDS));
    assert!(opened.findings.is_empty(), "{:?}", opened.findings);
    // Tiles of 65,536 records may live in memory alone, which is five megabytes here;
    // the newest segment is read to check it, and once more for its leaves.
    let all = RECORDS * 75;
    assert!(read < all / 4 * 3, "{read} of {all} bytes");
    drop(writer);
}

#[test]
fn a_tile_that_was_changed_is_made_again_and_makes_no_new_generation() {
    let dir = unsealed();
    let root = |dir: &Path| std::fs::read_to_string(dir.join("journal/1/checkpoint")).unwrap();
    let before = root(dir.path());
    let tiles: Vec<_> = ["0/000", "0/255", "0/256", "0/300", "0/400", "1/000", "1/001"]
        .iter()
        .map(|tile| tile.to_string())
        .collect();
    let mut tried = 0;
    for tile in tiles {
        let changed = copy(dir.path());
        let path = changed.path().join("journal/1/tile").join(&tile);
        let Ok(good) = std::fs::read(&path) else { continue };
        let mut bytes = good.clone();
        bytes[4000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut small = options(changed.path());
        small.segment_size = SEGMENT;
        let (writer, opened) = open(RealFs, small).unwrap();
        assert_eq!((opened.generation, opened.next_seq), (1, RECORDS), "{tile}");
        drop(writer);
        assert_eq!(root(changed.path()), before, "{tile}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried}");
}
