use std::time::Duration;

use auditmon_core::time;
use immudb_verify::{Alh, Hash, TxId};
use prometheus::Registry;

use super::*;
use crate::compat::CompatConfig;
use crate::verdict::{Code, Finding, Good, Unchecked};

/// A server whose log lines go to a file.
struct Trial {
    dir: tempfile::TempDir,
    registry: Registry,
    compat: Arc<Compat>,
}

fn trial(program: Program) -> Trial {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let config = CompatConfig {
        program,
        log_file: Some(dir.path().join("log")),
        monitoring: Some("0.0.0.0:9477".to_owned()),
        ..CompatConfig::default()
    };
    let compat = Compat::new(&config, Duration::from_secs(60), &registry).unwrap();
    Trial { dir, registry, compat }
}

impl Trial {
    fn face(&self) -> Face {
        Face::new(self.compat.clone(), &Endpoint::parse("127.0.0.1:3322").unwrap(), None)
    }

    /// Result, previous and current of the only server, and its id.
    fn shown(&self) -> (i64, i64, i64, String) {
        let families = self.registry.gather();
        let one = |part: &str| {
            let mut found = families.iter().filter(|family| family.name().contains(part));
            let metrics = found.next().unwrap().get_metric();
            assert_eq!(metrics.len(), 1, "{part}");
            metrics[0].clone()
        };
        let value = |part: &str| one(part).get_gauge().get_value() as i64;
        let result = one("audit_result");
        let id = result
            .get_label()
            .iter()
            .find(|label| label.name() == "server_id")
            .unwrap();
        (
            value("audit_result"),
            value("prev_root"),
            value("curr_root"),
            id.value().to_owned(),
        )
    }
}

fn state(tx: u64, byte: u8) -> State {
    State {
        tx: TxId(tx),
        alh: Alh(Hash::from([byte; 32])),
    }
}

fn good(state: State, how: How) -> Verdict {
    Verdict::Ok(Good {
        state,
        signature: None,
        uuid: None,
        key: None,
        how,
        seen: Vec::new(),
    })
}

fn tampered(shown: Option<State>) -> Verdict {
    let mut finding = Finding::new(Code::Proof, "proof", "another history");
    finding.shown = shown;
    Verdict::Tampered(finding)
}

fn unchecked() -> Verdict {
    Verdict::Unchecked(Unchecked::new("unreachable", "nobody is there"))
}

fn now() -> Nanos {
    time::parse("2026-11-20T22:34:58.057227728Z").unwrap()
}

/// Section by section what the table of values asks for.
#[test]
fn values_by_outcome() {
    let trial = trial(Program::Immuclient);
    let mut face = trial.face();
    let unknown = || "unknown".to_owned();
    assert_eq!(trial.shown(), (-1, -1, -1, unknown()));
    for (verdict, trusted, wanted) in [
        (unchecked(), Some(state(7, 1)), (-2, -2, -2)),
        (good(state(9, 2), How::First), None, (-1, -1, 9)),
        (good(state(0, 0), How::First), None, (-1, -1, 0)),
        (good(state(0, 0), How::Same), Some(state(0, 0)), (-1, -1, 0)),
        (good(state(3, 1), How::Walk), Some(state(0, 0)), (-1, -1, 3)),
        (good(state(9, 2), How::Walk), Some(state(7, 1)), (1, 7, 9)),
        (good(state(7, 1), How::Same), Some(state(7, 1)), (1, 7, 7)),
        (tampered(Some(state(15, 3))), Some(state(9, 2)), (0, 9, 15)),
        (tampered(None), Some(state(9, 2)), (0, 9, -2)),
    ] {
        face.verdict("db", &verdict, trusted, now());
        let (result, previous, current, _) = trial.shown();
        assert_eq!((result, previous, current), wanted, "{verdict:?}");
    }
}

#[test]
fn of_several_databases_the_worst_is_shown_until_it_is_gone() {
    let trial = trial(Program::Immuclient);
    let mut face = trial.face();
    let fine = good(state(9, 2), How::Walk);
    face.verdict("a", &tampered(Some(state(8, 3))), Some(state(5, 1)), now());
    face.verdict("b", &fine, Some(state(7, 1)), now());
    face.verdict("c", &unchecked(), None, now());
    assert_eq!(trial.shown().0, 0);
    face.list(["b", "c"].into_iter());
    face.end(now());
    assert_eq!(trial.shown().0, -2);
    face.verdict("c", &good(state(3, 4), How::Same), Some(state(3, 4)), now());
    let (result, previous, current, _) = trial.shown();
    assert_eq!((result, previous, current), (1, 3, 3));
    let last = trial.compat.last.lock().clone();
    assert!(last.has_run_consistency_check && last.consistency_check_result && !last.has_error);
    assert_eq!(last.current_root, "04".repeat(32));
}

