//! Every system call by which a sink's position is written fails once, or is the last one of the process: what was
//! accepted reaches the receiver all the same, in order, and the next start goes on.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use auditmon_crash::calls::{CALLS, Call, Kind, Strace, parse};
use auditmon_crash::clients::body;
use auditmon_crash::signed::Signed;
use auditmon_crash::{first_key, long};
use auditmon_e2e::receiver::Receiver;
use auditmon_e2e::{Agent, Builder, is_root, request};

/// The sink's thread.
const THREAD: &str = "sink-webhook.x";
const KILLED: i32 = -1 - 9;
/// How long what is accepted may take to the receiver.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call and its fault.
struct Case {
    call: Call,
    kind: Kind,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.call)
    }
}

fn builder(data: &Path, receiver: &Receiver) -> Builder {
    let url = format!("http://{}/hook", receiver.address());
    let config =
        format!("sinks: {{webhook: {{x: {{url: \"{url}\", from: oldest, retry: {{min: 20ms, max: 1s}}}}}}}}\n");
    Agent::builder().config(&config).data_dir(data)
}

/// Posts one after the other and waits for each at the receiver, so that each has its position; those that were
/// accepted. Ends early if the agent dies.
fn post(agent: &mut Agent, key: &str, receiver: &Receiver, numbers: std::ops::Range<u64>) -> Vec<String> {
    let mut owed = Vec::new();
    for number in numbers {
        let post = request("POST", "/api/v1/events").key(key).json(body(number, 1, 10));
        match post.try_send(agent.listen()) {
            Ok(answer) => assert_eq!(answer.status, 201, "{}", answer.text()),
            Err(_) => break,
        }
        owed.push(format!("n-{number}"));
        if !await_all(agent, receiver, &owed) {
            break;
        }
    }
    owed
}

/// Waits until the receiver has all of these; false if the agent dies before.
fn await_all(agent: &mut Agent, receiver: &Receiver, owed: &[String]) -> bool {
    let begin = Instant::now();
    loop {
        let taken: BTreeSet<_> = receiver.taken().into_iter().collect();
        if owed.iter().all(|name| taken.contains(name)) {
            return true;
        }
        if !agent.is_running() {
            return false;
        }
        assert!(begin.elapsed() < PATIENCE, "{owed:?} of {taken:?}: {}", agent.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The calls of one writing of a position, each once.
fn record() -> Vec<Call> {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let data = dir.path().join("data");
    let receiver = Receiver::start(|_| 200);
    let mut agent = builder(&data, &receiver).start();
    let key = first_key(&agent);
    let _ = post(&mut agent, &key, &receiver, 0..2);
    let trace = ["-e".to_owned(), format!("trace={CALLS}")];
    let strace = Strace::attach(&[agent.thread(THREAD).unwrap()], &trace, dir.path().join("trace"));
    let _ = post(&mut agent, &key, &receiver, 2..8);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let mut different = BTreeSet::new();
    parse(&strace.finish(), &data)
        .into_iter()
        .filter(|call| call.path.contains("positions"))
        .filter(|call| different.insert((call.name.clone(), call.file.clone())))
        .collect()
}

/// Runs one case; whether the call was hit.
fn run(case: &Case) -> bool {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let data = dir.path().join("data");
    let receiver = Receiver::start(|_| 200);
    let mut agent = builder(&data, &receiver).start();
    let key = first_key(&agent);
    let mut owed = post(&mut agent, &key, &receiver, 0..2);
    let output = dir.path().join("trace");
    let strace = Strace::attach(
        &[agent.thread(THREAD).unwrap()],
        &case.kind.inject_at(&case.call, &data),
        output.clone(),
    );
    owed.extend(post(&mut agent, &key, &receiver, 2..8));
    let alive = agent.is_running();
    let code = if alive { agent.stop() } else { agent.wait() };
    let expected = if case.kind == Kind::Kill { [0, KILLED] } else { [0, 0] };
    assert!(
        expected.contains(&code),
        "{case}: ended with {code}: {}",
        agent.stderr()
    );
    let trace = strace.finish();
    let hit = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");

    let mut signed = Signed::default();
    signed.keep(&data);
    agent.start_again();
    owed.extend(post(&mut agent, &key, &receiver, 8..10));
    assert!(
        await_all(&mut agent, &receiver, &owed),
        "{case}: died: {}",
        agent.stderr()
    );
    let mut first = receiver.first_times("n-");
    first.retain(|name| owed.contains(name));
    assert_eq!(first, owed, "{case}: order");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    agent.fsck();
    signed.check(&agent);
    hit
}

#[test]
fn every_write_of_a_position_may_fail() {
    if !is_root("every_write_of_a_position_may_fail (strace must attach)") {
        return;
    }
    let calls = record();
    let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
    println!("one writing of a position: {names:?}");
    assert!(calls.len() >= 4, "{names:?}");
    let kinds = |at: usize| {
        if long() {
            &Kind::ALL[..]
        } else {
            &Kind::ALL[at % 3..][..1]
        }
    };
    for (at, call) in calls.iter().enumerate() {
        for kind in kinds(at) {
            let case = Case {
                call: call.clone(),
                kind: *kind,
            };
            // What the sink reads beside may move the count: then it is tried once more.
            let hit = run(&case) || run(&case);
            println!("{case}: {}", if hit { "hit" } else { "NOT HIT" });
            assert!(hit, "{case}: not hit");
        }
    }
}
