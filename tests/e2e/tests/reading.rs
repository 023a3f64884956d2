//! Reading what was written: `GET /api/v1/events`, probes, health, metrics, `auditmon events`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use auditmon_e2e::{Agent, PATIENCE, event, eventually, request};
use serde_json::{Value, json};

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event_name"].as_str().unwrap())
        .collect()
}

/// Events that differ in each member, in an agent that has stored them all.
fn filled() -> Agent {
    let agent = Agent::builder().config("host: web-1\n").start();
    let events = json!([
        {"event_name": "e0", "username": "alice", "event_time": "2026-01-01T00:00:00Z"},
        {"event_name": "e1", "username": "bob", "event_time": "2026-01-02T00:00:00.5Z", "resource": "/a b&c", "outcome": "success"},
        {"event_name": "e2", "username": "alice", "event_time": "2026-01-03T00:00:00Z", "source_ip_address": "10.0.0.1", "severity": "error"},
        {"event_name": "e3", "username": "größe", "event_time": "2026-01-04T00:00:00Z", "request_id": "r1", "read_only": true},
    ]);
    let _ = agent.post(events.to_string()).expect(201);
    let _ = agent.await_events("?kind=application", 4);
    agent
}

#[test]
fn filters_compare_exactly_and_together() {
    let agent = filled();
    let all = agent.await_events("?kind=application&order=asc", 4);
    assert_eq!(names(&all), ["e0", "e1", "e2", "e3"]);
    let id = all[1]["event_id"].as_str().unwrap();
    let by_id = format!("event_id={id}");
    let cases: [(&str, &[&str]); 26] = [
        ("username=alice", &["e2", "e0"]),
        ("username=Alice", &[]),
        ("username=ali", &[]),
        ("username=gr%C3%B6%C3%9Fe", &["e3"]),
        ("event_name=e1", &["e1"]),
        ("resource=%2Fa%20b%26c", &["e1"]),
        ("resource=/a+b%26c", &["e1"]),
        ("source_ip_address=10.0.0.1", &["e2"]),
        ("request_id=r1", &["e3"]),
        ("read_only=true", &["e3"]),
        ("read_only=false&username=alice", &["e2", "e0"]),
        ("outcome=success&kind=application", &["e1"]),
        ("severity=error", &["e2"]),
        ("event_source=default", &["e3", "e2", "e1", "e0"]),
        ("host=web-1&event_source=default", &["e3", "e2", "e1", "e0"]),
        ("host=web-2", &[]),
        ("event_time=2026-01-02T00:00:00.500Z", &["e1"]),
        ("event_time=2026-01-02T01:00:00.5%2B01:00", &["e1"]),
        (&by_id, &["e1"]),
        ("after=2026-01-02T00:00:00.5Z&kind=application", &["e3", "e2", "e1"]),
        ("after=2026-01-02T00:00:00.501Z&kind=application", &["e3", "e2"]),
        ("before=2026-01-03T00:00:00Z", &["e1", "e0"]),
        (
            "after=2026-01-02T00:00:00Z&before=2026-01-03T00:00:00.001Z",
            &["e2", "e1"],
        ),
        ("username=alice&event_name=e1", &[]),
        ("username=alice'%20OR%201=1--", &[]),
        ("kind=agent", &["agent.start"]),
    ];
    for (query, expected) in cases {
        let answer = agent.get(&format!("/api/v1/events?{query}")).expect(200).json();
        assert_eq!(names(answer["events"].as_array().unwrap()), expected, "{query}");
        assert_eq!(answer["next"], Value::Null, "{query}");
    }
    let one = agent.get(&format!("/api/v1/events/{id}")).expect(200).json();
    assert_eq!(one, all[1]);
    assert_eq!(
        one["received_time"].as_str().unwrap().len(),
        "2026-01-01T00:00:00.000000000Z".len()
    );
    // What the API gives is what the journal holds.
    let dump = agent.dump();
    assert_eq!(
        dump.iter().find(|line| line["seq"] == one["seq"]).unwrap()["event"],
        one
    );
}

