//! A journal that was put back, cut or rewritten while it was stopped: noticed at the start by what sinks remember,
//! accepted with a reason, and told by `auditmon verify`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacker;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use attacker::{copy, python, rewrite};
use auditmon_e2e::{Agent, event};
use serde_json::Value;

/// An agent whose store lies apart from the data directory, if `apart`.
fn agent(apart: bool, journal: &str) -> (Agent, tempfile::TempDir) {
    let elsewhere = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = elsewhere.path().join("events.db");
    let store = match apart {
        true => format!("sinks: {{store: {{file: {}}}}}\n", file.display()),
        false => String::new(),
    };
    (Agent::builder().config(&(store + journal)).start(), elsewhere)
}

fn post(agent: &Agent, name: &str, count: usize) {
    for _ in 0..count {
        let _ = agent.post(event(name)).expect(201);
    }
    let _ = agent.await_events(&format!("?event_name={name}&limit=1000"), count);
}

fn put_back(agent: &Agent, old: &Path) {
    std::fs::remove_dir_all(agent.data_dir()).unwrap();
    copy(old, agent.data_dir());
}

fn key(agent: &Agent) -> String {
    let text = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    text.trim_end().to_owned()
}

fn told(agent: &Agent, name: &str) -> Vec<Value> {
    agent.dumped(name)
}

fn checkpoint(agent: &Agent, generation: u32) -> PathBuf {
    agent.data_dir().join(format!("journal/{generation}/checkpoint"))
}

/// What `auditmon verify` and the verifier in Python say of the directory.
#[track_caller]
fn both_say(agent: &Agent, code: i32, ours: &str, theirs: &str) {
    let said = agent.run(&["verify"]);
    assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(ours), "`{ours}` is expected:\n{}", said.stdout);
    if let Some((found, said)) = python(&[agent.data_dir().to_str().unwrap()]) {
        assert_eq!(found, code, "{said}");
        assert!(said.contains(theirs), "`{theirs}` is expected:\n{said}");
    }
}

