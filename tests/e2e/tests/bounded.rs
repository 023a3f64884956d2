//! Memory, connections and disk stay within bounds, whatever clients and sinks do.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use auditmon_e2e::{Agent, Http, PATIENCE, Raw, event, eventually, request};

/// 150 MB in KiB, less 16 MB that are resident of the released binary and its libraries. Of the binary under test it is
/// more, which says nothing of what the agent holds, so pages of files are not counted: see [`peak`].
const MAX_PEAK: u64 = (150_000_000 - 16_000_000) / 1024;
/// One storm at a time: they measure, and this process has only so many descriptors.
static ALONE: Mutex<()> = Mutex::new(());

/// The most that the agent held so far, in KiB, without pages of files.
fn peak(agent: &Agent) -> u64 {
    agent.memory_kib("VmHWM").saturating_sub(agent.memory_kib("RssFile"))
}

fn alone() -> MutexGuard<'static, ()> {
    // A storm that failed is no reason for the next one to fail.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const CLIENTS: usize = 64;
const POSTS: usize = 6;
const STALLED: usize = 2_000;

/// This process holds the clients' ends.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = (STALLED + 1_000) as u64;
    assert!(
        limit.maximum.is_none_or(|max| max >= wanted),
        "ulimit -Hn has to be {wanted} at least"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        },
    )
    .unwrap();
}

/// A body of 1 MiB: 1,024 events.
fn mebibyte(name: &str) -> String {
    let start = format!(r#"{{"event_name":"{name}","username":"u","event_data":{{"p":""#);
    let line = format!("{start}{}\"}}}}\n", "p".repeat(1024 - start.len() - 4));
    line.repeat(1024)
}

/// Events that grow most on their way: 34 bytes each become several hundred.
fn tiny() -> String {
    "{\"event_name\":\"n\",\"username\":\"u\"}\n".repeat(10_000)
}

/// Many clients post this body, many more begin a large body and stand still. Gives how many events were accepted.
fn storm(agent: &Agent, body: &str) -> u64 {
    raise_descriptors();
    let listen = agent.listen();
    let events = body.lines().count() as u64;
    let (accepted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut stalled: Vec<Raw> = Vec::with_capacity(STALLED);
    let begun = agent.events("").ndjson(vec![b' '; 16 << 20]);
    for _ in 0..STALLED {
        let mut raw = agent.raw();
        raw.send(&begun.head()).unwrap();
        raw.send(event("never").as_bytes()).unwrap();
        stalled.push(raw);
    }
    thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                let _ = request("GET", "/livez").send(listen).expect(200);
                slowest = slowest.max(start.elapsed());
                thread::sleep(Duration::from_millis(50));
            }
            slowest
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (accepted, request) = (&accepted, agent.events("").ndjson(body));
                scope.spawn(move || {
                    let until = Instant::now() + PATIENCE * 3;
                    let mut left = POSTS;
                    while left > 0 {
                        assert!(
                            Instant::now() < until,
                            "a client that comes back as told is served at last"
                        );
                        let answer = request.try_send(listen).expect("an answer");
                        if answer.status == 201 {
                            assert_eq!(answer.json()["accepted"], events);
                            accepted.fetch_add(events, Ordering::Relaxed);
                            left -= 1;
                        } else {
                            // http.memory is taken by others: come back later, as the answer says.
                            assert_eq!(answer.status, 503, "{}", answer.text());
                            assert!(answer.header("retry-after").is_some());
                            thread::sleep(Duration::from_millis(200));
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let slowest = probe.join().unwrap();
        assert!(slowest < Duration::from_secs(10), "/livez took {slowest:?}");
    });
    for mut raw in stalled {
        let status = raw.answer().map_or(0, |answer| answer.status);
        assert!(
            [408, 503].contains(&status),
            "a body that stands still is answered and closed, here {status}"
        );
        raw.expect_closed();
    }
    let peak = peak(agent);
    eprintln!("peak: {} MB", peak * 1024 / 1_000_000);
    assert!(peak <= MAX_PEAK, "{peak} KiB");
    accepted.into_inner()
}

const SHORT: &str = "sources: {ingest: {body_timeout: 5s, memory_timeout: 5s}}\n";

fn stored(agent: &Agent) -> u64 {
    agent.rows("SELECT count(*) FROM events WHERE kind = 'application'")[0][0]
        .as_u64()
        .unwrap()
}

#[test]
fn a_storm_without_a_store() {
    let _alone = alone();
    let mut agent = Agent::builder()
        .config(&format!("{SHORT}sinks: {{store: {{enabled: false}}}}\n"))
        .start();
    let accepted = storm(&agent, &mebibyte("c"));
    assert_eq!(accepted, (CLIENTS * POSTS * 1024) as u64);
    assert_eq!(agent.stop(), 0);
    agent.fsck();
}

#[test]
fn a_storm_of_tiny_events() {
    let _alone = alone();
    let mut agent = Agent::builder()
        .config(&format!("{SHORT}sinks: {{store: {{enabled: false}}}}\n"))
        .start();
    let accepted = storm(&agent, &tiny());
    assert_eq!(accepted, (CLIENTS * POSTS * 10_000) as u64);
    assert_eq!(agent.stop(), 0);
    agent.fsck();
}

#[test]
fn a_storm_with_a_blocked_store_that_comes_back() {
    let _alone = alone();
    let agent = Agent::builder().config(SHORT).start();
    let blocked = agent.block_store();
    let accepted = storm(&agent, &mebibyte("c"));
    assert_eq!(stored(&agent), 0);
    drop(blocked);
    eventually("the store has caught up", PATIENCE * 3, || {
        (stored(&agent) >= accepted).then_some(())
    });
    assert_eq!(stored(&agent), accepted, "each once");
    let peak = peak(&agent);
    assert!(peak <= MAX_PEAK, "catching up took {peak} KiB");
}

#[test]
fn large_pages_of_large_events() {
    let _alone = alone();
    let agent = Agent::start();
    let large = |n: u32| {
        format!(
            r#"{{"event_name":"large{n}","username":"u","event_data":{{"p":"{}"}}}}"#,
            "p".repeat(1_000_000)
        )
    };
    for n in 0..20 {
        let body: Vec<_> = (0..15).map(|m| large(n * 15 + m)).collect();
        let _ = agent
            .events("")
            .ndjson(body.join("\n"))
            .send(agent.listen())
            .expect(201);
    }
    eventually("stored", PATIENCE, || (stored(&agent) == 300).then_some(()));
    let peak = peak(&agent);
    assert!(peak <= MAX_PEAK, "storing took {peak} KiB");
    // Pages may be shorter than asked for, but all of it can be read, and nothing is held in memory for it.
    let before = agent.memory_kib("VmRSS");
    agent.forget_peak();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (mut seen, mut cursor) = (0, String::new());
                loop {
                    let answer = agent.get(&format!("/api/v1/events?username=u&limit=1000{cursor}"));
                    if answer.status == 503 {
                        thread::sleep(Duration::from_millis(200));
                        continue;
                    }
                    let page = answer.expect(200).json();
                    seen += page["events"].as_array().unwrap().len();
                    match page["next"].as_str() {
                        Some(next) => cursor = format!("&cursor={next}"),
                        None => break,
                    }
                }
                assert_eq!(seen, 300);
            });
        }
    });
    let grown = agent.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown <= 100 << 10, "{grown} KiB for four readers of pages of 4 MiB");
}

