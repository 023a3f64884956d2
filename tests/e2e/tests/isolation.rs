//! Four sinks that do everything wrong beside the store and a webhook, under load: the faults are theirs alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auditmon_e2e::receiver::Receiver;
use auditmon_e2e::{Agent, PATIENCE, event, eventually, request};

/// Events a second.
const RATE: usize = 5_000;
/// How many a request.
const EACH: usize = 250;
const SECONDS: usize = 8;
/// How far a healthy sink may be behind; a user is promised a second, a busy machine gets ten.
const BEHIND: f64 = 10.0;
const MAX_KIB: u64 = 250 << 10;

/// Posts at the rate and looks after each request how far the healthy ones are behind; the largest lag of each.
fn load(agent: &Agent, healthy: &[&'static str]) -> BTreeMap<&'static str, f64> {
    let mut http = agent.http();
    let begin = Instant::now();
    let mut most = BTreeMap::new();
    for round in 0..(RATE / EACH * SECONDS) {
        let due = begin + Duration::from_secs_f64((round * EACH) as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let names = (0..EACH).map(|at| event(&format!("load-{round}-{at}")));
        let body = names.collect::<Vec<_>>().join("\n");
        let request = request("POST", "/api/v1/events").key(agent.key()).ndjson(body);
        assert_eq!(http.send(&request).unwrap().status, 201);
        if round % 5 == 0 {
            for sink in healthy {
                let lag = agent.metric(&format!("auditmon_sink_lag_seconds{{sink=\"{sink}\"}}"));
                let most = most.entry(*sink).or_insert(0.0_f64);
                *most = most.max(lag.unwrap());
            }
        }
    }
    println!(
        "{} events in {:?}; furthest behind: {most:?}",
        RATE * SECONDS,
        begin.elapsed()
    );
    most
}

#[test]
fn four_sinks_that_do_everything_wrong_harm_nobody() {
    let receiver = Receiver::start(|_| 200_u16);
    let config = format!(
        "sinks:\n  webhook: {{siem: {{url: \"http://{}/\", body: array, batch: {{events: 1000}}}}}}\n  demosinks:\n    \
         panics: {{file: a, fault: panic}}\n    hangs: {{file: b, fault: hang, timeout: 1s}}\n    \
         lies: {{file: c, fault: foreign}}\n    refuses: {{file: d, fault: tenth}}\n",
        receiver.address()
    );
    let mut agent = Agent::builder().test_plugins().config(&config).start();
    let most = load(&agent, &["store", "webhook.siem"]);
    for (sink, behind) in &most {
        assert!(*behind < BEHIND, "{sink} was {behind} s behind");
    }
    let peak = agent.memory_kib("VmHWM");
    assert!(peak < MAX_KIB, "{peak} KiB");

    // The others have everything, each once.
    let total = RATE * SECONDS;
    eventually("the store has everything", PATIENCE, || {
        let rows = agent.rows("SELECT count(*), count(DISTINCT seq) FROM events WHERE event_name LIKE 'load-%'");
        (rows[0] == [total, total].map(serde_json::Value::from)).then_some(())
    });
    eventually("the receiver has everything", PATIENCE, || {
        let taken = receiver.taken().iter().filter(|name| name.starts_with("load-")).count();
        (taken >= total).then_some(())
    });

    // Status, metric, and one event each.
    for (sink, state, says) in [
        ("demosinks.panics", "failed", "fault of the program"),
        ("demosinks.hangs", "degraded", "no answer within 1s"),
        ("demosinks.lies", "failed", "which it was not given"),
    ] {
        let plugin = agent.await_state(sink, state);
        assert!(plugin["reason"].as_str().unwrap().contains(says), "{plugin}");
        let lag = agent.metric(&format!("auditmon_sink_lag_entries{{sink=\"{sink}\"}}"));
        assert!(lag.unwrap() >= total as f64, "{sink}: {lag:?}");
    }
    assert_eq!(agent.plugin("demosinks.refuses")["state"], "ok");
    let refused = "auditmon_sink_events_total{result=\"dead_letter\",sink=\"demosinks.refuses\"}";
    eventually("a tenth is refused", PATIENCE, || {
        (agent.metric(refused).unwrap() >= (total / 10) as f64).then_some(())
    });
    // It is well, and status tells of it all the same.
    let letters = eventually("status tells of each that was refused", PATIENCE, || {
        let status = agent.run(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["plugins"]["store"]["dead_letters"], 0);
        let letters = status["plugins"]["demosinks.refuses"]["dead_letters"].as_u64();
        letters.filter(|letters| agent.metric(refused) == Some(*letters as f64))
    });
    let text = agent.run(&["status"]).stdout;
    let says = format!("{letters} refused for good (auditmon dlq list demosinks.refuses)");
    let told = |line: &str| line.starts_with("demosinks.refuses ") && line.ends_with(&says);
    assert!(text.lines().any(told), "{text}");
    let restarts = agent.metric("auditmon_plugin_restarts_total{plugin=\"demosinks.panics\"}");
    assert!(restarts.unwrap() >= 1.0);

    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in agent.dump() {
        let event = &line["event"];
        let name = event["event_name"].as_str().unwrap();
        if event["kind"] == "agent" && (name.starts_with("sink.") || name.starts_with("plugin.")) {
            let data = &event["event_data"];
            let of = data["sink"].as_str().or(data["plugin"].as_str()).unwrap();
            *told.entry((of.to_owned(), name.to_owned())).or_default() += 1;
        }
    }
    let once = |sink: &str, name: &str| ((format!("demosinks.{sink}"), name.to_owned()), 1);
    let wanted = BTreeMap::from([
        once("hangs", "sink.failed"),
        once("lies", "sink.failed"),
        once("panics", "sink.failed"),
        once("refuses", "sink.dead_letter"),
    ]);
    assert_eq!(told, wanted, "{}", agent.stderr());
    agent.fsck();
}