#[test]
fn the_whole_directory_put_back_to_an_older_copy_is_noticed_by_the_store_elsewhere() {
    let (mut agent, elsewhere) = agent(true, "");
    post(&agent, "early", 3);
    assert_eq!(agent.stop(), 0);
    let old = elsewhere.path().join("old");
    copy(agent.data_dir(), &old);
    let origin = std::fs::read_to_string(agent.data_dir().join("journal/origin")).unwrap();
    agent.start_again();
    post(&agent, "late", 5);
    assert_eq!(agent.stop(), 0);
    put_back(&agent, &old);
    let signed = std::fs::read(checkpoint(&agent, 1)).unwrap();

    // The files alone can't tell; the database can.
    let database = elsewhere.path().join("events.db");
    let database = database.to_str().unwrap();
    let _ = agent.run(&["verify", "--database", database]).expect(1);

    agent.start_again();
    let line = agent.await_log("put back to an older state");
    assert_eq!(
        (&line["level"], &line["sink"]),
        (&"ERROR".into(), &"store".into()),
        "{line}"
    );
    let events = told(&agent, "journal.rollback");
    let [found] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&found["kind"], &found["severity"]),
        (&"agent".into(), &"critical".into())
    );
    let data = &found["event_data"];
    assert_eq!(
        (&data["former_origin"], &data["sink"]),
        (&origin.as_str().into(), &"store".into())
    );
    assert!(data["seq"].as_u64() > data["entries"].as_u64(), "{data}");
    assert!(data["text"].as_str().unwrap().contains("accept-rollback"), "{data}");
    let name = agent.run(&["keys", "log"]).expect(0).stdout;
    assert!(name.starts_with(&format!("{origin}/gen/2+")), "{name}");
    assert_eq!(
        std::fs::read(checkpoint(&agent, 1)).unwrap(),
        signed,
        "nothing contradicts what was signed"
    );
    // The store goes on, and keeps what the journal lost.
    post(&agent, "again", 2);
    let _ = agent.await_events("?event_name=late&limit=10", 5);

    assert_eq!(agent.stop(), 0);
    let _ = agent.run(&["verify"]).expect(1);
    agent.start_again();
    assert_eq!(told(&agent, "journal.rollback").len(), 1, "told once");
    let status = agent.run(&["status"]).expect(1).stdout;
    assert!(status.contains("nobody has accepted that"), "{status}");
    let said = agent
        .run(&["journal", "accept-rollback", "--reason", "a snapshot was restored"])
        .expect(0)
        .stderr;
    assert!(said.contains("with all generations before"), "{said}");
    let status = agent.run(&["status"]).expect(0).stdout;
    assert!(!status.contains("nobody has accepted that"), "{status}");
    assert_eq!(agent.stop(), 0);
    let said = agent.run(&["verify"]).expect(0).stdout;
    assert!(said.contains("a snapshot was restored"), "{said}");

    // Nor can what the agent itself keeps of it be changed.
    for name in ["former", "accepted"] {
        let file = agent.data_dir().join("journal/2").join(name);
        let text = std::fs::read(&file).unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            std::fs::write(&file, &changed).unwrap();
            let said = agent.run(&["verify"]).expect(1).stdout;
            assert!(
                said.contains(&format!("journal/2/{name}: does not say")),
                "{at}: {said}"
            );
        }
        std::fs::write(&file, &text).unwrap();
    }
    let _ = agent.run(&["verify"]).expect(0);
    let (file, aside) = (
        agent.data_dir().join("journal/2/former"),
        elsewhere.path().join("former"),
    );
    std::fs::rename(&file, &aside).unwrap();
    let said = agent.run(&["verify"]).expect(1).stdout;
    assert!(said.contains("journal/2/former: is missing"), "{said}");
    std::fs::copy(&aside, &file).unwrap();

    // A row that is changed later is no part of that, nor one that is removed.
    let rewrite = |was: &str, is: &str| {
        let sql = format!(
            "UPDATE events SET event_name = '{is}', canonical = CAST(replace(CAST(canonical AS TEXT), '\"{was}\"', '\"{is}\"') AS BLOB)
             WHERE place = (SELECT min(place) FROM events WHERE event_name = '{was}')"
        );
        assert!(
            Command::new("sqlite3")
                .arg(database)
                .arg(sql)
                .status()
                .unwrap()
                .success()
        );
    };
    rewrite("early", "EARLY");
    let said = agent.run(&["verify"]).expect(1).stdout;
    assert!(said.contains("the row isn't the event that the journal has"), "{said}");
    rewrite("EARLY", "early");
    let _ = agent.run(&["verify"]).expect(0);
    let sql = "DELETE FROM events WHERE place = (SELECT place FROM events WHERE event_name = 'early' ORDER BY place LIMIT 1 OFFSET 1)";
    let file = elsewhere.path().join("events.db");
    assert!(Command::new("sqlite3").arg(&file).arg(sql).status().unwrap().success());
    let said = agent.run(&["verify"]).expect(1).stdout;
    assert!(said.contains("the store has no row of it"), "{said}");
    assert!(said.contains("a snapshot was restored"), "{said}");
    // Also of what was lost no row may contradict itself.
    let sql = "UPDATE events SET username = 'mallory' WHERE place = (SELECT max(place) FROM events WHERE origin NOT LIKE '%/gen/%')";
    assert!(Command::new("sqlite3").arg(&file).arg(sql).status().unwrap().success());
    let said = agent.run(&["verify"]).expect(1).stdout;
    assert!(said.contains("the column username isn't what the event says"), "{said}");
}

