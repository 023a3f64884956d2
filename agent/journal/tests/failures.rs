//! A disk that fails, and one that is full.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, IoSlice};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use auditmon_journal::format::Kind;
use auditmon_journal::{Fs, FsFile, PauseReason, RealFs, Refused, fsck, open};
use common::{Journal, WAIT, event, files, image, options, state, wait_for};

/// The real file system with two switches.
#[derive(Clone, Default)]
struct Faulty(Arc<Switches>);

#[derive(Default)]
struct Switches {
    /// The next sync fails.
    sync: AtomicBool,
    /// No file can be made.
    create: AtomicBool,
}

struct FaultyFile(Arc<dyn FsFile>, Arc<Switches>);

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// The switches are for what commits write; other threads sync files of their own.
fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.contains(".seg"))
}

impl Faulty {
    fn wrap(&self, file: io::Result<Arc<dyn FsFile>>) -> io::Result<Arc<dyn FsFile>> {
        Ok(Arc::new(FaultyFile(file?, Arc::clone(&self.0))))
    }
}

impl Fs for Faulty {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        if !is_segment(path) {
            return RealFs.open(path);
        }
        self.wrap(RealFs.open(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        RealFs.open_read(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        if !is_segment(path) {
            return RealFs.create(path);
        }
        if self.0.create.load(Ordering::SeqCst) {
            return Err(eio());
        }
        self.wrap(RealFs.create(path))
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

impl FsFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
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
        if self.1.sync.swap(false, Ordering::SeqCst) {
            return Err(eio());
        }
        self.0.sync()
    }
}

#[test]
fn after_a_failed_sync_nothing_of_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Faulty::default();
    let journal = Journal::with(fs.clone(), options(dir.path()));
    journal.write(&["a"]);
    journal.submit(state("app", b"k", 0, b"before")).unwrap();
    fs.0.sync.store(true, Ordering::SeqCst);
    let mut lost = event("lost");
    lost.push_state("app", [0; 16], common::now_ns(), [0; 16], b"k", 0, b"lost")
        .unwrap();
    assert_eq!(journal.submit(lost), Err(Refused::SyncFailed));
    let (tell, told) = std::sync::mpsc::channel();
    let app = auditmon_journal::format::source_hash("app");
    journal.handle.states(app, move |states| tell.send(states).unwrap());
    let states = told.recv_timeout(common::WAIT).unwrap().unwrap();
    assert_eq!(states[b"k".as_slice()].value, b"before");
    assert_eq!(files(dir.path(), ".seg"), [0, 2], "a new segment stands for it");
    journal.write(&["b"]);
    assert_eq!(journal.texts(), ["a", "b"]);
    let notes = journal.texts_of(Kind::Agent);
    assert_eq!(notes, ["SyncFailed { seq: 2 }"]);
    assert_eq!(journal.handle.status().metrics.failed_syncs, 1);
    let crashed = image(dir.path());
    journal.close();
    for dir in [dir.path(), crashed.path()] {
        let journal = Journal::open(dir);
        assert!(journal.opened.findings.is_empty());
        assert_eq!(journal.texts(), ["a", "b"]);
        let state = &journal.opened.states.values().next().unwrap()[b"k".as_slice()];
        assert_eq!(state.value, b"before");
        journal.close();
        assert!(fsck::check(&RealFs, dir).unwrap().is_clean());
    }
}

#[test]
fn while_no_segment_can_be_made_nobody_is_answered_until_it_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Faulty::default();
    let mut options = options(dir.path());
    options.give_up = Duration::from_millis(400);
    let journal = Journal::with(fs.clone(), options);
    journal.write(&["a"]);
    fs.0.create.store(true, Ordering::SeqCst);
    fs.0.sync.store(true, Ordering::SeqCst);
    let open_fate = journal.send(event("lost"), auditmon_journal::Linger::NONE);
    assert!(open_fate.recv_timeout(Duration::from_millis(200)).is_err());
    assert!(journal.handle.status().oldest_wait.unwrap() >= Duration::from_millis(150));
    assert_eq!(journal.submit(event("new")), Err(Refused::SyncFailed));
    assert_eq!(journal.handle.status().paused, Some(PauseReason::SyncFailed));
    assert_eq!(
        open_fate.recv_timeout(Duration::from_secs(5)),
        Ok(Err(Refused::Unknown))
    );
    fs.0.create.store(false, Ordering::SeqCst);
    wait_for("the disk to work", || journal.submit(event("b")).is_ok());
    assert_eq!(journal.texts(), ["a", "b"]);
    journal.close();
    assert!(fsck::check(&RealFs, dir.path()).unwrap().is_clean());
}