#[test]
fn faults_of_a_query_are_named() {
    let agent = filled();
    for query in [
        "usrname=a",
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "order=up",
        "after=monday",
        "before=",
        "kind=kernal",
        "outcome=ok",
        "severity=high",
        "read_only=1",
        "event_id=x",
        "event_time=x",
        "event_data=x",
        "username=a&username=b",
        "cursor=nonsense",
        "cursor=AAAA",
        "atomic=true",
    ] {
        let answer = agent.get(&format!("/api/v1/events?{query}")).expect(400);
        assert_eq!(answer.json()["code"], "invalid_parameter", "{query}: {}", answer.text());
    }
    for id in ["01890000-0000-7000-8000-000000000000", "nonsense", "%00", "' OR 1=1"] {
        let _ = agent
            .get(&format!("/api/v1/events/{}", id.replace(' ', "%20")))
            .expect(404);
    }
    for anonymous in [
        request("GET", "/api/v1/events"),
        request("GET", "/api/v1/events/x"),
        request("GET", "/api/v1/events").key("am_x"),
    ] {
        let answer = anonymous.send(agent.listen()).expect(401);
        assert!(answer.header("www-authenticate").is_some());
    }
    let _ = request("GET", "/api/v1/nothing").send(agent.listen()).expect(404);
}