#[test]
fn a_tail_of_the_same_size_rewritten_while_stopped_is_noticed_by_the_stores_position() {
    let (mut agent, _elsewhere) = agent(false, "journal: {checkpoint_interval: 1m}\n");
    post(&agent, "early", 3);
    post(&agent, "latest", 1);
    agent.kill();
    let seg = agent.data_dir().join("journal/1/seg/00000000000000000000.seg");
    rewrite(&seg, b"latest", b"LATEST");
    agent.start_again();
    let events = told(&agent, "journal.rewritten");
    let [found] = &events[..] else { panic!("{events:?}") };
    assert_eq!(found["severity"], "critical");
    assert_eq!(found["event_data"]["sink"], "store");
    assert!(agent.data_dir().join("journal/2").exists());
    assert_eq!(agent.stop(), 0);
    both_say(&agent, 1, "tampered: ", "tampered: ");

    // Somebody has looked into it.
    let accept = ["journal", "accept-rollback", "--reason", "ticket 4711: it was a drill"];
    let _ = agent.run(&accept).expect(0);
    both_say(&agent, 0, "ticket 4711: it was a drill", "ticket 4711: it was a drill");
    let said = agent.run(&["verify", "--key", &key(&agent)]).expect(0).stdout;
    assert!(said.contains("accepted by auditmon at "), "{said}");

    // That accepts what was there then, and nothing that is changed later.
    rewrite(&seg, b"early", b"EARLY");
    both_say(&agent, 1, "tampered: ", "tampered: ");
}

/// First seqs of a generation's files with this ending.
fn files(agent: &Agent, generation: u32, ending: &str) -> Vec<String> {
    let dir = agent.data_dir().join(format!("journal/{generation}/seg"));
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    found.sort();
    found
}

/// Posts until it is so.
fn fill(agent: &Agent, what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    let events: Vec<Value> = (0..100)
        .map(|_| event("many"))
        .map(|event| serde_json::from_str(&event).unwrap())
        .collect();
    let events = Value::from(events).to_string();
    while !done() {
        assert!(Instant::now() < end, "{what}: never");
        // Full for a moment, where sealing or the store is behind.
        let _ = agent.post(events.as_str());
    }
}

#[test]
fn an_acceptance_counts_where_leaves_were_collapsed() {
    let config = "journal: {segment_size: 64KiB, reserve: 64KiB, keep: {age: 1s, size: 64KiB}, checkpoint_interval: 100ms, max_size: 320KiB}\n";
    let (mut agent, elsewhere) = agent(false, config);
    fill(&agent, "two are collapsed", || files(&agent, 1, ".sub").len() >= 2);
    assert_eq!(agent.stop(), 0);
    both_say(&agent, 0, "holds", "good");
    let (journal, old) = (agent.data_dir().join("journal"), elsewhere.path().join("journal"));
    copy(&journal, &old);
    agent.start_again();
    post(&agent, "late", 3);
    assert_eq!(agent.stop(), 0);
    // The journal alone is put back, not the store.
    std::fs::remove_dir_all(&journal).unwrap();
    copy(&old, &journal);
    agent.start_again();
    let _ = agent.await_log("put back to an older state");
    assert_eq!(agent.stop(), 0);
    both_say(&agent, 1, "tampered: ", "tampered: ");
    let accept = [
        "journal",
        "accept-rollback",
        "--reason",
        "ticket 4712: a volume was restored",
    ];
    let _ = agent.run(&accept).expect(0);
    both_say(&agent, 0, "ticket 4712", "ticket 4712");

    // What is collapsed is part of what was accepted.
    let sub = journal.join("1/seg").join(&files(&agent, 1, ".sub")[1]);
    let good = std::fs::read(&sub).unwrap();
    let mut bad = good.clone();
    bad[30] ^= 1;
    std::fs::write(&sub, &bad).unwrap();
    both_say(&agent, 1, "tampered: ", "tampered: ");
    std::fs::write(&sub, &good).unwrap();
    both_say(&agent, 0, "ticket 4712", "ticket 4712");

    // What became damaged is none of what was put back, though its leaf tells the root.
    let sealed = |ending| journal.join("1/seg").join(&files(&agent, 1, ending)[0]);
    for (file, at, ours, theirs) in [
        (sealed(".seg"), 2000, "can't be read", "damage"),
        (sealed(".seg"), 3, "its head can't be read", ".seg"),
        (journal.join("1/checkpoints"), 30, "checkpoint 1: ", "checkpoints:1"),
    ] {
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        both_say(&agent, 1, ours, theirs);
        std::fs::write(&file, &good).unwrap();
    }
    both_say(&agent, 0, "ticket 4712", "ticket 4712");

    // Retention takes what says so from the journal; the store's rows are left.
    let first = files(&agent, 2, ".seg")[0].clone();
    let text = std::fs::read_to_string(agent.dir().join("auditmon.yaml")).unwrap();
    assert!(text.contains("320KiB"));
    // Leaves stay.
    agent.rewrite(&text.replace("320KiB", "64MiB"));
    agent.start_again();
    fill(&agent, "its payload goes", || files(&agent, 2, ".seg")[0] > first);
    assert_eq!(agent.stop(), 0);
    assert_eq!(files(&agent, 2, ".leaf")[0][..20], first[..20]);
    both_say(&agent, 0, "ticket 4712", "ticket 4712");
}

