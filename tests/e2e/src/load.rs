//! Producers that post events as fast as they are answered and remember what they were promised.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Http, request};
use crate::{PATIENCE, event};

/// What the agent owes after one 201: these names, at these places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Obligation {
    /// `event_name` of the events, in order.
    pub names: Vec<String>,
    /// Place of the first.
    pub first_seq: u64,
    /// Place of the last.
    pub last_seq: u64,
}

/// Threads that post until told to stop, or until the agent is gone.
pub struct Producers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<Obligation>, Vec<u16>)>>,
    first: mpsc::Receiver<()>,
}

impl Producers {
    /// Starts `count` producers; each request has 1–7 events with names that nobody else uses.
    #[must_use]
    pub fn start(to: SocketAddr, key: &str, count: usize, tag: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, first) = mpsc::channel();
        let threads = (0..count)
            .map(|producer| {
                let (stop, key, tag, tell) = (stop.clone(), key.to_owned(), tag.to_owned(), tell.clone());
                std::thread::spawn(move || produce(to, &key, &format!("{tag}-{producer}"), &stop, &tell))
            })
            .collect();
        Self { stop, threads, first }
    }

    /// Waits until this many requests were answered with 201.
    pub fn wait_for(&self, requests: usize) {
        for _ in 0..requests {
            self.first.recv_timeout(PATIENCE).expect("producers get 201");
        }
    }

    /// Ends them and gives what they were promised, and every other status that they saw.
    #[must_use]
    pub fn finish(self) -> (Vec<Obligation>, Vec<u16>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut owed, mut other) = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (mut has, mut saw) = thread.join().expect("a producer panicked");
            owed.append(&mut has);
            other.append(&mut saw);
        }
        (owed, other)
    }
}

fn produce(
    to: SocketAddr,
    key: &str,
    tag: &str,
    stop: &AtomicBool,
    tell: &mpsc::Sender<()>,
) -> (Vec<Obligation>, Vec<u16>) {
    let (mut owed, mut other) = (Vec::new(), Vec::new());
    let Ok(mut http) = Http::try_connect(to) else {
        return (owed, other);
    };
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let names: Vec<String> = (0..=number % 7).map(|at| format!("{tag}-{number}-{at}")).collect();
        let body = names.iter().map(|name| event(name)).collect::<Vec<_>>().join("\n");
        // Without an answer nobody knows: no obligation, and the agent is gone.
        let Ok(answer) = http.send(&request("POST", "/api/v1/events").key(key).ndjson(body)) else {
            break;
        };
        if answer.status == 201 {
            let body = answer.json();
            let place = |name: &str| body[name].as_u64().expect("a seq");
            owed.push(Obligation {
                names,
                first_seq: place("first_seq"),
                last_seq: place("last_seq"),
            });
            // The test may have stopped waiting.
            let _ = tell.send(());
        } else {
            other.push(answer.status);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
    (owed, other)
}

/// Every promise is in the journal: once, at its place, in order.
#[track_caller]
pub fn all_kept(dump: &[Value], owed: &[Obligation]) {
    let mut places: HashMap<u64, &str> = HashMap::new();
    let mut names: HashMap<&str, u32> = HashMap::new();
    for line in dump {
        let name = line["event"]["event_name"].as_str().unwrap();
        assert_eq!(
            places.insert(line["seq"].as_u64().unwrap(), name),
            None,
            "two at one place"
        );
        *names.entry(name).or_default() += 1;
    }
    assert!(!owed.is_empty());
    for promise in owed {
        assert_eq!(promise.last_seq - promise.first_seq + 1, promise.names.len() as u64);
        for (seq, name) in (promise.first_seq..).zip(&promise.names) {
            assert_eq!(places.get(&seq), Some(&name.as_str()), "seq {seq}");
            assert_eq!(names[name.as_str()], 1, "{name} is there once");
        }
    }
}

/// Processor time that a process used, for tests that it is idle.
#[must_use]
pub fn cpu_share(pid: u32, over: Duration) -> f64 {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .expect("a name")
            .1
            .split_whitespace()
            .map(|f| f.parse().unwrap_or(0))
            .collect();
        (fields[11] + fields[12]) as f64 / rustix::param::clock_ticks_per_second() as f64
    };
    let before = used();
    std::thread::sleep(over);
    (used() - before) / over.as_secs_f64()
}
