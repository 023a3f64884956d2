//! A full disk: events are refused, reading goes on, nothing is lost, and room alone mends it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use auditmon_e2e::{Agent, PATIENCE, eventually, is_root};

/// A small volume; always unmounted.
struct Volume(PathBuf);

impl Volume {
    fn mount(place: &Path, size: &str) -> Self {
        std::fs::create_dir(place).unwrap();
        let options = format!("size={size},mode=0755");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "auditmon-e2e"])
            .arg(place)
            .status()
            .unwrap();
        assert!(status.success(), "mount");
        Self(place.to_owned())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The agent may still have files open if the test failed: the volume goes with the last of them.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What was accepted: name → times it was promised (once).
#[derive(Default)]
struct Fill {
    accepted: Vec<String>,
    posts: usize,
}

impl Fill {
    /// Posts 64 events; gives the status.
    fn post(&mut self, agent: &Agent) -> u16 {
        let pad = "p".repeat(4000);
        let names: Vec<_> = (0..64).map(|n| format!("f{}-{n}", self.posts)).collect();
        let lines: Vec<_> = names
            .iter()
            .map(|n| format!(r#"{{"event_name":"{n}","username":"u","event_data":{{"p":"{pad}"}}}}"#))
            .collect();
        self.posts += 1;
        let answer = agent.events("").ndjson(lines.join("\n")).send(agent.listen());
        if answer.status == 201 {
            self.accepted.extend(names);
        } else {
            assert_eq!(answer.status, 507, "{}", answer.text());
            assert_eq!(answer.json()["code"], "disk_full");
            assert!(answer.header("retry-after").is_some());
        }
        answer.status
    }

    /// Posts until the disk is full.
    fn until_full(&mut self, agent: &Agent) {
        let full = (0..3_000).any(|_| self.post(agent) == 507);
        assert!(full, "the disk never gets full");
    }

    fn one(&mut self, agent: &Agent) -> bool {
        self.posts += 1;
        let name = format!("one-{}", self.posts);
        let accepted = agent.post(auditmon_e2e::event(&name)).status == 201;
        if accepted {
            self.accepted.push(name);
        }
        accepted
    }
}

/// Reading works whatever the disk says.
fn can_read(agent: &Agent) {
    let answer = agent.get("/api/v1/events?username=early").expect(200).json();
    assert_eq!(answer["events"].as_array().unwrap().len(), 1, "reading goes on");
    let _ = agent.get("/livez").expect(200);
}

fn not_ready(agent: &Agent) {
    let ready = agent.get("/readyz").expect(503);
    assert!(ready.text().contains("disk_full"), "{}", ready.text());
    assert_eq!(agent.get("/healthz").json()["journal"]["paused"], "disk_full");
}

/// Names of application events with how often they are there, and names of the agent's own.
fn journal(agent: &Agent) -> (HashMap<String, u32>, Vec<String>) {
    let (mut times, mut notes) = (HashMap::new(), Vec::new());
    for line in agent.dump() {
        let name = line["event"]["event_name"].as_str().unwrap().to_owned();
        if line["event"]["kind"] == "agent" {
            notes.push(name);
        } else {
            *times.entry(name).or_default() += 1;
        }
    }
    (times, notes)
}

fn place() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("auditmon-e2e-tmpfs-")
        .tempdir_in("/var/tmp")
        .unwrap()
}

#[test]
fn a_full_disk_costs_no_event_and_no_hand() {
    if !is_root("tmpfs::a_full_disk") {
        return;
    }
    let place = place();
    let volume = Volume::mount(&place.path().join("volume"), "200m");
    let filler = volume.0.join("filler");
    std::fs::write(&filler, vec![1; 80 << 20]).unwrap();
    let config = "journal: {segment_size: 8MiB, reserve: 16MiB, max_size: 1GiB}\n";
    let mut agent = Agent::builder().config(config).data_dir(volume.0.join("data")).start();
    let mut fill = Fill::default();
    let _ = agent.post(r#"{"event_name":"early","username":"early"}"#).expect(201);
    fill.accepted.push("early".to_owned());
    let _ = agent.await_events("?username=early", 1);

    // What the store has not yet confirmed can't be given up for new events.
    let blocked = agent.block_store();
    fill.until_full(&agent);
    assert!(fill.accepted.len() > 1_000, "{}", fill.accepted.len());
    can_read(&agent);
    not_ready(&agent);
    assert!(!fill.one(&agent), "full stays full, for the smallest event, too");

    // Room alone mends it.
    std::fs::remove_file(&filler).unwrap();
    eventually("accepted again, without help", Duration::from_secs(30), || {
        fill.one(&agent).then_some(())
    });
    eventually("ready again", Duration::from_secs(30), || {
        (agent.get("/readyz").status == 200).then_some(())
    });
    let _ = agent.await_log("the disk has room again; events are accepted");
    let before = fill.accepted.len();
    fill.until_full(&agent);
    assert!(fill.accepted.len() > before + 1_000);
    can_read(&agent);
    not_ready(&agent);

    // An orderly end on the full disk; everything that was answered is there, once, and nothing that was refused.
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    agent.fsck();
    let (mut times, notes) = journal(&agent);
    for name in &fill.accepted {
        assert_eq!(times.remove(name), Some(1), "{name} was answered with 201");
    }
    assert!(
        times.is_empty(),
        "refused, and stored all the same: {:?}",
        times.keys().take(3).collect::<Vec<_>>()
    );
    for note in ["journal.paused", "journal.resumed"] {
        assert!(notes.iter().any(|n| n == note), "{note} is an event: {notes:?}");
    }

    // A start on the full disk serves reads; so does one after a kill there.
    drop(blocked);
    let _ = agent.run(&["verify"]).expect(0);
    agent.start_again_unready();
    can_read(&agent);
    agent.kill();
    agent.fsck();
    let _ = agent.run(&["verify"]).expect(0);
    agent.start_again_unready();
    can_read(&agent);

    // With room the store gets all of it, once.
    let status = Command::new("mount")
        .args(["-o", "remount,size=800m"])
        .arg(&volume.0)
        .status()
        .unwrap();
    assert!(status.success(), "remount");
    eventually("accepted again", Duration::from_secs(30), || {
        fill.one(&agent).then_some(())
    });
    let count = |sql: &str| agent.rows(sql)[0][0].as_u64().unwrap();
    let expected = fill.accepted.len() as u64;
    eventually("the store has all", PATIENCE, || {
        (count("SELECT count(*) FROM events WHERE kind = 'application'") >= expected).then_some(())
    });
    assert_eq!(
        count("SELECT count(DISTINCT event_name) FROM events WHERE kind = 'application'"),
        expected
    );
    assert_eq!(
        count("SELECT count(*) FROM events WHERE kind = 'application'"),
        expected,
        "each once"
    );
    assert_eq!(agent.stop(), 0);
    agent.fsck();
    let _ = agent.run(&["verify"]).expect(0);
}

/// What another program leaves no room for isn't the store's turn either, and readers need a file of its own.
#[test]
fn a_disk_that_is_full_to_the_last_byte_can_be_read() {
    if !is_root("tmpfs::full_to_the_last_byte") {
        return;
    }
    let place = place();
    let volume = Volume::mount(&place.path().join("volume"), "400m");
    let config = "journal: {reserve: 4MiB}\n";
    let agent = Agent::builder().config(config).data_dir(volume.0.join("data")).start();
    let mut fill = Fill::default();
    let _ = agent.post(r#"{"event_name":"early","username":"early"}"#).expect(201);
    let rows = |username: &str| {
        let rows = agent.rows(&format!("SELECT count(*) FROM events WHERE username = '{username}'"));
        rows[0][0].as_u64().unwrap()
    };
    // Nobody has read through the agent yet, so that no reader keeps open what it will need.
    eventually("the store has it", PATIENCE, || (rows("early") == 1).then_some(()));

    // As the other programs of a host do, faster than any reserve. The journal's segment has its room already.
    let filler = volume.0.join("filler");
    fill_up(&filler);
    fill.until_full(&agent);
    eventually("the store says so", Duration::from_secs(30), || {
        fill_up(&filler);
        let status = agent.run(&["status"]).stdout;
        let store = status.lines().find(|line| line.starts_with("store"))?.to_owned();
        store.contains("the disk is full").then_some(())
    });
    fill_up(&filler);
    can_read(&agent);
    not_ready(&agent);

    std::fs::remove_file(&filler).unwrap();
    let expected = fill.accepted.len() as u64;
    eventually("the store has all", PATIENCE, || (rows("u") == expected).then_some(()));
    agent.fsck();
}

/// Appends to `file` until not a byte fits.
fn fill_up(file: &Path) {
    let mut file = std::fs::File::options().append(true).create(true).open(file).unwrap();
    for size in [1 << 20, 4 << 10] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[test]
fn what_the_store_has_gives_way_to_new_events() {
    if !is_root("tmpfs::what_the_store_has") {
        return;
    }
    let place = place();
    let volume = Volume::mount(&place.path().join("volume"), "64m");
    let store = place.path().join("events.db");
    let config = format!(
        "journal: {{segment_size: 4MiB, reserve: 4MiB, max_size: 1GiB}}\nsinks: {{store: {{file: {}}}}}\n",
        store.display()
    );
    let agent = Agent::builder().config(&config).data_dir(volume.0.join("data")).start();
    let mut fill = Fill::default();
    // Three times what the volume holds.
    while fill.accepted.len() < 48_000 {
        let post = fill.post(&agent);
        if post == 507 {
            eventually("accepted again, without help", Duration::from_secs(30), || {
                fill.one(&agent).then_some(())
            });
        }
    }
    let total = || agent.await_events("?username=u&limit=1&order=desc", 1);
    let last = fill.accepted.iter().rfind(|name| name.starts_with('f')).unwrap();
    eventually("the store has the last", PATIENCE, || {
        (total()[0]["event_name"] == last.as_str()).then_some(())
    });
    let mut stored: Vec<String> = Vec::new();
    for kind in ["--username=u", "--username=tester"] {
        let output = agent.run(&["events", kind, "--order", "asc"]).expect(0).stdout;
        let lines = output
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        stored.extend(lines.map(|event| event["event_name"].as_str().unwrap().to_owned()));
    }
    stored.sort();
    fill.accepted.sort();
    assert!(
        stored == fill.accepted,
        "{} stored, {} accepted",
        stored.len(),
        fill.accepted.len()
    );
    agent.fsck();
}