#[test]
fn a_kill_is_no_rollback() {
    let (mut agent, _elsewhere) = agent(true, "journal: {checkpoint_interval: 1m}\n");
    for round in 0..3 {
        post(&agent, &format!("round{round}"), 3);
        agent.kill();
        agent.start_again();
    }
    for name in ["journal.rollback", "journal.rewritten"] {
        assert_eq!(told(&agent, name), Vec::<Value>::new());
    }
    assert!(!agent.data_dir().join("journal/2").exists());
}

#[test]
fn what_the_store_lacks_of_a_former_generation_excuses_no_row_of_the_next() {
    let (mut agent, _elsewhere) = agent(false, "");
    post(&agent, "early", 1);
    let blocked = agent.block_store();
    let mut ids = Vec::new();
    for name in ["one", "two", "spoiled", "three"] {
        let id = agent.post(event(name)).expect(201).json()["ids"][0].clone();
        ids.push(id.as_str().unwrap().to_owned());
    }
    agent.kill();
    // Nothing stands for the record that is spoiled: the journal goes on as a new generation.
    let seg = agent.data_dir().join("journal/1/seg/00000000000000000000.seg");
    let mut bytes = std::fs::read(&seg).unwrap();
    let at = bytes.windows(7).position(|window| window == b"spoiled").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&seg, &bytes).unwrap();
    agent.start_again_unready();
    // What the store has still to get of it is known.
    let waits = agent.get(&format!("/api/v1/events/{}", ids[3])).expect(200).json();
    assert_eq!(waits["event_name"], "three", "{waits}");
    // It can't be erased there, and that takes nothing from those who have still to be given it.
    let _ = agent
        .run(&["journal", "erase", &ids[3], "--reason", "why not"])
        .expect(1);
    drop(blocked);
    let _ = agent.await_events("?event_name=three", 1);
    let _ = agent.await_events("?event_name=sink.gap", 1);
    let gaps = told(&agent, "sink.gap");
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    let data = &gap["event_data"];
    assert_eq!(data["sink"], "store");
    let origin = std::fs::read_to_string(agent.data_dir().join("journal/origin")).unwrap();
    assert_eq!(data["former_origin"], origin.as_str());
    let seq = data["ranges"][0][0].as_u64().unwrap();
    assert_eq!(data["ranges"], serde_json::json!([[seq, seq]]));

    post(&agent, "later", 12);
    assert_eq!(agent.stop(), 0);
    let said = agent.run(&["verify"]).expect(1).stdout;
    assert!(!said.contains("no row"), "the former one's damage is all: {said}");
    let number = "(SELECT number FROM position WHERE origin LIKE '%/gen/2')";
    let sql = format!("DELETE FROM events WHERE place = {number} * 281474976710656 + {seq}; SELECT changes();");
    let file = agent.data_dir().join("events.db");
    let deleted = Command::new("sqlite3").arg(&file).arg(sql).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&deleted.stdout).trim(), "1");
    both_say(&agent, 1, "the store has no row of it", "has no row: it was removed");
}