#[test]
fn what_waits_is_refused_once_a_segment_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Faulty::default();
    let journal = Journal::with(fs.clone(), options(dir.path()));
    fs.0.create.store(true, Ordering::SeqCst);
    fs.0.sync.store(true, Ordering::SeqCst);
    let fate = journal.send(event("lost"), auditmon_journal::Linger::NONE);
    std::thread::sleep(Duration::from_millis(100));
    fs.0.create.store(false, Ordering::SeqCst);
    assert_eq!(fate.recv_timeout(Duration::from_secs(5)), Ok(Err(Refused::SyncFailed)));
    assert_eq!(journal.write(&["b"])[0].first_seq, 1, "behind the agent event");
    journal.close();
}

/// A small volume of its own, gone with the value.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: no tmpfs can be mounted here (needs root)");
        }
        mounted.then_some(Self(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_pauses_and_resumes_by_itself() {
    let Some(volume) = Tmpfs::mount("512k") else {
        return;
    };
    let dir = volume.0.path();
    let sized = || {
        let mut options = options(dir);
        options.segment_size = 32 << 10;
        options.reserve = 64 << 10;
        options
    };
    let journal = Journal::held(sized());
    let reserve = || std::fs::metadata(dir.join("reserve")).unwrap().len();
    assert_eq!(reserve(), 64 << 10);
    let balloon = dir.join("balloon");
    let free = journal.handle.status().free_bytes.unwrap();
    std::fs::write(&balloon, vec![1; free as usize - (64 << 10)]).unwrap();
    let text = "x".repeat(900);
    let mut accepted = 0;
    let refused = loop {
        match journal.submit(event(&text)) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 1000);
    };
    assert_eq!(refused, Refused::Reserve);
    assert_eq!(journal.handle.status().paused, Some(PauseReason::Reserve));
    assert_eq!(journal.texts().len(), accepted, "reading goes on");
    wait_for("the pause to be told", || {
        journal.texts_of(Kind::Agent).contains(&"Paused(Reserve)".to_owned())
    });
    // Even an end and a start on the full disk work.
    journal.close();
    let free = RealFs.free(dir).unwrap();
    let stuffing = dir.join("stuffing");
    std::fs::write(&stuffing, vec![1; free as usize]).unwrap();
    let journal = Journal::held(sized());
    assert_eq!(journal.texts().len(), accepted);
    assert_eq!(journal.opened.paused, Some(PauseReason::Reserve));
    assert_eq!(journal.submit(event(&text)), Err(Refused::Reserve));
    let (done, fate) = channel();
    let done = Box::new(move |answer| done.send(answer).unwrap());
    journal.handle.submit_own(event("it can't wait"), done);
    fate.recv_timeout(WAIT).unwrap().unwrap();
    std::fs::remove_file(&balloon).unwrap();
    std::fs::remove_file(&stuffing).unwrap();
    wait_for("room again", || journal.submit(event(&text)).is_ok());
    assert_eq!(reserve(), 64 << 10, "the reserve is there again");
    let notes = journal.texts_of(Kind::Agent);
    assert!(
        notes.contains(&"Resumed(Reserve)".to_owned()),
        "{notes:?}, {:?}",
        journal.handle.status()
    );
    journal.close();
    assert!(fsck::check(&RealFs, dir).unwrap().is_clean());
    assert!(open(RealFs, sized()).unwrap().1.clean_stop);
}
