//! Every system call by which the journal touches its files fails once, or is the last one of the process:
//! no accepted event is lost or doubled, none that was refused is there, `journal fsck` is clean, `verify` calls
//! nothing tampering, and the agent takes events again without a hand.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use auditmon_crash::calls::{CALLS, Call, Kind, Strace, parse};
use auditmon_crash::clients::{Ledger, Owed, body};
use auditmon_crash::judge::{Found, Judge, gone, in_dump, in_store};
use auditmon_crash::signed::Signed;
use auditmon_crash::{first_key, long};
use auditmon_e2e::{Agent, Builder, Output, is_root, request};

/// Four events a segment; payloads of all but the newest go as soon as the store has them.
const CONFIG: &str = "
journal: {segment_size: 64KiB, reserve: 64KiB, keep: {age: 24h, size: 64KiB}, checkpoint_interval: INTERVAL}
";
/// Agents at a time; they mostly wait.
const WORKERS: usize = 4;
/// Retention has removed something within this time, unless a fault keeps it from doing so.
const RETENTION: Duration = Duration::from_secs(4);
/// After a fault the agent takes events again within this time.
const SOON: Duration = Duration::from_secs(15);
const KILLED: i32 = -1 - 9;

/// When and on which thread a call is made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    /// First start, main thread.
    Create,
    /// Start after kill -9 with a torn tail and half a segment, main thread.
    Recover,
    /// Posts, change of segments, retention, stop: thread `journal`.
    Journal,
    /// Sealing: thread `journal-seal`.
    Seal,
    /// The last checkpoint, which an orderly stop ends with: thread `journal-checkpoint`.
    Sign,
}

#[derive(Clone, Debug)]
struct Case {
    phase: Phase,
    call: Call,
    kind: Kind,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}: {}", self.kind, self.phase, self.call)
    }
}

/// Data directories that cases begin with.
struct Templates {
    dir: tempfile::TempDir,
    key: String,
    /// Of the run that stopped in order.
    clean: Judge,
    /// Of the run that was killed.
    killed: Judge,
    next: u64,
}

fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("auditmon-crash-")
        .tempdir_in("/var/tmp")
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}

/// What goes is signed first: within a moment, but for the phase in which the stop alone signs.
fn agent(data: &Path, phase: Phase) -> Builder {
    let interval = if phase == Phase::Sign { "1m" } else { "100ms" };
    Agent::builder()
        .config(&CONFIG.replace("INTERVAL", interval))
        .data_dir(data)
}

fn as_posted(event: &Found) -> usize {
    fill(event.number)
}

fn fill(number: u64) -> usize {
    14_000 + (number as usize * 13) % 300
}

/// One client.
struct Client {
    key: String,
    next: u64,
    ledger: Ledger,
}

impl Client {
    fn new(key: &str, next: u64) -> Self {
        Self {
            key: key.to_owned(),
            next,
            ledger: Ledger::default(),
        }
    }

    /// Posts until an event is accepted; false if the agent has died.
    fn post(&mut self, agent: &mut Agent) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < SOON {
            let number = self.next;
            self.next += 1;
            let post = request("POST", "/api/v1/events")
                .key(&self.key)
                .json(body(number, 1, fill(number)));
            match post.try_send(agent.listen()) {
                Ok(answer) if answer.status == 201 => {
                    self.ledger.owed.push(Owed {
                        number,
                        seq: answer.json()["first_seq"].as_u64().unwrap(),
                    });
                    return true;
                }
                Ok(answer) => {
                    assert!(
                        [429, 503, 507].contains(&answer.status),
                        "{} {}",
                        answer.status,
                        answer.text()
                    );
                    assert!(
                        answer.header("retry-after").is_some(),
                        "{} without Retry-After",
                        answer.status
                    );
                    self.ledger.refused.push(number);
                    self.ledger.other.push(answer.status);
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(_) => {
                    self.ledger.unknown.push(number);
                    std::thread::sleep(Duration::from_millis(100));
                    if !agent.is_running() {
                        return false;
                    }
                }
            }
        }
        panic!(
            "no 201 within {SOON:?} after the fault: {:?}; {}",
            self.ledger.other,
            agent.stderr()
        );
    }

    /// The script: two bursts over several segments each; false if the agent has died.
    fn script(&mut self, agent: &mut Agent) -> bool {
        for pause in [700, 300] {
            for _ in 0..6 {
                if !self.post(agent) {
                    return false;
                }
            }
            // The store catches up, segments are sealed, a mark follows.
            std::thread::sleep(Duration::from_millis(pause));
        }
        true
    }
}

