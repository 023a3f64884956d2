//! `POST /api/v1/events`: every answer of its contract, from the real agent.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use auditmon_e2e::{Agent, Answer, PATIENCE, Raw, event, eventually, request};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

/// Index, pointer and code of each rejection; each must have a sentence with it.
#[track_caller]
fn rejections(answer: &Answer) -> Vec<(u64, String, String)> {
    let body = answer.json();
    let list = body["rejected"].as_array().unwrap_or_else(|| panic!("no list: {body}"));
    list.iter()
        .map(|r| {
            assert!(r["message"].as_str().unwrap().len() > 5, "{r}");
            (
                r["index"].as_u64().unwrap(),
                r["pointer"].as_str().unwrap().to_owned(),
                r["code"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

/// A problem document (RFC 9457) with this status; gives its `code`.
#[track_caller]
fn problem(answer: Answer, status: u16) -> String {
    let answer = answer.expect(status);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(
            body[member].as_str().is_some_and(|text| !text.is_empty()),
            "{member}: {body}"
        );
    }
    body["code"].as_str().unwrap().to_owned()
}

fn names(dump: &[Value]) -> Vec<&str> {
    dump.iter()
        .filter(|l| l["event"]["kind"] == "application")
        .map(|l| l["event"]["event_name"].as_str().unwrap())
        .collect()
}

fn gzip(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    chunks.into_iter().for_each(|chunk| encoder.write_all(&chunk).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn one_object_is_stored_with_the_defaults_of_the_event_model() {
    let agent = Agent::builder().config("host: web-1\n").start();
    let answer = agent.post(event("login")).expect(201);
    let body = answer.json();
    let seq = body["first_seq"].as_u64().unwrap();
    assert_eq!(
        body,
        json!({"accepted": 1, "first_seq": seq, "last_seq": seq, "ids": body["ids"], "duplicates": [], "rejected": []})
    );

    let dump = agent.dump();
    let line = dump.iter().find(|line| line["seq"] == seq).unwrap();
    let event = &line["event"];
    assert_eq!(event["event_id"], body["ids"][0]);
    assert!(event["origin"].as_str().unwrap().starts_with("web-1/"), "{event}");
    assert_eq!(line["leaf"].as_str().unwrap().len(), 88, "66 bytes in base64");
    for time in ["event_time", "received_time"] {
        assert!(event[time].as_str().unwrap().ends_with('Z'), "{event}");
    }
    let rest: serde_json::Map<_, _> = event
        .as_object()
        .unwrap()
        .clone()
        .into_iter()
        .filter(|(name, _)| !["event_id", "event_time", "received_time", "origin"].contains(&name.as_str()))
        .collect();
    assert_eq!(
        Value::Object(rest),
        json!({
            "event_name": "login", "username": "tester", "resource": null, "event_source": "default", "source_ip_address": "-",
            "request_id": null, "read_only": false, "kind": "application", "host": "web-1", "outcome": "unknown",
            "severity": "info", "event_data": null, "seq": seq,
        })
    );
}

#[test]
fn every_member_is_kept_as_it_came() {
    let agent = Agent::start();
    let sent = json!({
        "event_time": "2026-01-01T01:00:00.5+01:00", "event_name": "größe\u{1F600}\"\\\n", "username": "älice", "resource": "/a/b",
        "event_source": "default", "source_ip_address": "2001:DB8:0:0::1", "request_id": "r-1", "read_only": true,
        "outcome": "failure", "severity": "critical", "event_data": {"n": 1, "list": [1, 2.50, {"deep": null}]},
    });
    let id = agent.post(sent.to_string()).expect(201).json()["ids"][0].clone();
    let dump = agent.dump();
    let event = &dump.iter().find(|line| line["event"]["event_id"] == id).unwrap()["event"];
    for (name, value) in sent.as_object().unwrap() {
        match name.as_str() {
            "event_time" => assert_eq!(event[name], "2026-01-01T00:00:00.500Z"),
            "source_ip_address" => assert_eq!(event[name], "2001:db8::1", "the standard text form"),
            _ => assert_eq!(&event[name], value, "{name}"),
        }
    }
}

#[test]
fn of_a_list_the_good_ones_are_stored_and_the_others_named() {
    let agent = Agent::start();
    let bad = r#"{"username":"u"}"#;
    let list = [event("a"), bad.to_owned(), event("b")];
    let array = agent.post(format!("[{}]", list.join(","))).expect(201);
    let lines = agent
        .events("")
        .ndjson(format!("{}\n\r\n not json\n\n", list.join("\r\n")))
        .send(agent.listen())
        .expect(201);
    assert_eq!(rejections(&array), [(1, "/event_name".into(), "missing".into())]);
    assert_eq!(
        rejections(&lines),
        [
            (1, "/event_name".into(), "missing".into()),
            (3, String::new(), "malformed".into())
        ]
    );

    let dump = agent.dump();
    for answer in [array.json(), lines.json()] {
        assert_eq!(answer["accepted"], 2);
        let (first, last) = (
            answer["first_seq"].as_u64().unwrap(),
            answer["last_seq"].as_u64().unwrap(),
        );
        assert_eq!(last - first + 1, 2, "without gaps");
        let stored: Vec<_> = dump
            .iter()
            .filter(|l| (first..=last).contains(&l["seq"].as_u64().unwrap()))
            .collect();
        let ids: Vec<_> = stored.iter().map(|l| l["event"]["event_id"].clone()).collect();
        assert_eq!(answer["ids"], Value::Array(ids), "in order");
        assert_eq!(
            (&stored[0]["event"]["event_name"], &stored[1]["event"]["event_name"]),
            (&json!("a"), &json!("b"))
        );
    }
}

#[test]
fn nothing_of_an_atomic_request_is_stored_if_one_event_is_bad() {
    let agent = Agent::start();
    let body = format!("[{},{{}}]", event("never"));
    let answer = agent.events("?atomic=true").json(body.clone()).send(agent.listen());
    assert_eq!(
        rejections(&answer),
        [
            (1, "/event_name".into(), "missing".into()),
            (1, "/username".into(), "missing".into())
        ]
    );
    problem(answer, 422);
    // Nothing good at all, and a single bad object, are the same without asking.
    for body in ["[{},{}]", "{}"] {
        problem(agent.post(body), 422);
    }
    assert!(names(&agent.dump()).is_empty());
    let answer = agent
        .events("?atomic=false&ids=true")
        .json(body)
        .send(agent.listen())
        .expect(201);
    assert_eq!(answer.json()["accepted"], 1);
    assert_eq!(names(&agent.dump()), ["never"]);
}

#[test]
fn ids_are_listed_up_to_a_hundred_or_when_asked_for() {
    let agent = Agent::start();
    let send = |count: usize, query: &str| {
        let body = vec![event("x"); count].join("\n");
        agent.events(query).ndjson(body).send(agent.listen()).expect(201).json()
    };
    assert_eq!(send(100, "")["ids"].as_array().unwrap().len(), 100);
    assert_eq!(send(101, "").get("ids"), None);
    assert_eq!(send(101, "?ids=true")["ids"].as_array().unwrap().len(), 101);
}

#[test]
fn each_fault_has_its_code_and_place() {
    let agent = Agent::start();
    let deep = |levels: usize| {
        format!(
            r#""event_data":{}{}"#,
            r#"{"a":"#.repeat(levels - 1) + "{",
            "}".repeat(levels)
        )
    };
    let long = |name: &str, bytes: usize| format!(r#""{name}":"{}""#, "x".repeat(bytes));
    let cases = [
        (r#""read_only":"yes""#.into(), "/read_only", "wrong_type"),
        (r#""resource":5"#.into(), "/resource", "wrong_type"),
        (r#""event_data":[1]"#.into(), "/event_data", "wrong_type"),
        (long("resource", 4097), "/resource", "too_long"),
        (long("request_id", 257), "/request_id", "too_long"),
        (deep(10_000), "/event_data/a", "too_deep"),
        (deep(33), "/event_data/a", "too_deep"),
        (
            r#""resource":"a","resource":"b""#.into(),
            "/resource",
            "duplicate_member",
        ),
        (
            r#""event_data":{"a":{"b":1,"\u0062":2}}"#.into(),
            "/event_data/a/b",
            "duplicate_member",
        ),
        (r#""resource":"\ud800""#.into(), "/resource", "invalid_text"),
        (r#""resource":"a\u0000""#.into(), "/resource", "invalid_text"),
        (r#""event_data":{"a":"\udfff"}"#.into(), "/event_data/a", "invalid_text"),
        (r#""event_data":{"a\u0000":1}"#.into(), "/event_data", "invalid_text"),
        (r#""event_time":"yesterday""#.into(), "/event_time", "invalid_time"),
        (
            r#""event_time":"2026-01-01T00:00:60Z""#.into(),
            "/event_time",
            "invalid_time",
        ),
        (
            r#""event_time":"2026-01-01T00:00:00.1234567890Z""#.into(),
            "/event_time",
            "invalid_time",
        ),
        (
            r#""event_time":"2199-01-01T00:00:00Z""#.into(),
            "/event_time",
            "invalid_time",
        ),
        (
            r#""source_ip_address":"300.1.1.1""#.into(),
            "/source_ip_address",
            "invalid_address",
        ),
        (r#""outcome":"fine""#.into(), "/outcome", "invalid_value"),
        (r#""severity":"bad""#.into(), "/severity", "invalid_value"),
        (r#""event_source":"billing""#.into(), "/event_source", "source_mismatch"),
        (r#""usrname":"u""#.into(), "/usrname", "unknown_member"),
        (r#""event_id":"x""#.into(), "/event_id", "agent_field"),
        (r#""kind":"kernel""#.into(), "/kind", "agent_field"),
        (r#""host":"h""#.into(), "/host", "agent_field"),
        (r#""seq":1"#.into(), "/seq", "agent_field"),
        (r#""received_time":"x""#.into(), "/received_time", "agent_field"),
        (r#""origin":"x""#.into(), "/origin", "agent_field"),
    ];
    let mut http = agent.http();
    for (member, pointer, code) in cases {
        let member: String = member;
        let body = format!(r#"{{"event_name":"n","username":"u",{member}}}"#);
        let answer = http.send(&agent.events("").json(body)).unwrap();
        let shown = &member[..member.len().min(60)];
        assert_eq!(answer.status, 422, "{shown}: {}", answer.text());
        let faults = rejections(&answer);
        assert_eq!(faults.len(), 1, "{shown}: {faults:?}");
        let (index, at, got) = &faults[0];
        assert_eq!((*index, got.as_str()), (0, code), "{shown}");
        assert!(at.starts_with(pointer), "{shown}: {at}");
        problem(answer, 422);
    }
    let answer = agent.post(r#"{"event_name":"n","username":"u","usrname":"u"}"#);
    assert!(
        answer.text().contains("`username`"),
        "the nearest name: {}",
        answer.text()
    );
    // The limits themselves are allowed, and what counts as absent.
    let good = format!(
        r#"{{"event_name":"{}","username":"u",{},{},"event_time":null,"outcome":"","source_ip_address":"-"}}"#,
        "n".repeat(256),
        long("resource", 4096),
        deep(32)
    );
    let _ = agent.post(good).expect(201);
    agent.fsck();
}

#[test]
fn a_body_that_is_no_list_of_events_is_refused_as_a_whole() {
    let agent = Agent::start();
    let nested = "[".repeat(1_000_000);
    let bodies: [&[u8]; 13] = [
        b"",
        b" \n ",
        b"[]",
        b" [ ] ",
        b"{",
        b"[{},]",
        b"[{}] x",
        b"{} {}",
        b"nonsense",
        b"[{\"event_name\":\"\xff\"}]",
        b"{\"event_name\":\"\xff\"}",
        nested.as_bytes(),
        b"[1,2",
    ];
    for body in bodies {
        assert_eq!(
            problem(agent.post(body), 400),
            "malformed",
            "{}",
            String::from_utf8_lossy(&body[..body.len().min(40)])
        );
    }
    for body in ["", "\n\n \r\n"] {
        problem(agent.events("").ndjson(body).send(agent.listen()), 400);
    }
    // Values that are no objects are faults of events, not of the body.
    let answer = agent.post("[1,null,\"x\"]");
    assert!(
        rejections(&answer).iter().all(|(_, _, code)| code == "wrong_type"),
        "{}",
        answer.text()
    );
    problem(answer, 422);
    assert!(names(&agent.dump()).is_empty());
}

#[test]
fn bad_utf8_in_one_line_costs_that_line_only() {
    let agent = Agent::start();
    let mut body = event("good").into_bytes();
    body.extend_from_slice(b"\n{\"event_name\":\"\xff\",\"username\":\"u\"}\n");
    body.extend_from_slice(event("good too").as_bytes());
    let answer = agent.events("").ndjson(body).send(agent.listen()).expect(201);
    assert_eq!(rejections(&answer), [(1, String::new(), "invalid_text".into())]);
    assert_eq!(names(&agent.dump()), ["good", "good too"]);
}

#[test]
fn parameters_are_known_ones() {
    let agent = Agent::start();
    for query in ["?atomc=true", "?atomic=maybe", "?atomic", "?ids=1"] {
        let answer = agent.events(query).json(event("x")).send(agent.listen());
        assert_eq!(problem(answer, 400), "invalid_parameter", "{query}");
    }
    assert!(names(&agent.dump()).is_empty());
}

#[test]
fn keys_open_what_their_scopes_say() {
    let agent = Agent::start();
    let (writer, reader) = (
        agent.create_key("billing", "write"),
        agent.create_key("dashboard", "read"),
    );
    let post = |key: &str| {
        request("POST", "/api/v1/events")
            .key(key)
            .json(event("x"))
            .send(agent.listen())
    };
    eventually("the agent follows", Duration::from_secs(10), || {
        (post(&writer).status == 201).then_some(())
    });
    eventually("the agent follows", Duration::from_secs(10), || {
        (post(&reader).status == 403).then_some(())
    });

    for anonymous in [
        request("POST", "/api/v1/events"),
        request("POST", "/api/v1/events").key("am_wrong"),
        request("POST", "/api/v1/events").key(""),
        request("POST", "/api/v1/events").header("authorization", "Basic dXNlcjpwYXNz"),
        request("POST", "/api/v1/events").header("cookie", "auditmon_session=x"),
    ] {
        // Also a large body must not hide the answer.
        for body in [event("x"), "x".repeat(4 << 20)] {
            let answer = anonymous.clone().json(body).send(agent.listen());
            assert!(answer.header("www-authenticate").is_some(), "{:?}", answer.headers);
            problem(answer, 401);
        }
    }
    problem(post(&reader), 403);
    problem(request("GET", "/api/v1/events").key(&writer).send(agent.listen()), 403);
    let _ = request("POST", "/api/v1/events")
        .header("x-api-key", &writer)
        .json(event("y"))
        .send(agent.listen())
        .expect(201);
    let dump = agent.dump();
    assert!(
        dump.iter()
            .any(|l| l["event"]["event_source"] == "billing" && l["event"]["event_name"] == "y")
    );

    let _ = agent.run(&["keys", "revoke", "billing"]).expect(0);
    eventually("a revoked key is refused", Duration::from_secs(10), || {
        (post(&writer).status == 401).then_some(())
    });
}

#[test]
fn the_keys_command_prints_the_secret_alone_and_once() {
    let agent = Agent::builder().place();
    let made = agent.run(&["keys", "create", "billing"]).expect(0);
    let secret = made.stdout.strip_suffix('\n').unwrap();
    assert!(
        secret.len() >= 64 && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        "{secret}"
    );
    let list = agent.run(&["keys", "list"]).expect(0).stdout;
    let line = list.lines().find(|line| line.contains("billing")).unwrap();
    assert!(line.contains("write") && !line.contains("read"), "{line}");
    let database = std::fs::read(agent.data_dir().join("accounts.db")).unwrap();
    let clear = |text: &[u8]| text.windows(secret.len()).any(|w| w == secret.as_bytes());
    assert!(
        !list.contains(secret) && !clear(&database),
        "the secret is kept nowhere"
    );

    for (name, why) in [
        ("billing", "never used twice"),
        ("kernel", "a plugin's"),
        ("agent", "reserved"),
        ("Bad Name", "letters"),
        ("", "empty"),
    ] {
        let refused = agent.run(&["keys", "create", name]);
        assert_ne!(refused.code, 0, "{name}: {why}");
        assert_eq!(
            (refused.stdout.as_str(), refused.stderr.trim_end().lines().count()),
            ("", 1),
            "{}",
            refused.stderr
        );
    }
    let _ = agent.run(&["keys", "create", "x", "--scopes", "admin"]).expect(2);
    let _ = agent.run(&["keys", "revoke", "billing"]).expect(0);
    assert_ne!(agent.run(&["keys", "revoke", "billing"]).code, 0);
    assert_ne!(
        agent.run(&["keys", "create", "billing"]).code,
        0,
        "a revoked name is not free again"
    );
    assert_ne!(agent.run(&["keys", "revoke", "nobody"]).code, 0);
}

#[test]
fn formats_and_encodings_are_known_ones() {
    let agent = Agent::start();
    let bare = || request("POST", "/api/v1/events").key(agent.key());
    for media in ["text/plain", "application/xml", "multipart/form-data", "x"] {
        problem(
            bare()
                .header("content-type", media)
                .body(event("x"))
                .send(agent.listen()),
            415,
        );
    }
    problem(bare().body(event("x")).send(agent.listen()), 415);
    problem(
        bare()
            .header("content-encoding", "br")
            .json(event("x"))
            .send(agent.listen()),
        415,
    );
    problem(
        bare()
            .header("content-encoding", "gzip, gzip")
            .json(event("x"))
            .send(agent.listen()),
        415,
    );
    let _ = bare()
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(event("x"))
        .send(agent.listen())
        .expect(201);
}

#[test]
fn gzip_is_unpacked_within_limits() {
    let agent = Agent::start();
    let post = |packed: Vec<u8>| {
        agent
            .events("")
            .header("content-encoding", "gzip")
            .ndjson(packed)
            .send(agent.listen())
    };
    let _ = post(gzip([event("packed").into_bytes()])).expect(201);
    let mut two = gzip([format!("{}\n", event("one")).into_bytes()]);
    two.extend(gzip([event("two").into_bytes()]));
    assert_eq!(post(two).expect(201).json()["accepted"], 2, "members are joined");
    let mut cut = gzip([event("x").repeat(100).into_bytes()]);
    cut.truncate(cut.len() - 9);
    problem(post(cut), 400);
    problem(post(event("not packed").into_bytes()), 400);
    problem(post(Vec::new()), 400);
    let bomb = gzip((0..1024).map(|_| vec![b' '; 1 << 20]));
    assert!(bomb.len() < 2 << 20);
    // A trailer that lies about the size helps nothing.
    let mut lying = bomb.clone();
    let end = lying.len();
    lying[end - 4..].copy_from_slice(&[1, 0, 0, 0]);
    for bomb in [bomb, lying] {
        let start = Instant::now();
        problem(post(bomb), 413);
        assert!(start.elapsed() < PATIENCE, "it is not unpacked to its end");
    }
    assert_eq!(names(&agent.dump()), ["packed", "one", "two"]);
}

#[test]
fn sizes_have_limits_and_the_limits_are_allowed() {
    // The longest host and key names make the most of each event.
    let agent = Agent::builder().config(&format!("host: {}\n", "h".repeat(253))).start();
    let key = agent.create_key(&"k".repeat(64), "write");
    let (start, end) = (r#"{"event_name":"n","username":"u","event_data":{"p":""#, r#""}}"#);
    let padded = |bytes: usize| format!("{start}{}{end}", "p".repeat(bytes - start.len() - end.len()));
    let post = |body: String| {
        request("POST", "/api/v1/events")
            .key(&key)
            .ndjson(body)
            .send(agent.listen())
    };
    eventually("the agent follows", PATIENCE, || {
        (post(event("first")).status == 201).then_some(())
    });

    // 16 MiB in 10,000 events: the largest request that there is.
    let line = padded((16 << 20) / 10_000 - 1);
    let mut body = vec![line; 10_000].join("\n");
    body.push_str(&" ".repeat((16 << 20) - body.len()));
    let largest = post(body.clone()).expect(201).json();
    assert_eq!(largest["accepted"], 10_000);
    assert_eq!(
        largest["last_seq"].as_u64().unwrap() - largest["first_seq"].as_u64().unwrap(),
        9_999
    );
    body.push(' ');
    problem(post(body.clone()), 413);
    // The same without a length announced.
    let mut raw = agent.raw();
    raw.send(
        &request("POST", "/api/v1/events")
            .key(&key)
            .header("content-type", "application/x-ndjson")
            .header("transfer-encoding", "chunked")
            .head(),
    )
    .unwrap();
    // The agent may close before the end.
    let _ = body.as_bytes().chunks(1 << 20).try_for_each(|chunk| {
        raw.send(format!("{:x}\r\n", chunk.len()).as_bytes())
            .and_then(|()| raw.send(chunk))
            .and_then(|()| raw.send(b"\r\n"))
    });
    problem(raw.answer().unwrap(), 413);

    let many = vec![event("x"); 10_001];
    problem(post(many.join("\n")), 413);
    problem(agent.post(format!("[{}]", many.join(","))), 413);

    let answer = agent.post(padded(1 << 20));
    assert_eq!(rejections(&answer)[0].2, "too_large");
    problem(answer, 413);
    let answer = agent
        .post(format!("[{},{}]", padded(1 << 20), event("beside")))
        .expect(201);
    assert_eq!(rejections(&answer), [(0, String::new(), "too_large".into())]);
    let _ = agent.post(padded((1 << 20) - 1024)).expect(201);
    let dump = agent.dump();
    assert_eq!(names(&dump).len(), 1 + 10_000 + 1 + 1);
    agent.fsck();
}

#[test]
fn heads_have_limits() {
    let agent = Agent::builder().config("http: {head_timeout: 1s}\n").start();
    let below = |bytes: &[u8], status: u16| {
        let mut raw = agent.raw();
        // It may be closed before all is sent.
        let _ = raw.send(bytes);
        let answer = raw.answer().unwrap().expect(status);
        assert!(answer.body.is_empty(), "{}", answer.text());
    };
    let with = |header: &str| format!("GET /livez HTTP/1.1\r\nhost: a\r\n{header}\r\n").into_bytes();
    below(&with(&format!("x: {}\r\n", "x".repeat(17 << 10))), 431);
    below(&with(&"x: y\r\n".repeat(100)), 431);
    below(b"hello\r\n\r\n", 400);
    below(
        b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        400,
    );
    assert_eq!(
        request("GET", "/livez")
            .header("x", &"x".repeat(15 << 10))
            .send(agent.listen())
            .status,
        200
    );

    for start in [&b""[..], b"GET /livez HTTP/1.1\r\nhost:", b"PRI * HT"] {
        let begin = Instant::now();
        let mut raw = agent.raw();
        raw.send(start).unwrap();
        raw.expect_closed();
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(950) && took < Duration::from_secs(10),
            "{took:?}"
        );
    }
    // Trickling gains nothing.
    let begin = Instant::now();
    let mut raw = agent.raw();
    while raw.send(b"G").is_ok() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "a trickling head is read for ever"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let agent = Agent::builder()
        .config("http: {head_timeout: 1s, idle_timeout: 4s}\n")
        .start();
    let mut raw = agent.raw();
    let one = agent.events("").json(event("a"));
    let bytes = [one.head(), event("a").into_bytes()].concat();
    raw.send(&bytes.repeat(3)).unwrap();
    let seqs: Vec<_> = (0..3)
        .map(|_| raw.answer().unwrap().expect(201).json()["first_seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    // A body that waits for its go-ahead gets it.
    let waiting = agent.events("").header("expect", "100-continue").json(event("b"));
    raw.send(&waiting.head()).unwrap();
    raw.send(event("b").as_bytes()).unwrap();
    let _ = raw.answer().unwrap().expect(201);
    // Between requests a client may be idle for longer than a head may take, but not for ever.
    let begin = Instant::now();
    raw.expect_closed();
    assert!(begin.elapsed() > Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn a_body_that_stands_still_is_given_up() {
    let agent = Agent::builder()
        .config("sources: {ingest: {body_timeout: 1s}}\n")
        .start();
    let begin = |sent: &[u8]| -> Raw {
        let mut raw = agent.raw();
        raw.send(&agent.events("").json(vec![b' '; 1000]).head()).unwrap();
        raw.send(sent).unwrap();
        raw
    };
    let start = Instant::now();
    let mut raw = begin(b"[");
    let answer = raw.answer().unwrap();
    assert!(start.elapsed() > Duration::from_millis(950));
    problem(answer, 408);
    raw.expect_closed();
    // Progress, however slow, is progress.
    let text = event("slow");
    let mut raw = begin(b" ");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        raw.send(b" ").unwrap();
    }
    raw.send(text.as_bytes()).unwrap();
    raw.send(&vec![b' '; 1000 - text.len() - 5]).unwrap();
    let _ = raw.answer().unwrap().expect(201);
    // A client that hangs up in the middle leaves nothing behind.
    let mut raw = begin(event("half").as_bytes());
    raw.finish();
    assert_ne!(raw.answer().map_or(0, |answer| answer.status), 201);
    assert!(!names(&agent.dump()).contains(&"half"));
    assert_eq!(agent.post(event("alive")).status, 201);
}

#[test]
fn http2_is_spoken_too() {
    let agent = Agent::start();
    let curl = |args: &[&str]| {
        let output = std::process::Command::new("curl")
            .args([
                "-sS",
                "--http2-prior-knowledge",
                "-m",
                "60",
                "-w",
                "%{http_version} %{http_code}",
                "-o",
                "/dev/null",
            ])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let url = format!("http://{}/api/v1/events", agent.listen());
    let body = agent.dir().join("body.json");
    std::fs::write(&body, format!("[{}]", vec![event("h2"); 2_000].join(","))).unwrap();
    let (auth, data) = (format!("x-api-key: {}", agent.key()), format!("@{}", body.display()));
    let json = "content-type: application/json";
    assert_eq!(curl(&["-H", &auth, "-H", json, "--data-binary", &data, &url]), "2 201");
    // The answer is there before the body is sent: see `http2.rs`.
    assert_eq!(curl(&["-H", json, "-d", "x", &url]), "2 401");
    assert_eq!(curl(&["-H", json, "--data-binary", &data, &url]), "2 401");
    assert_eq!(
        curl(&["-H", &format!("x: {}", "x".repeat(20 << 10)), &url])
            .split(' ')
            .nth(1),
        Some("431")
    );
    assert_eq!(names(&agent.dump()).len(), 2_000);
}