#[test]
fn connections_beyond_the_limit_get_503() {
    let agent = Agent::builder().config("http: {max_connections: 20}\n").start();
    let live = request("GET", "/livez");
    let mut kept: Vec<Http> = Vec::new();
    while kept.len() < 20 {
        let mut http = agent.http();
        // Connections of the start's probes may still be counted for a moment.
        match http.send(&live) {
            Ok(answer) if answer.status == 200 => kept.push(http),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
    let answer = live.send(agent.listen()).expect(503);
    assert!(answer.header("retry-after").is_some() && answer.body.is_empty());
    for http in &mut kept {
        assert_eq!(http.send(&live).unwrap().status, 200, "those that are there are served");
    }
    drop(kept);
    eventually("places are free again", PATIENCE, || {
        (live.try_send(agent.listen()).ok()?.status == 200).then_some(())
    });
}

#[test]
fn a_client_that_takes_no_answer_is_given_up() {
    let agent = Agent::builder()
        .config("http: {body_timeout: 1s, max_connections: 20}\n")
        .start();
    let many = request("GET", "/metrics").head().repeat(2_000);
    let mut deaf: Vec<_> = (0..20).map(|_| agent.raw()).collect();
    for raw in &mut deaf {
        raw.patience(Duration::from_millis(200));
        // Its answers fill every buffer on the way, then the agent stops reading, and this fails.
        let _ = raw.send(&many);
    }
    eventually("their places are free again", PATIENCE, || {
        (request("GET", "/livez").try_send(agent.listen()).ok()?.status == 200).then_some(())
    });
}

#[test]
fn at_the_size_limit_the_api_refuses_until_the_store_is_back() {
    let config = "journal: {max_size: 48MiB, segment_size: 8MiB, reserve: 8MiB, keep: {size: 8MiB, age: 1s}}\n";
    let agent = Agent::builder().config(config).start();
    let blocked = agent.block_store();
    let post = agent.events("").ndjson(mebibyte("x"));
    let mut accepted = 0;
    let refused = loop {
        let answer = post.send(agent.listen());
        if answer.status != 201 {
            break answer;
        }
        accepted += 1024;
        assert!(accepted < 200 * 1024, "the limit is never reached");
    };
    let refused = refused.expect(503);
    assert_eq!(refused.json()["code"], "size_limit");
    assert!(refused.header("retry-after").is_some());
    let ready = agent.get("/readyz").expect(503);
    assert!(ready.text().contains("size_limit"), "{}", ready.text());
    let _ = agent.get("/api/v1/events").expect(200);
    drop(blocked);
    eventually("accepted again, without help", PATIENCE, || {
        (post.send(agent.listen()).status == 201).then(|| accepted += 1024)
    });
    eventually("ready", PATIENCE, || (agent.get("/readyz").status == 200).then_some(()));
    eventually("the store has all", PATIENCE, || {
        (stored(&agent) >= accepted).then_some(())
    });
    assert_eq!(stored(&agent), accepted);
}

#[test]
fn requests_that_fill_the_memory_together_dont_wait_for_each_other() {
    let _alone = alone();
    raise_descriptors();
    let agent = Agent::builder().config("sinks: {store: {enabled: false}}\n").start();
    let body = tiny();
    let (most, last) = body.split_at(body.len() - 1);
    let request = agent.events("").ndjson(body.as_str());
    // Together their events need several times http.memory; each has all of its body but one byte.
    let mut clients: Vec<Raw> = (0..98).map(|_| agent.raw()).collect();
    for raw in &mut clients {
        raw.send(&request.head()).unwrap();
        raw.send(most.as_bytes()).unwrap();
    }
    let start = Instant::now();
    for raw in &mut clients {
        raw.send(last.as_bytes()).unwrap();
    }
    for mut raw in clients {
        assert_eq!(raw.answer().unwrap().expect(201).json()["accepted"], 10_000);
    }
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}: they waited for http.memory to time out",
        start.elapsed()
    );
}
