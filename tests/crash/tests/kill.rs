//! kill -9, again and again, also inside recovery: what was answered with 201 is there, once and in order.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditmon_crash::clients::{Clients, Ledger, fill};
use auditmon_crash::judge::{Found, Judge, in_api, in_dump, in_store};
use auditmon_crash::kernel::{Live, Load};

use auditmon_crash::oracle::Oracle;
use auditmon_crash::serials::Account;
use auditmon_crash::signed::Signed;
use auditmon_crash::{first_key, long};
use auditmon_e2e::Agent;

/// Kills of one data directory; every fourth comes inside recovery.
const KILLS: usize = 40;
/// Data directories of a long run: 2,000 kills.
const ROUNDS: usize = 50;
const CLIENTS: usize = 64;
/// Failing execve calls a second while the kernel source is on.
const RATE: u64 = 1_500;

const CONFIG: &str = "
http: {memory: 256MiB}
journal: {segment_size: 512KiB, reserve: 1MiB}
sources: {kernel: {receive_buffer: 64MiB}}
";

/// What the kills met.
#[derive(Debug, Default)]
struct Met {
    kills: usize,
    /// Killed after its segment was opened, before it said that the journal is open.
    in_recovery: usize,
    /// Bytes of an unfinished write behind the last frame.
    torn_tail: usize,
    /// Frames on disk whose senders had no answer.
    unanswered: usize,
    /// A new segment since the start before.
    new_segment: usize,
    /// A segment that was not sealed yet, besides the newest.
    unsealed: usize,
    /// A creation of a segment that was not finished.
    unfinished_segment: usize,
}

#[derive(Default)]
struct Census {
    segments: BTreeSet<String>,
    leaves: usize,
    creations: usize,
}

impl Census {
    fn of(data: &Path) -> Self {
        let mut census = Self::default();
        let Ok(entries) = std::fs::read_dir(data.join("journal/1/seg")) else {
            return census;
        };
        for name in entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            if name.ends_with(".seg") {
                census.segments.insert(name);
            } else if name.ends_with(".leaf") {
                census.leaves += 1;
            } else if name.ends_with(".seg.new") || name.ends_with(".new") && !name.contains(".leaf") {
                census.creations += 1;
            }
        }
        census
    }
}

struct Round {
    agent: Agent,
    key: String,
    judge: Judge,
    next: Arc<AtomicU64>,
    ledger: Ledger,
    signed: Signed,
    met: Met,
}

impl Round {
    fn begin(kernel: bool) -> Self {
        let mut builder = Agent::builder().config(CONFIG);
        if kernel {
            builder = builder.kernel();
        }
        let agent = builder.start();
        let key = first_key(&agent);
        Self {
            agent,
            key,
            judge: Judge::default(),
            next: Arc::default(),
            ledger: Ledger::default(),
            signed: Signed::default(),
            met: Met::default(),
        }
    }

    /// Kills the running agent under load.
    fn kill_under_load(&mut self) {
        let before = Census::of(self.agent.data_dir());
        let clients = Clients::start(self.agent.listen(), &self.key, CLIENTS, &self.next);
        clients.await_first();
        std::thread::sleep(Duration::from_micros(rand::random_range(0..300_000)));
        self.agent.kill();
        self.check_left();
        let ledger = clients.finish();
        self.judge.take(&ledger, self.next.load(Ordering::Relaxed));
        self.ledger.absorb(ledger);
        let after = Census::of(self.agent.data_dir());
        self.met.kills += 1;
        self.met.new_segment += usize::from(after.segments != before.segments);
        self.met.unsealed += usize::from(after.segments.len() > after.leaves + 1);
        self.met.unfinished_segment += usize::from(after.creations > 0);
        self.met.torn_tail += usize::from(self.fsck().contains("unfinished tail"));
    }

    /// Starts the agent and kills it while it recovers.
    fn kill_in_recovery(&mut self) {
        self.agent.spawn();
        let fds = format!("/proc/{}/fd", self.agent.pid());
        let until = Instant::now() + Duration::from_secs(10);
        let open = || {
            let fds = std::fs::read_dir(&fds).into_iter().flatten().flatten();
            fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .any(|to| to.extension().is_some_and(|e| e == "seg"))
        };
        while !open() {
            assert!(
                Instant::now() < until,
                "recovery has not begun after 10 s: {}",
                self.agent.stderr()
            );
        }
        std::thread::sleep(Duration::from_micros(rand::random_range(0..1_500)));
        self.agent.kill();
        self.check_left();
        let said = self.agent.log();
        let over = said.iter().any(|line| line["message"] == "journal is open");
        self.met.kills += 1;
        self.met.in_recovery += usize::from(!over);
        self.fsck();
    }

    /// What was signed is kept; `verify` looks at what some of the kills left, of each sort.
    #[track_caller]
    fn check_left(&mut self) {
        self.signed.keep(self.agent.data_dir());
        if long() || self.met.kills % 5 == 4 {
            self.signed.check_left(&self.agent);
        }
    }