#[test]
fn immuclient_keeps_the_first_name_and_immugw_takes_each() {
    for (program, second) in [(Program::Immuclient, "u1"), (Program::Immugw, "u2")] {
        let trial = trial(program);
        let mut face = trial.face();
        face.identify(None);
        assert_eq!(trial.shown().3, "unknown");
        face.identify(Some("u1"));
        assert_eq!(trial.shown().3, "u1");
        face.identify(Some("u2"));
        assert_eq!(trial.shown().3, second);
    }
}

#[test]
fn log_lines_as_recorded() {
    let trial = trial(Program::Immuclient);
    let mut face = trial.face();
    trial.compat.start();
    face.begin(now());
    face.list(["a", "b"].into_iter());
    face.verdict("a", &good(state(9, 2), How::Walk), Some(state(7, 1)), now());
    face.verdict("b", &tampered(Some(state(15, 3))), Some(state(8, 4)), now());
    face.end(now());
    face.begin(now());
    face.verdict("", &unchecked(), None, now());
    face.end(now());
    face.begin(now());
    face.identify(Some("u1"));
    face.verdict("c", &good(state(0, 0), How::Same), Some(state(0, 0)), now());
    face.end(now());
    let path = trial.dir.path().join("log");
    let canceled = " WARNING: audit #3 canceled: database is empty on server u1 @ 127.0.0.1:3322".to_owned();
    let wanted_end = format!("{canceled}\n");
    // The thread writes on its own.
    let begun = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.ends_with(&wanted_end) {
            break text;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
        std::thread::yield_now();
    };
    let (one, two, three, four) = ("01".repeat(32), "02".repeat(32), "03".repeat(32), "04".repeat(32));
    let wanted = [
        "1m0s".to_owned(),
        " INFO: starting auditor with a 1m0s interval ...".to_owned(),
        " INFO: auditor monitoring HTTP server starting on 0.0.0.0:9477 ...".to_owned(),
        " INFO: audit #1 started @ 2026-11-20 22:34:58.057227728 +0000 UTC".to_owned(),
        " INFO: audit #1 - list of databases to audit has been (re)loaded - 2 database(s) found: [a b]".to_owned(),
        " INFO: audit #1 - auditing database a".to_owned(),
        " INFO: audit #1 result:".to_owned(),
        format!(" db: a, consistent:\ttrue previous state:\t{one} at tx: 7"),
        format!("  current state:\t{two} at tx: 9"),
        " INFO: audit #1 - auditing database b".to_owned(),
        " INFO: audit #1 result:".to_owned(),
        format!(" db: b, consistent:\tfalse previous state:\t{four} at tx: 8"),
        format!("  current state:\t{three} at tx: 15"),
        " WARNING: audit #1 detected possible tampering of db b remote state (at id 15) so it will not overwrite the \
         previous local state (at id 8)"
            .to_owned(),
        " INFO: audit #1 finished in ".to_owned(),
        " INFO: audit #2 started @ 2026-11-20 22:34:58.057227728 +0000 UTC".to_owned(),
        " ERROR: audit #2 - could not be checked: nobody is there".to_owned(),
        " INFO: audit #3 started @ 2026-11-20 22:34:58.057227728 +0000 UTC".to_owned(),
        " INFO: audit #3 - auditing database c".to_owned(),
        canceled,
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, wanted) in lines.into_iter().zip(wanted) {
        // Name and time stand before it.
        let rest = line.strip_prefix("immuclientd").map_or(line, |line| &line[19..]);
        match wanted.strip_suffix("finished in ") {
            Some(_) => {
                assert!(
                    rest.starts_with(&wanted) && rest.ends_with(" @ 2026-11-20T22:34:58.057227728Z"),
                    "{rest}"
                );
            }
            None => assert_eq!(rest, wanted),
        }
    }
}

/// A tick over very many databases, or over slow ones, takes its time: each audit shows that the auditor works.
#[test]
fn an_audit_in_a_long_tick_is_a_sign_of_life() {
    let trial = trial(Program::Immuclient);
    let mut face = trial.face();
    face.begin(1);
    face.verdict("a", &unchecked(), None, 42);
    assert_eq!(trial.compat.ended.load(std::sync::atomic::Ordering::Relaxed), 42);
}