#[test]
fn pages_join_without_gap_or_repetition_while_events_arrive() {
    let agent = Agent::start();
    let lines = |tag: &str| {
        (0..250)
            .map(|n| event(&format!("{tag}{n:03}")))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let _ = agent.events("").ndjson(lines("a")).send(agent.listen()).expect(201);
    let _ = agent.await_events("?kind=application&limit=1000", 250);
    assert_eq!(
        agent.await_events("?kind=application", 100).len(),
        100,
        "a hundred unless told"
    );

    for order in ["asc", "desc"] {
        let mut all = Vec::new();
        let mut cursor = String::new();
        for page in 0.. {
            let answer = agent
                .get(&format!(
                    "/api/v1/events?username=tester&limit=60&order={order}{cursor}"
                ))
                .expect(200)
                .json();
            let events = answer["events"].as_array().unwrap();
            assert!(events.len() <= 60);
            all.extend(events.iter().map(|event| {
                (
                    event["seq"].as_u64().unwrap(),
                    event["event_name"].as_str().unwrap().to_owned(),
                )
            }));
            if page == 1 {
                let _ = agent.events("").ndjson(lines(order)).send(agent.listen()).expect(201);
                let _ = agent.await_events(&format!("?event_name={order}249"), 1);
            }
            match answer["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut sorted = all.clone();
        sorted.sort();
        if order == "desc" {
            sorted.reverse();
        }
        assert_eq!(all, sorted, "by seq");
        let seqs: BTreeSet<_> = all.iter().map(|(seq, _)| seq).collect();
        assert_eq!(seqs.len(), all.len(), "none twice");
        let got: BTreeSet<_> = all.iter().map(|(_, name)| name.as_str()).collect();
        assert!(
            (0..250).all(|n| got.contains(format!("a{n:03}").as_str())),
            "{order}: one of the first is missing"
        );
    }
    // A cursor belongs to its query's order or is refused, but never breaks anything.
    let next = agent.get("/api/v1/events?limit=1").json()["next"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        [200, 400].contains(
            &agent
                .get(&format!("/api/v1/events?order=asc&limit=1&cursor={next}"))
                .status
        )
    );
}

/// An id that is as likely as this one, and nobody's.
fn neighbour(id: &str) -> String {
    let (head, last) = id.split_at(id.len() - 1);
    format!("{head}{}", if last == "0" { "1" } else { "0" })
}

#[test]
fn what_retention_deleted_is_gone_and_what_never_was_is_not_found() {
    let mut agent = Agent::builder()
        .config(
            "journal: {segment_size: 64KiB, keep: {age: 1s}}\n\
             sinks: {store: {retention: {application: 1s, interval: 1s}}}\n",
        )
        .start();
    let answer = agent.post(event("short-lived")).expect(201).json();
    let (id, seq) = (
        answer["ids"][0].as_str().unwrap(),
        answer["first_seq"].as_u64().unwrap(),
    );
    let path = format!("/api/v1/events/{id}");
    let is_gone = |agent: &Agent, when: &str| {
        let answer = agent.get(&path);
        assert_eq!(answer.status, 410, "{when}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["code"], "gone", "{when}");
        let _ = agent.get(&format!("/api/v1/events/{}", neighbour(id))).expect(404);
    };
    eventually("the store's retention", PATIENCE, || {
        (agent.get(&path).status != 200).then_some(())
    });
    is_gone(&agent, "the journal has the payload still");
    agent.restart();
    is_gone(&agent, "after a restart");

    let large = json!({"event_name": "large", "username": "u", "event_data": {"x": "x".repeat(20_000)}}).to_string();
    eventually("the journal's retention", PATIENCE, || {
        let _ = agent.post(large.clone()).expect(201);
        let oldest = agent.get("/healthz").json()["journal"]["oldest"].as_u64().unwrap();
        (oldest > seq).then_some(())
    });
    is_gone(&agent, "only its leaf is left");
    agent.restart();
    is_gone(&agent, "only its leaf is left, after a restart");
}

#[test]
fn an_event_that_waits_for_the_store_is_found_by_its_id() {
    let agent = Agent::start();
    let _ = agent.post(event("before")).expect(201);
    let _ = agent.await_events("?event_name=before", 1);
    let blocked = agent.block_store();
    let id = agent.post(event("waits")).expect(201).json()["ids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/api/v1/events/{id}");
    let waiting = agent.get(&path).expect(200).json();
    assert_eq!(waiting["event_name"], "waits");
    let _ = agent.get(&format!("/api/v1/events/{}", neighbour(&id))).expect(404);
    assert_eq!(
        agent.rows("SELECT count(*) FROM events WHERE event_name = 'waits'")[0][0],
        0
    );
    drop(blocked);
    let stored = agent.await_events("?event_name=waits", 1);
    assert_eq!(stored, [waiting], "the same as the store has it");
}

#[test]
fn the_events_command_takes_the_same_parameters() {
    let mut agent = filled();
    let lines =
        |output: &str| -> Vec<Value> { output.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    for round in ["running", "stopped"] {
        let all = lines(&agent.run(&["events", "--kind", "application"]).expect(0).stdout);
        assert_eq!(
            names(&all),
            ["e3", "e2", "e1", "e0"],
            "{round}: one event a line where stdout is no terminal"
        );
        let some = agent
            .run(&[
                "events",
                "--username",
                "alice",
                "--order",
                "asc",
                "--limit",
                "1",
                "--json",
            ])
            .expect(0)
            .stdout;
        assert_eq!(names(&lines(&some)), ["e0"], "{round}");
        let _ = agent.run(&["events", "--outcome", "fine"]).expect(2);
        let _ = agent.run(&["events", "--nonsense", "x"]).expect(2);
        if round == "running" {
            assert_eq!(agent.stop(), 0);
        }
    }
}

#[test]
fn without_a_store_reading_says_so_and_the_rest_works() {
    let agent = Agent::builder().config("sinks: {store: {enabled: false}}\n").start();
    let _ = agent.post(event("kept in the journal")).expect(201);
    assert_eq!(agent.get("/api/v1/events").expect(503).json()["code"], "no_store");
    assert_eq!(
        agent
            .get("/api/v1/events/01890000-0000-7000-8000-000000000000")
            .expect(503)
            .json()["code"],
        "no_store"
    );
    assert_eq!(agent.get("/healthz").json()["plugins"]["store"]["state"], "disabled");
    let _ = agent.get("/readyz").expect(200);
    assert!(!agent.data_dir().join("events.db").exists());
}

#[test]
fn a_store_that_was_off_takes_up_what_the_journal_holds() {
    let mut agent = Agent::builder().arg("--disable").arg("store").start();
    let _ = agent.post(event("while off")).expect(201);
    assert_eq!(agent.stop(), 0);
    let mut with_store = Agent::builder().data_dir(agent.data_dir()).place();
    with_store.start_again();
    eventually("the store has it", PATIENCE, || {
        (with_store.rows("SELECT count(*) FROM events WHERE event_name = 'while off'")[0][0] == 1).then_some(())
    });
}

#[test]
fn the_store_holds_the_journals_bytes_once_each() {
    let mut agent = Agent::start();
    for n in 0..20 {
        let _ = agent.post(event(&format!("n{n}"))).expect(201);
        if n % 5 == 4 {
            agent.kill();
            agent.start_again();
        }
    }
    let _ = agent.await_events("?username=tester", 20);
    let dump = agent.dump();
    let rows = eventually("all are stored", PATIENCE, || {
        let rows = agent.rows("SELECT seq, origin, canonical, length(salt) FROM events ORDER BY seq");
        (rows.len() == dump.len()).then_some(rows)
    });
    for (row, line) in rows.iter().zip(&dump) {
        assert_eq!((&row[0], &row[1]), (&line["seq"], &line["event"]["origin"]));
        let mut canonical: Value = serde_json::from_str(row[2].as_str().unwrap()).unwrap();
        for place in ["origin", "seq", "received_time"] {
            canonical[place] = line["event"][place].clone();
        }
        assert_eq!(canonical, line["event"]);
        assert_eq!(row[3], 16, "the salt");
    }
}

#[test]
fn probes_and_health_need_no_key() {
    let agent = Agent::start();
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ready\n"), ("/api/v1/healthz", "OK")] {
        let answer = request("GET", path).send(agent.listen()).expect(200);
        assert_eq!(answer.text(), body, "{path}");
    }
    let health = request("GET", "/healthz").send(agent.listen()).expect(200);
    assert_eq!(health.header("content-type"), Some("application/json"));
    let health = health.json();
    let plugins = health["plugins"].as_object().unwrap();
    assert_eq!(
        plugins.keys().collect::<Vec<_>>(),
        ["immudb", "ingest", "kernel", "prometheus", "stdout", "store", "web"]
    );
    for (name, plugin) in plugins {
        let expected = if ["immudb", "kernel", "stdout"].contains(&name.as_str()) {
            "disabled"
        } else {
            "ok"
        };
        assert_eq!(plugin["state"], expected, "{name}: {plugin}");
        assert!(
            plugin["since"].as_str().unwrap().ends_with('Z') && plugin.as_object().unwrap().contains_key("reason"),
            "{plugin}"
        );
    }
    let journal = &health["journal"];
    assert!(
        journal["entries"].as_u64().unwrap() >= 1 && journal["free_bytes"].as_u64().unwrap() > 0,
        "{journal}"
    );
    assert_eq!(journal["paused"], Value::Null);
}

/// Samples of a Prometheus text: name with labels → value. Every line must be well formed.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut typed = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned()), "one TYPE a name: {line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(typed.contains(name) || typed.contains(base), "no TYPE before {line}");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(samples.insert(series.to_owned(), value), None, "twice: {series}");
        }
    }
    samples
}

#[test]
fn metrics_have_their_names_and_count() {
    let agent = Agent::start();
    let _ = agent.post(format!("[{},{{}}]", event("x"))).expect(201);
    let _ = agent.await_events("?event_name=x", 1);
    let _ = request("GET", "/nothing").send(agent.listen()).expect(404);
    let answer = request("GET", "/metrics").send(agent.listen()).expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    let metrics = samples(&answer.text());
    let names: BTreeSet<_> = metrics.keys().map(|series| series.split('{').next().unwrap()).collect();
    let expected = [
        "auditmon_build_info",
        "auditmon_up",
        "auditmon_plugin_state",
        "auditmon_source_events_total",
        "auditmon_source_bytes_total",
        "auditmon_journal_size_entries",
        "auditmon_journal_durable_entries",
        "auditmon_journal_min_entries",
        "auditmon_journal_append_seconds_bucket",
        "auditmon_journal_fsync_seconds_bucket",
        "auditmon_journal_bytes",
        "auditmon_journal_free_bytes",
        "auditmon_sink_events_total",
        "auditmon_sink_lag_entries",
        "auditmon_sink_latency_seconds_bucket",
        "auditmon_http_requests_total",
        "auditmon_http_request_duration_seconds_bucket",
        "auditmon_ingest_events_total",
        "auditmon_store_insert_seconds_bucket",
        "auditmon_store_rows",
        "auditmon_store_lag_records",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ];
    let missing: Vec<_> = expected.into_iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
    let value = |series: &str| {
        *metrics
            .get(series)
            .unwrap_or_else(|| panic!("{series}\n{}", answer.text()))
    };
    assert_eq!(
        value(r#"auditmon_ingest_events_total{key="default",result="accepted"}"#),
        1.0
    );
    assert_eq!(
        value(r#"auditmon_ingest_events_total{key="default",result="rejected"}"#),
        1.0
    );
    assert_eq!(
        value(r#"auditmon_source_events_total{plugin="ingest",source="default"}"#),
        1.0
    );
    assert_eq!(value(r#"auditmon_plugin_state{plugin="store",state="ok"}"#), 1.0);
    assert_eq!(
        value(r#"auditmon_sink_events_total{result="dead_letter",sink="store"}"#),
        0.0,
        "begun at 0"
    );
    assert_eq!(
        value(r#"auditmon_http_requests_total{code="201",route="/api/v1/events"}"#),
        1.0
    );
    assert_eq!(value(r#"auditmon_http_requests_total{code="404",route="other"}"#), 1.0);
    assert!(value("auditmon_journal_durable_entries") >= 2.0);
    assert!(value(r#"auditmon_sink_events_total{result="ok",sink="store"}"#) >= 1.0);
}

#[test]
fn metrics_can_be_protected() {
    let agent = Agent::builder().config("http: {protect: [metrics]}\n").start();
    let _ = request("GET", "/metrics").send(agent.listen()).expect(401);
    let _ = agent.get("/metrics").expect(200);
    let _ = request("GET", "/readyz").send(agent.listen()).expect(200);
}

#[test]
fn readiness_ends_with_the_signal_and_returns_after_the_disk_does() {
    let agent = Agent::start();
    let disk = auditmon_e2e::SlowDisk::attach(&agent, Duration::from_secs(12));
    let (request, listen) = (agent.events("").json(event("slow")), agent.listen());
    let post = std::thread::spawn(move || request.send(listen));
    let why = eventually("not ready after 5 s", PATIENCE, || {
        let answer = agent.get("/readyz");
        (answer.status == 503).then(|| answer.text())
    });
    assert!(why.contains("disk"), "{why}");
    let _ = agent.get("/livez").expect(200);
    assert_eq!(post.join().unwrap().status, 201);
    drop(disk);
    eventually("ready again", PATIENCE, || {
        (agent.get("/readyz").status == 200).then_some(())
    });
}

#[test]
fn the_stdout_sink_writes_one_event_a_line() {
    let mut agent = Agent::builder().arg("--enable").arg("stdout").start();
    for n in 0..3 {
        let _ = agent.post(event(&format!("line\\n{n}"))).expect(201);
    }
    assert_eq!(agent.stop(), 0);
    let stdout: Vec<Value> = agent
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let dump: Vec<Value> = agent.dump().into_iter().map(|line| line["event"].clone()).collect();
    // A live sink starts at the head: `agent.start` was there before it.
    assert_eq!(stdout, dump[1..], "in order, to the last event of the agent");
}