    fn start(&mut self) {
        self.agent.start_again();
        self.fsck();
    }

    /// What `journal fsck` says; it must be clean.
    #[track_caller]
    fn fsck(&self) -> String {
        let output = self.agent.run(&["journal", "fsck"]).expect(0);
        assert!(output.stdout.contains("clean"), "{}", output.stdout);
        output.stdout
    }

    /// Judges the journal's files of the agent, which does not run.
    #[track_caller]
    fn judge_journal(&mut self) -> usize {
        let found = in_dump(&self.agent.dump());
        let verdict = self.judge.judge("journal", &found, &[], as_posted).unwrap();
        verdict.unanswered
    }

    /// The end: everything in the journal, in the store, in the API; an orderly stop.
    #[track_caller]
    fn end(&mut self) {
        let last = self.judge.last_seq().unwrap();
        let begin = Instant::now();
        let stored = || self.agent.rows("SELECT max(seq) FROM events")[0][0].as_u64();
        while stored().is_none_or(|seq| seq < last) {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the store has not caught up after 60 s"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let api = self
            .judge
            .judge("API", &in_api(&self.agent, &self.key), &[], as_posted)
            .unwrap();
        assert_eq!(self.agent.stop(), 0, "{}", self.agent.stderr());
        let store = self
            .judge
            .judge("store", &in_store(&self.agent), &[], as_posted)
            .unwrap();
        let journal = self
            .judge
            .judge("journal", &in_dump(&self.agent.dump()), &[], as_posted)
            .unwrap();
        assert_eq!(journal, store, "journal and store hold the same");
        assert_eq!(journal, api, "journal and API give the same");
        self.fsck();
        assert!(self.signed.len() > 1);
        self.signed.check(&self.agent);
        println!(
            "{} events owed and found in journal, store and API; {} more without an answer; {} checkpoints kept, and extended",
            journal.kept,
            journal.unanswered,
            self.signed.len()
        );
    }
}

fn as_posted(event: &Found) -> usize {
    fill(
        event.number,
        event.client.strip_prefix("client-").unwrap().parse().unwrap(),
    )
}

fn round(kernel: bool) -> Met {
    // Before the agent: its first heartbeat counts.
    let oracle = kernel.then(Oracle::start);
    let mut round = Round::begin(kernel);
    let load = kernel.then(|| Load::start(env!("CARGO_BIN_EXE_exec-load"), 0, u64::MAX >> 20, RATE, 2));
    let mut unanswered = 0;
    for kill in 0..KILLS {
        if kill % 4 == 3 {
            round.kill_in_recovery();
            continue;
        }
        if kill > 0 {
            round.start();
        }
        round.kill_under_load();
        // Frames that were written and not answered show as events that nobody is owed.
        if kill % 4 == 2 || kill < 2 {
            let more = round.judge_journal();
            round.met.unanswered += usize::from(more > unanswered);
            unanswered = more;
        }
    }
    round.start();
    drop(load);
    round.end();
    assert!(
        round.ledger.other.is_empty(),
        "nothing but 201 was to be answered: {:?}",
        round.ledger.other.iter().take(5).collect::<Vec<_>>()
    );
    if let Some(oracle) = oracle {
        let seen = oracle.finish();
        let account = Account::of(&round.agent.dump());
        let balance = account.balance(&seen, 0..0, 0).unwrap();
        println!("kernel: {balance:?}, by reason {:?}", account.by_reason());
        assert!(balance.shipped > 0);
    }
    round.met
}

#[test]
fn what_was_answered_survives_kill_9() {
    let begin = Instant::now();
    let mut live = Live::borrow_within(
        "what_was_answered_survives_kill_9 (its kernel half)",
        Duration::from_secs(120),
    );
    let mut sum = Met::default();
    for _ in 0..if long() { ROUNDS } else { 1 } {
        let met = round(live.is_some());
        println!("{met:?}");
        sum.kills += met.kills;
        sum.in_recovery += met.in_recovery;
        sum.torn_tail += met.torn_tail;
        sum.unanswered += met.unanswered;
        sum.new_segment += met.new_segment;
        sum.unsealed += met.unsealed;
        sum.unfinished_segment += met.unfinished_segment;
    }
    if let Some(live) = &mut live {
        live.assert_as_found();
    }
    println!(
        "{sum:?} in {:?}, kernel source {}",
        begin.elapsed(),
        if live.is_some() { "on" } else { "OFF" }
    );
    assert!(sum.torn_tail + sum.unanswered > 0, "no kill met unsynced bytes");
    assert!(
        sum.new_segment > 0 && sum.unsealed + sum.unfinished_segment > 0,
        "no kill met a change of segments"
    );
    assert!(sum.in_recovery > 0, "no kill came inside recovery");
}
