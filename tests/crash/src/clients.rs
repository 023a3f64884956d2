//! Clients that post numbered events on connections of their own until the agent is gone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use auditmon_e2e::{Http, PATIENCE, request};

/// One event that was answered with 201.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owed {
    /// Its number: `event_name` is `n-NUMBER`.
    pub number: u64,
    /// Its place, as answered.
    pub seq: u64,
}

/// What one run of the clients came to.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Accepted.
    pub owed: Vec<Owed>,
    /// Refused by an answer that says nothing was stored (503, 507, 429).
    pub refused: Vec<u64>,
    /// Sent, and the connection ended without an answer.
    pub unknown: Vec<u64>,
    /// Statuses other than 201.
    pub other: Vec<u16>,
}

impl Ledger {
    /// Adds another run.
    pub fn absorb(&mut self, mut other: Self) {
        self.owed.append(&mut other.owed);
        self.refused.append(&mut other.refused);
        self.unknown.append(&mut other.unknown);
        self.other.append(&mut other.other);
    }
}

/// Bytes of the filling of the event with this number: every eighth client posts large ones, so that
/// a group is long enough for a kill to tear it.
#[must_use]
pub fn fill(number: u64, client: usize) -> usize {
    if client.is_multiple_of(8) {
        16_000 + (number as usize * 37) % 8_000
    } else {
        (number as usize * 7) % 200
    }
}

/// The event with this number as a client posts it.
#[must_use]
pub fn body(number: u64, client: usize, fill: usize) -> String {
    format!(
        r#"{{"event_name":"n-{number}","username":"client-{client}","event_data":{{"fill":"{}"}}}}"#,
        "x".repeat(fill)
    )
}

/// The clients, running.
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Ledger>>,
    first: mpsc::Receiver<()>,
}

impl Clients {
    /// Starts `count` clients, each on a connection that is kept alive. Numbers come from `next`.
    #[must_use]
    pub fn start(to: SocketAddr, key: &str, count: usize, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, first) = mpsc::channel();
        let threads = (0..count)
            .map(|client| {
                let (stop, key, next, tell) = (stop.clone(), key.to_owned(), next.clone(), tell.clone());
                std::thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn(move || run(to, &key, client, &next, &stop, &tell))
                    .unwrap()
            })
            .collect();
        Self { stop, threads, first }
    }

    /// Waits for the first 201.
    pub fn await_first(&self) {
        self.first.recv_timeout(PATIENCE).expect("a 201");
    }

    /// Waits for their end: they end by themselves when the agent is gone.
    #[must_use]
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for thread in self.threads {
            all.absorb(thread.join().expect("a client panicked"));
        }
        all
    }
}

fn run(
    to: SocketAddr,
    key: &str,
    client: usize,
    next: &AtomicU64,
    stop: &AtomicBool,
    tell: &mpsc::Sender<()>,
) -> Ledger {
    let mut ledger = Ledger::default();
    let Ok(mut http) = Http::try_connect(to) else {
        return ledger;
    };
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let post = request("POST", "/api/v1/events")
            .key(key)
            .json(body(number, client, fill(number, client)));
        let Ok(answer) = http.send(&post) else {
            ledger.unknown.push(number);
            break;
        };
        if answer.status == 201 {
            let seq = answer.json()["first_seq"].as_u64().expect("first_seq");
            ledger.owed.push(Owed { number, seq });
            // The test may have stopped waiting.
            let _ = tell.send(());
        } else {
            ledger.refused.push(number);
            ledger.other.push(answer.status);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
    ledger
}
