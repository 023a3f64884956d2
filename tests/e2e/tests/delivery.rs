//! Webhooks through everything that a network does: nothing is lost, order is kept, and only what was on its way comes
//! twice.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auditmon_e2e::authority::Authority;
use auditmon_e2e::receiver::{Receiver, Reply};
use auditmon_e2e::{Agent, PATIENCE, eventually};

fn config(url: &str, more: &str) -> String {
    format!("sinks: {{webhook: {{siem: {{url: \"{url}\", retry: {{min: 20ms, max: 2s}}{more}}}}}}}\n")
}

fn url(receiver: &Receiver) -> String {
    format!("http://{}/hook", receiver.address())
}

/// Events of two users, in turns: `PREFIX-a-000`, `PREFIX-b-000`, …
fn post(agent: &Agent, prefix: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        for user in ["a", "b"] {
            let body = format!(r#"{{"event_name":"{prefix}-{user}-{number:03}","username":"{user}"}}"#);
            let _ = agent.post(body).expect(201);
        }
    }
}

/// Everything has come, and in order for each user.
#[track_caller]
fn all_arrive(receiver: &Receiver, prefix: &str, count: usize) {
    for user in ["a", "b"] {
        let prefix = format!("{prefix}-{user}-");
        let arrived = eventually("everything has come", PATIENCE, || {
            let arrived = receiver.first_times(&prefix);
            (arrived.len() == count).then_some(arrived)
        });
        let sent: Vec<_> = (0..count).map(|number| format!("{prefix}{number:03}")).collect();
        assert_eq!(arrived, sent);
    }
}

/// Events that came again, once for each further time.
fn repeated(receiver: &Receiver, prefix: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let taken = receiver.taken().into_iter();
    taken
        .filter(|name| name.starts_with(prefix) && !seen.insert(name.clone()))
        .collect()
}

/// The how many-th event of [`post`] it is.
fn place(name: &str) -> usize {
    let mut parts = name.rsplitn(3, '-');
    let number: usize = parts.next().unwrap().parse().unwrap();
    2 * number + usize::from(parts.next() == Some("b"))
}

#[test]
fn a_receiver_that_is_down_and_an_agent_that_is_killed_meanwhile() {
    let down = Duration::from_secs(if std::env::var_os("AUDITMON_LONG").is_some() {
        60
    } else {
        10
    });
    let mut receiver = Receiver::down(|_| 200_u16);
    let mut agent = Agent::builder().config(&config(&url(&receiver), "")).start();
    let begin = Instant::now();
    post(&agent, "down", 0..50);
    let degraded = agent.await_state("webhook.siem", "degraded");
    assert!(degraded["reason"].as_str().unwrap().contains("refused"), "{degraded}");
    agent.kill();
    agent.start_again();
    post(&agent, "down", 50..100);
    assert_eq!(agent.plugin("store")["state"], "ok");
    std::thread::sleep(down.saturating_sub(begin.elapsed()));
    receiver.up();
    all_arrive(&receiver, "down", 100);
    assert_eq!(repeated(&receiver, "down"), [""; 0], "nothing was on its way");
    agent.await_state("webhook.siem", "ok");
}

/// Most events of a hand-over. What is not confirmed spans twice as many records at most.
const BATCH: usize = 4;

/// What the receiver remembers.
#[derive(Default)]
struct Told {
    /// When 429 was said.
    at: Option<Instant>,
    /// How long after that the next request came.
    waited: Option<Duration>,
    /// Events that it took without an answer in time: they have to come again.
    unanswered: Vec<String>,
}

#[test]
fn a_receiver_that_fails_in_every_way_and_an_agent_that_is_killed_on_the_way() {
    let told: Arc<Mutex<Told>> = Arc::default();
    let of_receiver = told.clone();
    let receiver = Receiver::start(move |asked| {
        let mut told = of_receiver.lock().unwrap();
        if let (Some(at), None) = (told.at, told.waited) {
            told.waited = Some(at.elapsed());
        }
        let reply = match asked.before {
            2 => {
                told.at = Some(Instant::now());
                Reply::RetryAfter(429, 1)
            }
            5 => Reply::Status(500),
            8 => Reply::Slow(Duration::from_millis(3_500)),
            20 => Reply::Cut,
            26 => Reply::RetryAfter(503, 1),
            _ => Reply::Status(200),
        };
        if matches!(reply, Reply::Slow(_) | Reply::Cut) {
            told.unanswered.extend(asked.names.iter().cloned());
        }
        reply
    });
    let more = format!(", workers: 1, request_timeout: 3s, batch: {{events: {BATCH}}}");
    let mut agent = Agent::builder().config(&config(&url(&receiver), &more)).start();
    post(&agent, "way", 0..20);
    eventually("some have come", PATIENCE, || {
        (receiver.first_times("way").len() >= 5 * BATCH).then_some(())
    });
    agent.kill();
    agent.start_again();
    post(&agent, "way", 20..40);
    all_arrive(&receiver, "way", 40);
    let told = told.lock().unwrap();
    let waited = told.waited.unwrap();
    assert!(waited >= Duration::from_secs(1), "asked again after {waited:?}");
    let unanswered: Vec<_> = told.unanswered.iter().filter(|name| name.starts_with("way")).collect();
    let mut repeated = eventually("what had no answer comes again", PATIENCE, || {
        let repeated = repeated(&receiver, "way");
        unanswered
            .iter()
            .all(|name| repeated.contains(name))
            .then_some(repeated)
    });
    println!("came again: {repeated:?}; had no answer: {unanswered:?}");
    for name in unanswered {
        let again = repeated.iter().position(|other| other == name).unwrap();
        repeated.remove(again);
    }
    // The rest is what was not confirmed when the agent was killed.
    let places: BTreeSet<usize> = repeated.iter().map(|name| place(name)).collect();
    assert_eq!(places.len(), repeated.len(), "twice for one kill: {repeated:?}");
    if let (Some(first), Some(last)) = (places.first(), places.last()) {
        assert!(last - first < 2 * BATCH, "{repeated:?}");
    }
    assert!(
        agent.run(&["dlq", "list"]).stdout.is_empty(),
        "nothing was refused for good"
    );
}

#[test]
fn a_receiver_with_the_certificate_of_a_stranger() {
    let (ours, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let receiver = Receiver::with_tls(stranger.server(), |_| 200_u16);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &ours.pem).unwrap();
    let url = format!("https://localhost:{}/hook", receiver.address().port());
    let more = format!(", ca_file: {}", ca.display());
    let agent = Agent::builder().config(&config(&url, &more)).start();
    post(&agent, "tls", 0..5);
    let degraded = agent.await_state("webhook.siem", "degraded");
    let reason = degraded["reason"].as_str().unwrap();
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    assert_eq!(receiver.asked(), 0, "not a byte of a request");
    // The right authority under the same name: what a key names is looked at, too.
    std::fs::write(&ca, &stranger.pem).unwrap();
    let line = agent.reload();
    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["changed"], "sinks.webhook.siem.ca_file");
    all_arrive(&receiver, "tls", 5);
    assert_eq!(repeated(&receiver, "tls"), [""; 0]);
    agent.await_state("webhook.siem", "ok");
}