impl Templates {
    fn make() -> Self {
        let dir = temporary();
        let (clean, killed) = (dir.path().join("clean"), dir.path().join("killed"));
        let mut first = agent(&clean, Phase::Journal).start();
        let key = first_key(&first);
        let mut client = Client::new(&key, 0);
        assert!(client.script(&mut first));
        assert_eq!(first.stop(), 0, "{}", first.stderr());
        let mut judge = Judge::default();
        judge.take(&client.ledger, client.next);
        copy(&clean, &killed);
        let mut second = agent(&killed, Phase::Journal).start();
        let mut client = Client::new(&key, client.next);
        for _ in 0..7 {
            assert!(client.post(&mut second));
        }
        second.kill();
        let mut judge_killed = judge.clone();
        judge_killed.take(&client.ledger, client.next);
        spoil(&killed);
        let told = second.run(&["journal", "fsck"]).expect(0).stdout;
        assert!(told.contains("unfinished tail"), "{told}");
        Self {
            dir,
            key,
            clean: judge,
            killed: judge_killed,
            next: client.next,
        }
    }

    fn place(&self, phase: Phase, to: &Path) -> Judge {
        match phase {
            Phase::Create => Judge::default(),
            Phase::Recover => {
                copy(&self.dir.path().join("killed"), to);
                self.killed.clone()
            }
            Phase::Journal | Phase::Seal | Phase::Sign => {
                copy(&self.dir.path().join("clean"), to);
                self.clean.clone()
            }
        }
    }
}

