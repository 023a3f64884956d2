//! `auditmon journal erase`: what an event said is nowhere any more, and everybody can check that it was declared.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auditmon_e2e::receiver::Receiver;
use auditmon_e2e::{Agent, PATIENCE, event, eventually};
use serde_json::{Value, json};

const UNKNOWN: &str = "019b76da-a800-7000-8000-000000000001";

fn config(receiver: &Receiver) -> String {
    format!(
        "journal: {{segment_size: 64KiB}}\nsinks: {{webhook: {{siem: {{url: \"http://{}/hook\", retry: {{min: 10ms, \
         max: 100ms}}}}}}}}\n",
        receiver.address()
    )
}

/// Posts an event that says the marker; gives its id.
fn post(agent: &Agent, name: &str, marker: &str) -> String {
    let event = json!({"event_name": name, "username": "alice", "event_data": {"note": marker}});
    let answer = agent.post(event.to_string()).expect(201).json();
    answer["ids"][0].as_str().unwrap().to_owned()
}

/// Files of the data directory that have the marker.
fn files_with(dir: &Path, marker: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, marker));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(name).collect()
}

fn sealed(agent: &Agent) -> usize {
    let files = agent.data_dir().join("journal/1/seg").read_dir().unwrap();
    let leaf = |path: PathBuf| path.extension().is_some_and(|ending| ending == "leaf");
    files.filter(|file| leaf(file.as_ref().unwrap().path())).count()
}

/// The second verifier's word: 0 it holds. `None` where it can't run.
fn second(agent: &Agent) -> Option<i32> {
    let has = Command::new("python3").args(["-c", "import cryptography"]).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("SKIPPED: needs python3 and its package cryptography");
        return None;
    }
    let key = std::fs::read_to_string(agent.data_dir().join("keys/log.vkey")).unwrap();
    let verifier = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier/auditmon_verify.py"));
    let out = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(verifier)
        .arg(agent.data_dir())
        .args(["--key", key.trim()])
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout));
    out.status.code()
}

