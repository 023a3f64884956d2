//! A full disk: events are refused, reading goes on, nothing is lost, and room alone mends it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
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
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "auditmon-e2e"]).arg(place).status().unwrap();
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
    /// Posts until the agent refuses; the refusal must be the one for a full disk.
    fn until_full(&mut self, agent: &Agent) {
        let pad = "p".repeat(4000);
        for _ in 0..3_000 {
            let names: Vec<_> = (0..64).map(|n| format!("f{}-{n}", self.posts)).collect();
            let lines: Vec<_> =
                names.iter().map(|n| format!(r#"{{"event_name":"{n}","username":"u","event_data":{{"p":"{pad}"}}}}"#)).collect();
            self.posts += 1;
            let answer = agent.events("").ndjson(lines.join("\n")).send(agent.listen());
            if answer.status == 201 {
                self.accepted.extend(names);
                continue;
            }
            let answer = answer.expect(507);
            assert_eq!(answer.json()["code"], "disk_full");
            assert!(answer.header("retry-after").is_some());
            return;
        }
        panic!("the disk never gets full");
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

fn can_read(agent: &Agent) {
    let answer = agent.get("/api/v1/events?username=u&limit=10").expect(200).json();
    assert_eq!(answer["events"].as_array().unwrap().len(), 10, "reading goes on");
    let _ = agent.get("/livez").expect(200);
    let ready = agent.get("/readyz").expect(503);
    assert!(ready.text().contains("disk_full"), "{}", ready.text());
}

#[test]
fn a_full_disk_costs_no_event_and_no_hand() {
    if !is_root("tmpfs::a_full_disk") {
        return;
    }
    let config = "journal: {segment_size: 8MiB, reserve: 16MiB, max_size: 1GiB}\n";
    let place = tempfile::Builder::new().prefix("auditmon-e2e-tmpfs-").tempdir_in("/var/tmp").unwrap();
    let volume = Volume::mount(&place.path().join("volume"), "200m");
    let filler = volume.0.join("filler");
    std::fs::write(&filler, vec![1; 80 << 20]).unwrap();
    let mut agent = Agent::builder().config(config).data_dir(volume.0.join("data")).start();
    let mut fill = Fill::default();
    let key = agent.key().to_owned();

    fill.until_full(&agent);
    assert!(fill.accepted.len() > 1_000, "{}", fill.accepted.len());
    can_read(&agent);
    assert!(!fill.one(&agent), "full stays full");

    // A start on the full disk serves reads; an orderly end works there, too.
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    agent.fsck();
    agent.start_again_unready();
    eventually("reads are served", PATIENCE, || (agent.get("/api/v1/events?limit=1").status == 200).then_some(()));
    can_read(&agent);
    // And after a kill.
    agent.kill();
    agent.start_again_unready();
    can_read(&agent);
    assert_eq!(agent.key(), key);

    // Room alone mends it.
    std::fs::remove_file(&filler).unwrap();
    eventually("accepted again, without help", Duration::from_secs(30), || fill.one(&agent).then_some(()));
    eventually("ready again", Duration::from_secs(30), || (agent.get("/readyz").status == 200).then_some(()));
    fill.until_full(&agent);
    can_read(&agent);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    agent.fsck();

    let mut times: HashMap<String, u32> = HashMap::new();
    let mut notes = Vec::new();
    for line in agent.dump() {
        let name = line["event"]["event_name"].as_str().unwrap().to_owned();
        if line["event"]["kind"] == "agent" {
            notes.push(name);
        } else {
            *times.entry(name).or_default() += 1;
        }
    }
    for name in &fill.accepted {
        assert_eq!(times.remove(name), Some(1), "{name} was answered with 201");
    }
    assert!(times.is_empty(), "refused, and stored all the same: {:?}", times.keys().take(3).collect::<Vec<_>>());
    for note in ["journal.paused", "journal.resumed"] {
        assert!(notes.iter().any(|n| n == note), "{note} is an event: {notes:?}");
    }
    drop(volume);
}
