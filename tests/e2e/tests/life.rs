//! Plugins that fail: each is started again, told of, and harms no other.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auditmon_e2e::{Agent, PATIENCE, Producers, all_kept, event, eventually};
use rustix::process::Signal;
use serde_json::Value;

/// While it exists the plugin is in trouble.
struct Trouble {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl Trouble {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trouble");
        std::fs::write(&file, "").unwrap();
        Self { _dir: dir, file }
    }

    fn end(&self) {
        std::fs::remove_file(&self.file).unwrap();
    }
}

fn source(fault: &str, trouble: &Path) -> String {
    format!(
        "sources: {{demosource: {{enabled: true, fault: {fault}, after: 3, while: {}}}}}\n",
        trouble.display()
    )
}

fn sink(fault: &str, trouble: &Path) -> String {
    format!(
        "sinks: {{demosink: {{enabled: true, fault: {fault}, while: {}}}}}\n",
        trouble.display()
    )
}

fn start(config: &str) -> Agent {
    Agent::builder().test_plugins().config(config).start()
}

/// What the journal says of a plugin: names of agent events about it, in order.
fn told(agent: &Agent, plugin: &str) -> Vec<String> {
    let dump = agent.dump().into_iter().map(|line| line["event"].clone());
    dump.filter(|event| event["kind"] == "agent" && event["resource"] == plugin)
        .map(|event| event["event_name"].as_str().unwrap().to_owned())
        .collect()
}

/// The demonstration source's counts, in the order of the journal.
fn counts(agent: &Agent) -> Vec<u64> {
    let ticks = agent.dumped("demo.tick").into_iter();
    ticks
        .map(|event| event["event_data"]["count"].as_u64().unwrap())
        .collect()
}

/// Places that the demonstration sink has written, without repetitions.
fn written(agent: &Agent) -> Vec<u64> {
    let lines = std::fs::read_to_string(agent.data_dir().join("demo.lines")).unwrap_or_default();
    let mut seqs: Vec<u64> = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    seqs.dedup();
    seqs
}

/// The sink has everything that the journal has now; a source may go on meanwhile.
fn caught_up(agent: &Agent) {
    let journal = agent.dump();
    let owed: Vec<u64> = journal.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    eventually("the sink has everything", PATIENCE, || {
        let has: std::collections::BTreeSet<u64> = written(agent).into_iter().collect();
        owed.iter().all(|seq| has.contains(seq)).then_some(())
    });
}

#[test]
fn a_source_that_breaks_is_started_again_and_goes_on_where_it_was() {
    for fault in ["panic", "transient", "ends"] {
        let trouble = Trouble::begin();
        let agent = start(&source(fault, &trouble.file));
        let failed = agent.await_state("demosource", "failed");
        let reason = failed["reason"].as_str().unwrap();
        let says = match fault {
            "panic" => "fault of the program",
            "transient" => "a fault that may pass",
            _ => "ended by itself",
        };
        assert!(reason.contains(says), "{reason}");
        // Nobody else takes notice.
        let _ = agent.post(event("meanwhile")).expect(201);
        let _ = agent.get("/readyz").expect(200);
        trouble.end();
        agent.await_state("demosource", "ok");
        let restarts = agent.metric("auditmon_plugin_restarts_total{plugin=\"demosource\"}");
        assert!(restarts.unwrap() >= 1.0);
        let so_far = counts(&agent).len() + 5;
        eventually("it counts on", PATIENCE, || {
            (counts(&agent).len() > so_far).then_some(())
        });
        let counts = counts(&agent);
        let wanted: Vec<u64> = (1..=counts.len() as u64).collect();
        assert_eq!(counts, wanted, "its memory is that of the last accepted event");
        eventually("it is told of", PATIENCE, || {
            (told(&agent, "demosource") == ["plugin.failed", "plugin.recovered"]).then_some(())
        });
        let event = agent.dumped("plugin.failed").remove(0);
        assert_eq!(event["outcome"], "failure");
        assert!(
            event["event_data"]["reason"].as_str().unwrap().contains(says),
            "{event}"
        );
    }
}

#[test]
fn what_cant_be_built_now_is_built_later() {
    let trouble = Trouble::begin();
    let config = source("busy", &trouble.file) + &sink("busy", &trouble.file);
    let agent = start(&config);
    for plugin in ["demosource", "demosink"] {
        let failed = agent.await_state(plugin, "failed");
        assert!(
            failed["reason"].as_str().unwrap().contains("can't be built now"),
            "{failed}"
        );
    }
    let _ = agent.post(event("before")).expect(201);
    trouble.end();
    agent.await_state("demosource", "ok");
    agent.await_state("demosink", "ok");
    caught_up(&agent);
}

#[test]
fn a_fault_that_stays_is_not_tried_again_until_the_configuration_is_loaded_again() {
    let trouble = Trouble::begin();
    let config = source("permanent", &trouble.file) + &sink("build", &trouble.file);
    let agent = start(&config);
    for plugin in ["demosource", "demosink"] {
        agent.await_state(plugin, "failed");
        let line = agent.await_log("it stays down until the configuration is loaded again");
        assert_eq!(line["level"], "ERROR");
    }
    trouble.end();
    assert_eq!(agent.plugin("demosource")["state"], "failed");
    let line = agent.reload();
    assert_eq!(line["level"], "INFO", "{}", agent.stderr());
    agent.await_state("demosource", "ok");
    agent.await_state("demosink", "ok");
    caught_up(&agent);
}