#[test]
fn what_it_said_is_nowhere_and_everything_holds() {
    let receiver = Receiver::start(|asked| if asked.names[0].starts_with("secret") { 422 } else { 200 });
    let mut agent = Agent::builder().config(&config(&receiver)).start();
    let (old, new) = ("unmistakable-old-51c7", "unmistakable-new-93ab");
    let (username, long) = ("carol", "x".repeat(20_000));
    let old_id = {
        let event = json!({"event_name": "secret-old", "username": old, "event_data": {"note": old, "long": long}});
        let answer = agent.post(event.to_string()).expect(201).json();
        answer["ids"][0].as_str().unwrap().to_owned()
    };
    eventually("its segment is sealed", PATIENCE, || {
        let filler = json!({"event_name": "filler", "username": username, "event_data": {"long": long}});
        let _ = agent.post(filler.to_string()).expect(201);
        (sealed(&agent) >= 2).then_some(())
    });
    let new_id = post(&agent, "secret-new", new);
    let _ = agent.post(event("behind")).expect(201);
    eventually("both are dead letters", PATIENCE, || {
        (agent.run(&["dlq", "list", "--json"]).stdout.lines().count() == 2).then_some(())
    });
    let _ = agent.await_events("?event_name=behind", 1);
    for (id, marker) in [(&old_id, old), (&new_id, new)] {
        let _ = agent.run(&["prove", id]).expect(0);
        let files = names(&files_with(agent.data_dir(), marker));
        assert!(files.iter().any(|name| name.ends_with(".seg")), "{files:?}");
        assert!(files.iter().any(|name| name.starts_with("events.db")), "{files:?}");
        assert!(files.contains(&"webhook.siem.jsonl".to_owned()), "{files:?}");
    }

    let reason = "ticket 4711: personal data";
    for (id, marker) in [(&old_id, old), (&new_id, new)] {
        let output = agent.run(&["journal", "erase", id, "--reason", reason]).expect(0);
        assert!(
            output.stderr.contains("erased, and taken out of the dead letters (1)"),
            "{}",
            output.stderr
        );
        // A query in the store may be in the way for a moment.
        eventually("nothing has it", PATIENCE, || {
            files_with(agent.data_dir(), marker).is_empty().then_some(())
        });
        assert!(
            agent
                .get(&format!("/api/v1/events/{id}"))
                .expect(410)
                .text()
                .contains("erased")
        );
        let proof = agent.run(&["prove", id]).expect(1);
        assert!(proof.stderr.contains("its content was removed"), "{}", proof.stderr);
        let again = agent.run(&["journal", "erase", id, "--reason", reason]).expect(0);
        assert!(again.stderr.contains("erased before"), "{}", again.stderr);
    }
    assert!(agent.run(&["dlq", "list"]).stdout.is_empty());
    assert!(
        agent.get("/api/v1/events?event_name=secret-old").expect(200).json()["events"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // Said once for each, with the reason and nothing of the content.
    let told = agent.await_events("?event_name=journal.erasure&order=asc", 2);
    for (event, id) in told.iter().zip([&old_id, &new_id]) {
        assert_eq!(
            (&event["kind"], &event["event_source"]),
            (&json!("agent"), &json!("agent"))
        );
        let data = event["event_data"].as_object().unwrap();
        assert_eq!((&data["event_id"], &data["reason"]), (&json!(id), &json!(reason)));
        assert_eq!(data.len(), 3, "{data:?}");
    }
    let erased = |agent: &Agent| -> Vec<Value> {
        let dump = agent.run(&["journal", "dump"]).expect(0).stdout;
        let lines = dump.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["erased"] == true)
            .map(|line| line["seq"].clone())
            .collect()
    };
    let seqs: Vec<Value> = told.iter().map(|event| event["event_data"]["seq"].clone()).collect();
    assert_eq!(erased(&agent), seqs);
    let verified = agent.run(&["verify"]).expect(0);
    assert!(
        verified.stdout.contains("were erased, as declared"),
        "{}",
        verified.stdout
    );

    agent.restart();
    assert_eq!(erased(&agent), seqs);
    let _ = agent.get(&format!("/api/v1/events/{old_id}")).expect(410);
    let _ = agent.run(&["journal", "erase", &old_id, "--reason", reason]).expect(0);
    assert_eq!(agent.stop(), 0);
    agent.fsck();
    let _ = agent.run(&["verify"]).expect(0);
    assert!(second(&agent).is_none_or(|code| code == 0));
    for marker in [old, new] {
        assert_eq!(files_with(agent.data_dir(), marker), Vec::<PathBuf>::new());
    }
    let none = agent.run(&["journal", "erase", &new_id, "--reason", reason]).expect(1);
    assert!(none.stderr.contains("no agent runs on"), "{}", none.stderr);
}

#[test]
fn what_can_not_be_erased_is_answered() {
    let agent = Agent::start();
    let erase = |id: &str, reason: &str| agent.run(&["journal", "erase", id, "--reason", reason]);
    let unknown = erase(UNKNOWN, "why").expect(1);
    assert!(
        unknown.stderr.contains("neither the journal nor the store knows it"),
        "{}",
        unknown.stderr
    );
    let own = agent.await_events("?event_name=agent.start", 1);
    let own = erase(own[0]["event_id"].as_str().unwrap(), "why").expect(1);
    assert!(own.stderr.contains("never erased"), "{}", own.stderr);
    let id = post(&agent, "one", "two");
    for reason in ["", " ", "two\nlines"] {
        let refused = erase(&id, reason).expect(2);
        assert!(refused.stderr.contains("a reason is a line"), "{}", refused.stderr);
    }
    let refused = erase("7", "why").expect(2);
    assert!(refused.stderr.contains("no event id"), "{}", refused.stderr);
    let _ = agent.run(&["journal", "erase", &id]).expect(2);
    let _ = agent.get(&format!("/api/v1/events/{id}")).expect(200);
    assert!(
        agent
            .get("/api/v1/events?event_name=journal.erasure")
            .expect(200)
            .json()["events"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// A receiver that is down until it is told to go on.
fn stuck(on: &str) -> (Receiver, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(false));
    let (is_up, on) = (Arc::clone(&up), on.to_owned());
    let receiver = Receiver::start(move |asked| {
        let refuses = asked.names.contains(&on) && !is_up.load(Ordering::Relaxed);
        if refuses { 503_u16 } else { 200 }
    });
    (receiver, up)
}

#[test]
fn a_sink_that_is_behind_passes_it_by() {
    // Not read yet by the sink, and what it can't get rid of.
    for at in ["first", "secret"] {
        let (receiver, up) = stuck(at);
        let mut agent = Agent::builder().config(&config(&receiver)).start();
        let mut ids = Vec::new();
        for name in ["first", "secret", "third"] {
            ids.push(post(&agent, name, &format!("marker-of-{name}")));
        }
        eventually("it is tried", PATIENCE, || (receiver.asked() >= 3).then_some(()));
        let _ = agent.run(&["journal", "erase", &ids[1], "--reason", "why"]).expect(0);
        if at == "first" {
            up.store(true, Ordering::Relaxed);
        }
        eventually("the others arrive", PATIENCE, || {
            let taken = receiver.taken();
            let has = |name: &str| taken.iter().any(|taken| taken == name);
            (has("first") && has("third")).then_some(())
        });
        // By its position: after a kill nothing of before comes.
        eventually("it has caught up", PATIENCE, || {
            let lag = agent.get("/metrics").text();
            lag.contains("auditmon_sink_lag_entries{sink=\"webhook.siem\"} 0\n")
                .then_some(())
        });
        agent.restart();
        let _ = post(&agent, "fourth", "");
        eventually("what is new arrives", PATIENCE, || {
            receiver.taken().contains(&"fourth".to_owned()).then_some(())
        });
        assert!(!receiver.taken().contains(&"secret".to_owned()), "{at}");
        assert_eq!(files_with(agent.data_dir(), "marker-of-secret"), Vec::<PathBuf>::new());
        assert!(agent.run(&["dlq", "list"]).stdout.is_empty());
        assert_eq!(agent.stop(), 0);
        let _ = agent.run(&["verify"]).expect(0);
    }
}

#[test]
fn what_was_declared_is_done_after_a_kill() {
    let receiver = Receiver::start(|asked| if asked.names[0] == "secret" { 422 } else { 200 });
    // Long enough that the agent is killed before anything is signed.
    let slow = config(&receiver).replace("segment_size", "checkpoint_interval: 1m, segment_size");
    let mut agent = Agent::builder().config(&slow).start();
    let marker = "unmistakable-6d0f";
    let id = post(&agent, "secret", marker);
    eventually("it is a dead letter", PATIENCE, || {
        (!agent.run(&["dlq", "list"]).stdout.is_empty()).then_some(())
    });
    std::thread::scope(|scope| {
        let command = scope.spawn(|| agent.run(&["journal", "erase", &id, "--reason", "why"]));
        let _ = agent.await_events("?event_name=journal.erasure", 1);
        agent.signal(rustix::process::Signal::KILL);
        let _ = command.join().unwrap().expect(1);
    });
    agent.kill();
    let files = names(&files_with(agent.data_dir(), marker));
    assert!(
        files.iter().any(|name| name.ends_with(".seg")),
        "not signed, so not yet: {files:?}"
    );
    assert!(files.contains(&"webhook.siem.jsonl".to_owned()), "{files:?}");
    agent.rewrite(&config(&receiver));
    agent.start_again();
    eventually("it is gone from journal and dead letters", PATIENCE, || {
        let files = names(&files_with(agent.data_dir(), marker));
        let is_left = |name: &String| !name.starts_with("events.db");
        (!files.iter().any(is_left)).then_some(())
    });
    let _ = agent.get(&format!("/api/v1/events/{id}")).expect(410);
    assert_eq!(agent.stop(), 0);
    // The end in order empties the store's log.
    assert_eq!(files_with(agent.data_dir(), marker), Vec::<PathBuf>::new());
    let _ = agent.run(&["verify"]).expect(0);
    assert!(second(&agent).is_none_or(|code| code == 0));
    let told = agent.run(&["journal", "dump"]).expect(0).stdout;
    assert_eq!(told.matches("\"journal.erasure\"").count(), 1, "declared once");
}

#[test]
fn who_verifies_beside_it_is_never_misled() {
    let agent = Agent::builder().config("journal: {segment_size: 64KiB}\n").start();
    let ids: Vec<String> = (0..8)
        .map(|n| post(&agent, "one", &n.to_string().repeat(9_000)))
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let verifying = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = agent.run(&["verify"]).expect(0);
                agent.fsck();
            }
        });
        for id in &ids {
            let _ = agent.run(&["journal", "erase", id, "--reason", "why"]).expect(0);
        }
        done.store(true, Ordering::Relaxed);
        verifying.join().unwrap();
    });
    let verified = agent.run(&["verify", "--json"]).expect(0);
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verified["counts"]["erased"], 8);
}

