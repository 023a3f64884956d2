//! Directories that the journal's own writer made, running and stopped.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_journal::{AgentNote, DirLock, Handle, Linger, Options, RealFs, Records, open};
use serde_json::{Value, json};

use crate::model::{Dir, canonical};
use auditmon_verify::{ProveError, ProveRequest, prove};

pub(crate) const WAIT: Duration = Duration::from_secs(60);

fn prefix(kind: Kind, source: &str) -> Prefix {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let received_ns = now.as_nanos() as u64;
    let mut event_id: [u8; 16] = rand::random();
    event_id[..6].copy_from_slice(&(received_ns / 1_000_000).to_be_bytes()[2..]);
    Prefix {
        event_id,
        received_ns,
        kind,
        source: source_hash(source),
    }
}

fn push(records: &mut Records, kind: Kind, name: &str, source: &str, data: &Value) {
    let prefix = prefix(kind, source);
    let bytes = canonical(&prefix, name, "alice", source, data);
    records.push(&prefix, rand::random(), |out| out.extend(bytes)).unwrap();
}

fn options(dir: &Path) -> Options {
    let tell = |note: AgentNote, records: &mut Records| {
        let (name, data) = match note {
            AgentNote::Retention { first, last, .. } => {
                ("journal.retention", json!({"first_seq": first, "last_seq": last}))
            }
            AgentNote::NewGeneration {
                former,
                entries,
                root,
                end,
                ..
            } => (
                "journal.new_generation",
                json!({"former_origin": former, "entries": entries, "root": root, "end": end, "reason": "contradicted"}),
            ),
            other => ("journal.note", json!({"note": format!("{other:?}")})),
        };
        push(records, Kind::Agent, name, "agent", &data);
    };
    let mut options = Options::new(dir, "host", Box::new(tell));
    options.segment_size = 32 << 10;
    options.reserve = 4096;
    options.checkpoint_interval = Duration::from_millis(20);
    options
}

pub(crate) struct Running {
    pub(crate) handle: Handle,
    _lock: DirLock,
}

pub(crate) fn start(dir: &Path, change: impl FnOnce(&mut Options)) -> Running {
    let lock = DirLock::acquire(dir).unwrap();
    let mut options = options(dir);
    change(&mut options);
    let (writer, _) = open(RealFs, options).unwrap();
    let handle = writer.spawn(Box::new(|_| {})).unwrap();
    Running { handle, _lock: lock }
}

impl Running {
    pub(crate) fn write(&self, from: u64, count: u64) {
        for n in from..from + count {
            let mut records = Records::new();
            push(&mut records, Kind::Application, "login", "billing", &json!({"n": n}));
            if n % 10 == 0 {
                let state = prefix(Kind::State, "immudb");
                let (key, value) = (format!("key {}", n % 3), n.to_string());
                records
                    .push_state(
                        "immudb",
                        state.event_id,
                        state.received_ns,
                        rand::random(),
                        key.as_bytes(),
                        0,
                        value.as_bytes(),
                    )
                    .unwrap();
            }
            self.submit(records);
        }
    }

    /// An event of the agent's own.
    pub(crate) fn say(&self, name: &str, data: &Value) {
        let mut records = Records::new();
        push(&mut records, Kind::Agent, name, "agent", data);
        self.submit(records);
    }

    /// They are on disk when this returns.
    fn submit(&self, records: Records) {
        let (done, answer) = channel();
        let done = Box::new(move |fate| {
            let _ = done.send(fate);
        });
        self.handle.submit(records, Linger::NONE, done);
        answer.recv_timeout(WAIT).unwrap().unwrap();
    }
}

pub(crate) fn wait_for(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !test() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_journal_holds_while_it_is_written_stopped_and_begun_again() {
    let dir = Dir::new();
    for life in 0..3 {
        let running = start(dir.path(), |_| {});
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| running.write(life * 400, 400));
            while !writing.is_finished() {
                let report = dir.holds();
                assert!(!report.to_string().contains("unfinished"), "{report}");
            }
            writing.join().unwrap();
        });
        wait_for("covered", || {
            let covered = running.handle.checkpoint().map_or(0, |newest| newest.size);
            covered == running.handle.durable()
        });
        let report = dir.holds();
        assert_eq!(report.counts.records, running.handle.durable());
        assert!(running.handle.close(WAIT));
        drop(running);
        let report = dir.holds();
        assert!(report.counts.checkpoints > 1);
    }
}