#[test]
fn a_sink_that_breaks_delays_nobody_and_catches_up() {
    for fault in ["panic", "permanent", "transient"] {
        let trouble = Trouble::begin();
        let agent = start(&sink(fault, &trouble.file));
        let state = if fault == "transient" { "degraded" } else { "failed" };
        agent.await_state("demosink", state);
        for number in 0..50 {
            let _ = agent.post(event(&format!("e{number}"))).expect(201);
        }
        // The store has them all.
        let _ = agent.await_events("?event_name=e49", 1);
        assert_eq!(agent.plugin("store")["state"], "ok");
        trouble.end();
        if fault == "permanent" {
            agent.reload();
        }
        agent.await_state("demosink", "ok");
        caught_up(&agent);
    }
}

/// Ends an agent and gives how long that took.
fn stopped(agent: &mut Agent) -> Duration {
    let begin = Instant::now();
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    begin.elapsed()
}

/// An end has 10 s; what a busy machine adds is not the agent's.
const DEADLINE: Duration = Duration::from_secs(15);

#[test]
fn who_does_not_end_is_named_and_left_behind() {
    for (config, name) in [
        (source("hang", Path::new("/")), "demosource"),
        (source("block", Path::new("/")), "demosource"),
        (sink("hang", Path::new("/")), "demosink"),
    ] {
        let mut agent = start(&config);
        if name == "demosource" {
            eventually("it hangs", PATIENCE, || (counts(&agent).len() >= 3).then_some(()));
        }
        let _ = agent.post(event("last")).expect(201);
        assert!(stopped(&mut agent) < DEADLINE, "{}", agent.stderr());
        let line = agent.log().into_iter().find(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("did not end in time") || message.contains("did not deliver everything in time")
        });
        let line = line.unwrap_or_else(|| panic!("{}", agent.stderr()));
        assert!([&line["plugin"], &line["sink"]].contains(&&Value::from(name)), "{line}");
        // The others had their time.
        agent.fsck();
        let dump = agent.dump();
        assert_eq!(dump.last().unwrap()["event"]["event_name"], "agent.stop");
        let stored = agent.rows("SELECT count(*) FROM events")[0][0].as_u64().unwrap();
        assert_eq!(stored, dump.len() as u64, "{}", agent.stderr());
    }
}

#[test]
fn a_stop_under_load_with_plugins_in_trouble_loses_nothing_that_was_accepted() {
    let config = "sources: {demosource: {enabled: true, every: 1ms}}\n\
                  sinks: {demosink: {enabled: true, fault: hang, while: /}}\n";
    let mut agent = start(config);
    let producers = Producers::start(agent.listen(), agent.key(), 8, "stop");
    producers.wait_for(100);
    assert!(stopped(&mut agent) < DEADLINE, "{}", agent.stderr());
    let (owed, other) = producers.finish();
    assert!(other.iter().all(|status| *status == 503), "{other:?}");
    agent.fsck();
    let dump = agent.dump();
    all_kept(&dump, &owed);
    let counts = counts(&agent);
    assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>());
    let stored = agent.rows("SELECT count(*) FROM events")[0][0].as_u64().unwrap();
    assert_eq!(stored, dump.len() as u64, "the other sink has delivered everything");
}

#[test]
fn each_stage_of_the_end_has_a_line() {
    let mut agent = start("{}\n");
    stopped(&mut agent);
    let messages: Vec<String> = agent
        .log()
        .iter()
        .filter_map(|line| line["message"].as_str().map(str::to_owned))
        .skip_while(|message| !message.starts_with("stopping"))
        .collect();
    assert_eq!(
        messages,
        [
            "stopping; a second signal ends at once",
            "stopping: sources hand over what they hold",
            "stopping: the journal is closed",
            "stopping: sinks deliver what is left",
            "stopped",
        ]
    );
}

#[test]
fn a_second_signal_ends_at_once_though_a_plugin_hangs() {
    let mut agent = start(&source("hang", Path::new("/")));
    eventually("it hangs", PATIENCE, || (counts(&agent).len() >= 3).then_some(()));
    agent.signal(Signal::INT);
    agent.await_log("sources hand over");
    agent.signal(Signal::INT);
    assert_eq!(agent.wait(), 130);
    agent.start_again();
    agent.fsck();
}

#[test]
fn the_shipped_binary_has_no_test_plugins() {
    let agent = Agent::builder().place();
    let output = agent.run(&["run", "--enable", "demosource"]).expect(78);
    assert!(
        output.stderr.contains("demosource: expected a plugin"),
        "{}",
        output.stderr
    );
}

#[test]
fn the_example_of_the_test_plugins_is_good() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/config.example.yaml");
    let agent = Agent::builder().test_plugins().place();
    let output = agent.run(&["--config", example, "check"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
}