/// Fills segments until that is true.
fn fill(agent: &Agent, mut until: impl FnMut() -> bool) {
    let filler =
        json!({"event_name": "filler", "username": "carol", "event_data": {"long": "x".repeat(20_000)}}).to_string();
    eventually("enough is written", PATIENCE, || {
        let _ = agent.post(filler.clone()).expect(201);
        until().then_some(())
    });
}

/// Changes a byte of the marker in the journal.
fn damage(agent: &Agent, marker: &str) {
    let segment = files_with(&agent.data_dir().join("journal"), marker).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker.as_bytes());
    bytes[at.unwrap()] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

#[test]
fn a_store_that_was_off_loses_the_row_even_if_the_declaration_has_expired() {
    let on = "journal: {segment_size: 64KiB, keep: {age: 1s}}\n";
    let mut agent = Agent::builder().config(on).start();
    let marker = "unmistakable-2b8d";
    let id = post(&agent, "secret", marker);
    let _ = agent.await_events("?event_name=secret", 1);
    assert_eq!(agent.stop(), 0);
    agent.rewrite(&format!("{on}sinks: {{store: {{enabled: false}}}}\n"));
    agent.start_again();
    for _ in 0..2 {
        let output = agent.run(&["journal", "erase", &id, "--reason", "why"]).expect(0);
        assert!(output.stderr.contains(": erased\n"), "{}", output.stderr);
        assert!(output.stderr.contains("no store is at work"), "{}", output.stderr);
    }
    // What said so goes, and the store will not be told of it.
    fill(&agent, || {
        !agent.run(&["journal", "dump"]).stdout.contains("journal.erasure")
    });
    let again = agent.run(&["journal", "erase", UNKNOWN, "--reason", "why"]).expect(1);
    assert!(again.stderr.contains("the store is off"), "{}", again.stderr);
    assert_eq!(agent.stop(), 0);
    assert_eq!(names(&files_with(agent.data_dir(), marker)), ["events.db"]);
    agent.rewrite(on);
    agent.start_again();
    eventually("the row is gone", PATIENCE, || {
        files_with(agent.data_dir(), marker).is_empty().then_some(())
    });
}