#[test]
fn retention_beside_the_check_is_no_tampering() {
    let dir = Dir::new();
    let running = start(dir.path(), |options| options.keep_size = 96 << 10);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| running.write(0, 1500));
        while !writing.is_finished() {
            dir.holds();
        }
        writing.join().unwrap();
    });
    wait_for("retention", || dir.holds().counts.expired > 0);
    assert!(running.handle.close(WAIT));
    drop(running);
    assert!(dir.holds().counts.expired > 0);
}

#[test]
fn what_a_kill_leaves_holds() {
    let dir = Dir::new();
    let running = start(dir.path(), |_| {});
    running.write(0, 300);
    // All that was written, at any moment.
    let copy = Dir::new();
    copy_into(dir.path(), copy.path());
    let report = copy.report();
    assert!(report.holds(), "{report}");
    assert!(running.handle.close(WAIT));
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

#[test]
fn what_is_collapsed_beside_the_check_holds_and_is_proved_no_more() {
    let mut dir = Dir::new();
    let running = start(dir.path(), |options| {
        options.segment_size = 1 << 20;
        options.max_size = 8 << 20;
        options.keep_age = Duration::ZERO;
    });
    let subs = |dir: &Dir| {
        let names = std::fs::read_dir(dir.path().join("journal/1/seg")).unwrap();
        let sub = |name: &str| name.ends_with(".sub");
        names
            .filter(|name| sub(name.as_ref().unwrap().file_name().to_str().unwrap()))
            .count()
    };
    let (mut ids, mut oldest) = (Vec::new(), [0; 16]);
    let mut kept = None;
    for n in 0..72 {
        // Full for a moment, where sealing is behind.
        wait_for("room", || {
            let mut records = Records::new();
            ids.clear();
            for n in 0..1000 {
                let id = prefix(Kind::Application, "billing");
                let bytes = canonical(&id, "login", "alice", "billing", &json!({"n": n}));
                records.push(&id, rand::random(), |out| out.extend(&bytes)).unwrap();
                ids.push(id.event_id);
            }
            let (done, answer) = channel();
            let done = Box::new(move |fate| {
                let _ = done.send(fate);
            });
            running.handle.submit(records, Linger::NONE, done);
            answer.recv_timeout(WAIT).unwrap().is_ok()
        });
        if n == 0 {
            oldest = ids[10];
        }
        if n % 12 == 11 {
            dir.holds();
        }
        if n == 3 {
            wait_for("signed", || {
                running.handle.checkpoint().is_some_and(|newest| newest.size >= 4000)
            });
            kept = running.handle.checkpoint();
        }
    }
    wait_for("collapses", || {
        subs(&dir) > 5 && !dir.path().join("journal/1/tile/0/000").exists()
    });
    let tile = "tile/0/000".parse().unwrap();
    assert!(running.handle.is_collapsed(tile) && running.handle.tile(tile).unwrap().is_none());
    dir.holds();
    assert!(running.handle.close(WAIT));
    drop(running);
    let report = dir.holds();
    assert!(
        report.to_string().contains("only hashes over many of them are left"),
        "{report}"
    );
    dir.against = kept.map(|kept| kept.note.clone());
    dir.holds();
    let none = prove(&ProveRequest {
        data_dir: dir.path(),
        database: None,
        event_id: oldest,
        patience: Duration::ZERO,
    });
    let none = none.unwrap_err();
    assert!(matches!(none, ProveError::UnknownOrCollapsed { .. }), "{none}");
    // The newest is proved, by the tiles that are left.
    let newest = prove(&ProveRequest {
        data_dir: dir.path(),
        database: None,
        event_id: *ids.last().unwrap(),
        patience: Duration::ZERO,
    });
    assert!(newest.is_ok(), "{newest:?}");
}
