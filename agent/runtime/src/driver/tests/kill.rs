//! SIGKILL in the middle of deliveries: nothing is lost, order is kept, and what comes twice was in flight.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::harness::{Act, Agent, Fake, Keeps, Running, delivery, eventually, options};

const PLACE: &str = "AUDITMON_TEST_KILL_DIR";

/// One line of the sink's log: `given` or `delivered`, and the places.
fn note(log: &Path, what: &str, seqs: &[u64]) {
    let mut line = what.to_owned();
    for seq in seqs {
        line += &format!(" {seq}");
    }
    let mut file = OpenOptions::new().append(true).create(true).open(log).unwrap();
    // One write: a kill leaves all of the line or nothing.
    file.write_all((line + "\n").as_bytes()).unwrap();
}

/// What the sink answers: in turn everything, an error, and some events pending.
fn sink(log: std::path::PathBuf) -> Fake<impl FnMut(&auditmon_core::subscription::Events) -> Act + Send + 'static> {
    let mut call = 0_u32;
    Fake::new(Keeps::Cursor, move |events| {
        call += 1;
        let given: Vec<u64> = events.iter().map(|event| event.seq).collect();
        note(&log, "given", &given);
        std::thread::sleep(Duration::from_millis(u64::from(call % 4)));
        match call % 5 {
            1 => Act::Fail("down"),
            3 => {
                let (pending, rest): (Vec<u64>, Vec<u64>) = given.iter().partition(|seq| *seq % 3 == 0);
                note(&log, "delivered", &rest);
                if pending.is_empty() {
                    return Act::Take;
                }
                Act::Later(pending, None)
            }
            _ => {
                note(&log, "delivered", &given);
                Act::Take
            }
        }
    })
}

/// An agent of its own, that is killed: started by the test below.
#[test]
#[ignore = "started by the test beside it"]
fn helper_that_is_killed() {
    let Some(dir) = std::env::var_os(PLACE) else { return };
    let dir = Path::new(&dir).to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let agent = Agent::with(options(&dir));
        let _running = Running::one(agent.driver("s", delivery()), sink(dir.join("log")));
        loop {
            let first = agent.emit(7).await;
            // Accepted: an obligation.
            note(&dir.join("accepted"), "", &(first..first + 7).collect::<Vec<_>>());
        }
    });
}

fn lines(path: &Path) -> Vec<(String, Vec<u64>)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (what, seqs) = line.split_once(' ').unwrap_or((line, ""));
            (
                what.to_owned(),
                seqs.split_whitespace().map(|seq| seq.parse().unwrap()).collect(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_repeats_what_was_in_flight_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    // Where each run begins in the log.
    let mut runs = vec![0];
    for run in 0..6_u64 {
        let begun = lines(&log).len();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "driver::tests::kill::helper_that_is_killed", "--ignored"])
            .env(PLACE, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("some deliveries", || {
            lines(&log).len() > begun + 10 + usize::try_from(run).unwrap()
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        runs.push(lines(&log).len());
    }
    // A last run delivers the rest.
    let agent = Agent::with(options(dir.path()));
    let rest = Fake::new(Keeps::Cursor, {
        let log = log.clone();
        move |events| {
            let given: Vec<u64> = events.iter().map(|event| event.seq).collect();
            note(&log, "given", &given);
            note(&log, "delivered", &given);
            Act::Take
        }
    });
    agent.drain.cancel();
    let mut running = Running::one(agent.driver("s", delivery()), rest);
    running.end("s").await;

    let lines_of_log = lines(&log);
    let mut delivered = BTreeSet::new();
    let mut in_flight: BTreeSet<u64> = BTreeSet::new();
    let (mut in_doubt, mut next, mut repeated) = (0..0, 0, 0);
    for (n, (what, seqs)) in lines_of_log.iter().enumerate() {
        assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "in order: {seqs:?}");
        if what == "given" {
            // A new run may repeat what was in flight when the last one was killed: from the first event on that was
            // not confirmed. Within a run nothing comes twice.
            let again: Vec<_> = seqs.iter().copied().filter(|seq| delivered.contains(seq)).collect();
            if runs.contains(&n) {
                in_doubt = in_flight.first().copied().unwrap_or(0)..next;
            }
            repeated += again.len();
            assert!(
                again.iter().all(|seq| in_doubt.contains(seq)),
                "line {n}: {again:?} were not in flight: {in_doubt:?}"
            );
            assert!(in_doubt.end - in_doubt.start <= 2 * 10, "{in_doubt:?}");
            // Nothing is left out between what came before and the first that is new.
            let first_new = seqs.iter().find(|seq| **seq >= next);
            assert!(first_new.is_none_or(|seq| *seq < next + 10), "line {n}");
            next = seqs.last().map_or(next, |last| next.max(last + 1));
            in_flight = seqs.iter().copied().collect();
        } else {
            delivered.extend(seqs.iter().copied());
        }
    }
    let accepted: BTreeSet<u64> = lines(&dir.path().join("accepted"))
        .into_iter()
        .flat_map(|(_, seqs)| seqs)
        .collect();
    assert!(accepted.len() > 100, "{}", accepted.len());
    let lost: Vec<_> = accepted.difference(&delivered).collect();
    assert!(lost.is_empty(), "{lost:?}");
    println!(
        "{} accepted, {} delivered, {repeated} repeated",
        accepted.len(),
        delivered.len()
    );
}