#[test]
fn what_is_damaged_is_not_called_gone() {
    let agent = Agent::builder().config("journal: {segment_size: 64KiB}\n").start();
    let marker = "unmistakable-c04e";
    let id = post(&agent, "secret", marker);
    fill(&agent, || sealed(&agent) > 0);
    let segment = files_with(&agent.data_dir().join("journal"), marker).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker.as_bytes());
    bytes[at.unwrap()] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    // The second time its row is gone, too.
    for _ in 0..2 {
        let output = agent.run(&["journal", "erase", &id, "--reason", "why"]).expect(0);
        assert!(output.stderr.contains("the record can't be read"), "{}", output.stderr);
    }
}

#[test]
fn where_damage_ended_a_generation_the_next_one_signs_and_erases() {
    let mut agent = Agent::start();
    let marker = "unmistakable-77aa";
    let _ = post(&agent, "damaged", marker);
    let id = post(&agent, "one", "two");
    let _ = agent.await_events("?event_name=one", 1);
    agent.kill();
    // Without it and its leaf there is no tree.
    damage(&agent, marker);
    agent.start_again();
    let refused = agent.run(&["journal", "erase", &id, "--reason", "why"]).expect(1);
    assert!(
        refused.stderr.contains("nothing is erased in a former generation"),
        "{}",
        refused.stderr
    );
    let _ = agent.get(&format!("/api/v1/events/{id}")).expect(200);
    let told = |agent: &Agent, name: &str| agent.run(&["journal", "dump"]).stdout.contains(name);
    assert!(told(&agent, "journal.new_generation") && !told(&agent, "journal.erasure"));
    // The store goes on, nobody has to accept anything, and what is erased is declared under a checkpoint.
    let id = post(&agent, "later", "unmistakable-77ab");
    let _ = agent.await_events("?event_name=later", 1);
    let _ = agent.run(&["journal", "erase", &id, "--reason", "why"]).expect(0);
    assert!(told(&agent, "journal.erasure"));
    assert_eq!(agent.stop(), 0);
    let said = agent.run(&["verify"]).expect(1).stdout;
    let tampered = |line: &&str| line.starts_with("tampered: ");
    assert!(said.lines().any(|line| tampered(&line)), "{said}");
    assert!(
        !said.lines().filter(tampered).any(|line| line.contains("journal/2")),
        "{said}"
    );
}