/// What a power cut might leave: garbage behind the last frame, half a new segment, one that is not sealed.
fn spoil(data: &Path) {
    let dir = data.join("journal/1/seg");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let newest = names.iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let mut bytes = std::fs::read(dir.join(newest)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 64;
    bytes.resize(bytes.len().max(end + 100), 0);
    bytes[end..end + 100].fill(0xa5);
    std::fs::write(dir.join(newest), &bytes).unwrap();
    std::fs::write(dir.join("00000000000000999999.seg.new"), b"AUDITMON").unwrap();
    if let Some(leaf) = names.iter().rfind(|name| name.ends_with(".leaf")) {
        let seg = leaf.replace(".leaf", ".seg");
        if dir.join(seg).exists() {
            std::fs::remove_file(dir.join(leaf)).unwrap();
        }
    }
}

fn wrapper(args: &[String], output: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-D", "-tt", "-y", "-s0", "-o"].map(str::to_owned).to_vec();
    words.push(output.display().to_string());
    words.extend_from_slice(args);
    words
}

fn start_under(data: &Path, args: &[String], output: &Path) -> Result<Agent, Output> {
    let words = wrapper(args, output);
    agent(data, Phase::Recover)
        .under(&words.iter().map(String::as_str).collect::<Vec<_>>())
        .try_start()
}

/// Threads of the journal in a running agent.
fn threads(agent: &Agent, phases: &[Phase]) -> Vec<u32> {
    let name = |phase: &Phase| match phase {
        Phase::Seal => "journal-seal",
        // The kernel keeps 15 bytes of a name.
        Phase::Sign => "journal-checkpo",
        _ => "journal",
    };
    phases
        .iter()
        .map(|phase| agent.thread(name(phase)).expect("the journal's thread"))
        .collect()
}

/// Waits until retention has removed a segment, as a fault may keep it from doing; whether it has.
fn await_removal(agent: &mut Agent) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < RETENTION {
        let removed = std::fs::read_dir(agent.data_dir().join("journal/1/seg")).is_ok_and(|names| {
            let names: BTreeSet<_> = names.flatten().map(|name| name.file_name()).collect();
            let leaf = names
                .iter()
                .find(|name| Path::new(name).extension().is_some_and(|e| e == "leaf"));
            leaf.is_some_and(|leaf| !names.contains(Path::new(leaf).with_extension("seg").as_os_str()))
        });
        if removed || !agent.is_running() {
            return removed;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Records the calls of every phase.
fn record(templates: &Templates) -> Vec<(Phase, Call)> {
    let trace = ["-e".to_owned(), format!("trace={CALLS}")];
    let mut all = Vec::new();
    for phase in [Phase::Create, Phase::Recover] {
        let dir = temporary();
        let (data, output) = (dir.path().join("data"), dir.path().join("trace"));
        drop(templates.place(phase, &data));
        let mut agent = start_under(&data, &trace, &output).expect("it starts under strace");
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let recording = await_trace(&output);
        all.extend(parse(&recording, &data).into_iter().map(|call| (phase, call)));
    }
    for phases in [&[Phase::Journal, Phase::Seal][..], &[Phase::Sign]] {
        let dir = temporary();
        let data = dir.path().join("data");
        drop(templates.place(phases[0], &data));
        let mut agent = agent(&data, phases[0]).start();
        let threads = threads(&agent, phases);
        let strace = Strace::attach(&threads, &trace, dir.path().join("trace"));
        let mut client = Client::new(&templates.key, templates.next);
        assert!(client.script(&mut agent));
        if phases[0] == Phase::Journal {
            assert!(await_removal(&mut agent), "retention removed nothing");
        }
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let calls = parse(&strace.finish(), &data);
        for (phase, thread) in phases.iter().zip(threads) {
            // With one thread alone the recording names none.
            let own = calls.iter().filter(|call| [0, thread].contains(&call.tid));
            all.extend(own.map(|call| (*phase, call.clone())));
        }
    }
    all
}

/// The recording of a process that has ended; strace, no child of ours, may still be writing.
fn await_trace(output: &Path) -> String {
    let begin = Instant::now();
    loop {
        let text = std::fs::read_to_string(output).unwrap_or_default();
        if text.contains("+++ exited with")
            || text.contains("+++ killed by")
            || begin.elapsed() > Duration::from_secs(5)
        {
            return text;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs one case; fails by panicking. Gives whether the call was hit, and what became of it in a word.
fn run(case: &Case, templates: &Templates) -> Option<&'static str> {
    let dir = temporary();
    let (data, output) = (dir.path().join("data"), dir.path().join("trace"));
    let mut judge = templates.place(case.phase, &data);
    let mut client = Client::new(&templates.key, templates.next);
    let inject = match case.phase {
        Phase::Create | Phase::Recover => case.kind.inject_at(&case.call, &data),
        Phase::Journal | Phase::Seal | Phase::Sign => case.kind.inject(&case.call),
    };
    let died = match case.phase {
        Phase::Create | Phase::Recover => match start_under(&data, &inject, &output) {
            Ok(mut agent) => {
                if case.phase == Phase::Create {
                    client.key = first_key(&agent);
                }
                work(case, &mut agent, &mut client)
            }
            Err(out) => {
                let expected = if case.kind == Kind::Kill {
                    out.code == KILLED
                } else {
                    [1, 73].contains(&out.code) && says_where(&out.stderr, &data)
                };
                assert!(expected, "{case}: the start ended with {}: {}", out.code, out.stderr);
                Some("start failed")
            }
        },
        Phase::Journal | Phase::Seal | Phase::Sign => {
            let mut agent = agent(&data, case.phase).start();
            let strace = Strace::attach(&threads(&agent, &[case.phase]), &inject, output.clone());
            let died = work(case, &mut agent, &mut client);
            drop(strace);
            died
        }
    };
    let trace = await_trace(&output);
    let hit = if case.kind == Kind::Kill {
        trace.contains("killed by SIGKILL")
    } else {
        trace.contains("(INJECTED)")
    };
    judge.take(&client.ledger, client.next);
    check(case, &data, &mut judge, client, &templates.key);
    hit.then_some(died.unwrap_or(if case.kind == Kind::Kill { "killed" } else { "went on" }))
}

/// Whether the last line says which file or directory failed, and how.
fn says_where(stderr: &str, data: &Path) -> bool {
    let last = stderr.lines().last().unwrap_or_default();
    last.contains(&data.display().to_string()) && ["os error 5", "os error 28"].iter().any(|error| last.contains(error))
}

/// The script under the fault, and the stop.
fn work(case: &Case, agent: &mut Agent, client: &mut Client) -> Option<&'static str> {
    let alive = client.script(agent);
    let alive = alive && (case.phase != Phase::Journal || await_removal(agent) || agent.is_running());
    let code = if alive { agent.stop() } else { agent.wait() };
    match case.kind {
        Kind::Kill if code == KILLED => Some(if alive { "killed at the stop" } else { "killed" }),
        _ => {
            assert!(
                alive && code == 0,
                "{case}: the agent ended with {code}: {}",
                agent.stderr()
            );
            (!client.ledger.other.is_empty() || !client.ledger.unknown.is_empty()).then_some("refused, then went on")
        }
    }
}

/// The next start without a fault, and everything that was promised.
fn check(case: &Case, data: &Path, judge: &mut Judge, client: Client, key: &str) {
    let mut agent = agent(data, Phase::Sign).place();
    let mut signed = Signed::default();
    signed.keep(data);
    signed.check_left(&agent);
    let key = if case.phase == Phase::Create {
        agent.create_key("crash", "write,read")
    } else {
        key.to_owned()
    };
    agent.start_again();
    agent.fsck();
    let mut client = Client::new(&key, client.next);
    assert!(client.post(&mut agent), "{case}: the next start takes no event");
    assert!(
        client.ledger.other.is_empty(),
        "{case}: the next start refused: {:?}",
        client.ledger.other
    );
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    agent.fsck();
    judge.take(&client.ledger, client.next);
    judge
        .judge("store", &in_store(&agent), &[], as_posted)
        .unwrap_or_else(|fault| panic!("{case}: {fault}"));
    judge
        .judge("journal", &in_dump(&dump(&agent)), &gone(&agent), as_posted)
        .unwrap_or_else(|fault| panic!("{case}: {fault}"));
    signed.check(&agent);
}

/// The journal's events; retention may have taken the oldest.
fn dump(agent: &Agent) -> Vec<serde_json::Value> {
    let output = agent.run(&["journal", "dump"]);
    let expired = output.stderr.lines().all(|line| line.contains("(Expired)"));
    assert!(output.code == 0 || output.code == 1 && expired, "{output:?}");
    output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every call once, with each kind of fault in turn; all kinds in the long run.
fn choose(calls: Vec<(Phase, Call)>) -> Vec<Case> {
    let cases = calls.into_iter().enumerate().flat_map(|(at, (phase, call))| {
        let kinds = if long() {
            &Kind::ALL[..]
        } else {
            &Kind::ALL[at % 3..][..1]
        };
        kinds.iter().map(move |kind| Case {
            phase,
            call: call.clone(),
            kind: *kind,
        })
    });
    cases.collect()
}

#[test]
fn every_call_may_fail() {
    if !is_root("every_call_may_fail (strace must attach)") {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        let install = Command::new("apt-get")
            .args(["install", "-y", "strace"])
            .output()
            .unwrap();
        assert!(
            install.status.success(),
            "strace is not there: {}",
            String::from_utf8_lossy(&install.stderr)
        );
    }
    let begin = Instant::now();
    let templates = Templates::make();
    let calls = record(&templates);
    println!("{} calls recorded in {:?}", calls.len(), begin.elapsed());
    let positions = calls
        .iter()
        .filter(|(_, call)| call.file.starts_with("positions/"))
        .count();
    println!(
        "writes of positions: {positions} (no sink of this configuration keeps its position in a file; see sink_positions)"
    );
    for phase in [Phase::Create, Phase::Recover, Phase::Journal, Phase::Seal, Phase::Sign] {
        let count = calls.iter().filter(|(of, _)| *of == phase).count();
        println!("  {phase:?}: {count}");
        assert!(count > 5, "nothing was recorded of {phase:?}");
    }
    let removals = calls
        .iter()
        .filter(|(phase, call)| *phase == Phase::Journal && call.name == "unlink" && call.file.ends_with(".seg"));
    assert!(removals.count() > 0, "nothing was recorded of retention");
    let cases = choose(calls);
    let next = Mutex::new(cases.iter());
    let told: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().unwrap().next() else {
                        return;
                    };
                    // A mark that comes in between moves the calls behind it: then it is tried once more.
                    let result = std::panic::catch_unwind(|| run(case, &templates).or_else(|| run(case, &templates)));
                    match result {
                        Ok(Some(word)) => {
                            println!("{case}: {word}");
                            *told
                                .lock()
                                .unwrap()
                                .entry(format!("{:?} {word}", case.kind))
                                .or_default() += 1;
                        }
                        Ok(None) => failed.lock().unwrap().push(format!("{case}: NOT HIT")),
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().map_or("?", String::as_str);
                            let text: String = text.chars().take(600).collect();
                            failed.lock().unwrap().push(format!("{case}: {text}"));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "{} faults in {:?}: {:?}",
        cases.len(),
        begin.elapsed(),
        told.into_inner().unwrap()
    );
    assert!(
        failed.is_empty(),
        "{} of {} cases:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n\n")
    );
}