#[test]
fn what_was_declared_in_a_former_generation_goes_to_no_sink_that_still_reads_there() {
    let (receiver, up) = stuck("first");
    // Long enough that the agent is killed before anything is signed.
    let slow = config(&receiver).replace("segment_size", "checkpoint_interval: 1m, segment_size");
    let mut agent = Agent::builder().config(&slow).start();
    let mut ids = Vec::new();
    for name in ["first", "secret", "third", "broken"] {
        ids.push(post(&agent, name, &format!("marker-of-{name}")));
    }
    eventually("it is tried", PATIENCE, || (receiver.asked() >= 3).then_some(()));
    std::thread::scope(|scope| {
        let command = scope.spawn(|| agent.run(&["journal", "erase", &ids[1], "--reason", "why"]));
        let _ = agent.await_events("?event_name=journal.erasure", 1);
        agent.signal(rustix::process::Signal::KILL);
        let _ = command.join().unwrap().expect(1);
    });
    agent.kill();
    // Declared and not done; without this record and its leaf there is no tree.
    assert!(!files_with(&agent.data_dir().join("journal"), "marker-of-secret").is_empty());
    damage(&agent, "marker-of-broken");
    up.store(true, Ordering::Relaxed);
    agent.rewrite(&config(&receiver));
    agent.start_again();
    assert!(agent.data_dir().join("journal/2").exists());
    let _ = post(&agent, "later", "");
    eventually("what is new arrives", PATIENCE, || {
        receiver.taken().contains(&"later".to_owned()).then_some(())
    });
    let taken = receiver.taken();
    let has = |name: &str| taken.iter().any(|taken| taken == name);
    assert!(has("first") && has("third") && !has("secret"), "{taken:?}");
}

#[test]
fn a_letter_of_what_nobody_knows_any_more_is_taken_out() {
    let receiver = Receiver::start(|_| 422_u16);
    let mut agent = Agent::builder().config(&config(&receiver)).start();
    let id = post(&agent, "secret", "marker");
    let list = |agent: &Agent| agent.run(&["dlq", "list"]).stdout;
    eventually("it is a dead letter", PATIENCE, || {
        list(&agent).contains(&id).then_some(())
    });
    assert_eq!(agent.stop(), 0);
    // As one of an event whose row and leaf are gone.
    let path = agent.data_dir().join("dlq/webhook.siem.jsonl");
    let letters = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, letters.replace(&id, UNKNOWN)).unwrap();
    agent.start_again();
    let output = agent.run(&["journal", "erase", UNKNOWN, "--reason", "why"]).expect(0);
    assert!(
        output.stderr.contains("taken out of the dead letters (1)"),
        "{}",
        output.stderr
    );
    assert!(!list(&agent).contains(UNKNOWN));
    let _ = agent.run(&["journal", "erase", UNKNOWN, "--reason", "why"]).expect(1);
}
