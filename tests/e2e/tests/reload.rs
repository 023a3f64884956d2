//! Loading the configuration again: what changes, what stays, and what is never lost.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use auditmon_e2e::{Agent, PATIENCE, Producers, all_kept, event, eventually, request};
use rustix::process::Signal;
use serde_json::Value;

fn start(config: &str) -> Agent {
    Agent::builder().test_plugins().config(config).start()
}

/// The line of `auditmon status` about the last reload, which `--json` has, too.
fn last_reload(agent: &Agent) -> Option<String> {
    let status: Value = serde_json::from_str(&agent.run(&["status", "--json"]).stdout).unwrap();
    let text = agent.run(&["status"]).stdout;
    let start = format!("last reload {}: ", status["last_reload"]["at"].as_str()?);
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    Some(line.unwrap_or_else(|| panic!("no line `{start}`: {text}")).to_owned())
}

/// When each plugin came into its state.
fn since(agent: &Agent, plugins: &[&str]) -> Vec<Value> {
    plugins.iter().map(|name| agent.plugin(name)["since"].clone()).collect()
}

fn counts(agent: &Agent) -> Vec<u64> {
    let ticks = agent.dumped("demo.tick").into_iter();
    ticks
        .map(|event| event["event_data"]["count"].as_u64().unwrap())
        .collect()
}

/// The source has counted on from here, and has missed nothing from the beginning on.
#[track_caller]
fn counts_on(agent: &Agent) {
    let so_far = counts(agent).len() + 5;
    eventually("it counts on", PATIENCE, || {
        (counts(agent).len() > so_far).then_some(())
    });
    let counts = counts(agent);
    assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>());
}

const SUCCESSFUL: &str = "auditmon_config_last_reload_successful";
const SUCCESS_TIME: &str = "auditmon_config_last_reload_success_timestamp_seconds";

#[test]
fn a_bad_file_changes_nothing() {
    let good = "sources: {demosource: {enabled: true}}\nhttp: {protect: []}\n";
    let agent = start(good);
    agent.await_state("demosource", "ok");
    let (before, loaded) = (
        since(&agent, &["demosource", "store", "web"]),
        agent.metric(SUCCESS_TIME),
    );
    assert_eq!(agent.metric(SUCCESSFUL), Some(1.0));
    assert_eq!(last_reload(&agent), None);
    for (bad, says) in [
        (
            "sources: {demosource: {enabled: true, evry: 1s}}\nhttp: {protect: [metrics]}\n",
            "evry",
        ),
        (
            "sources: {demosource: {enabled: false, every: 0s}}\nhttp: {protect: [metrics]}\n",
            "more than 0s",
        ),
        ("http: {protect: [metrics]\n", "auditmon.yaml:"),
    ] {
        agent.rewrite(bad);
        let line = agent.reload();
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(
            agent
                .log()
                .iter()
                .any(|line| line["message"].as_str().unwrap_or_default().contains(says)),
            "{says}"
        );
        assert_eq!(agent.metric(SUCCESSFUL), Some(0.0));
        assert_eq!(agent.metric(SUCCESS_TIME), loaded);
    }
    // Commands read the file, too.
    agent.rewrite(good);
    let failed = last_reload(&agent).unwrap();
    assert!(
        failed.starts_with("failed: ") && failed.contains("auditmon.yaml:"),
        "{failed}"
    );
    assert_eq!(since(&agent, &["demosource", "store", "web"]), before);
    counts_on(&agent);
    let told = agent.dumped("agent.reload");
    assert_eq!(told.len(), 3);
    assert_eq!(
        (&told[0]["outcome"], &told[0]["event_data"]["changed"]),
        (&"failure".into(), &Value::Array(vec![]))
    );
    // And the file that works again is taken.
    let (changed, pending) = agent.reload_with(good);
    assert_eq!((changed.as_str(), pending.as_str()), ("", ""));
    assert_eq!(last_reload(&agent).unwrap(), "ok, nothing changed");
    assert_eq!(agent.metric(SUCCESSFUL), Some(1.0));
    assert_eq!(agent.dumped("agent.reload").len(), 3, "nothing has changed");
    assert!(agent.metric(SUCCESS_TIME) > loaded);
}

#[test]
fn one_that_changes_a_sink_disturbs_nobody_else() {
    let config = |file: &str| {
        format!(
            "sources: {{demosource: {{enabled: true}}}}\nsinks: {{demosink: {{enabled: true, file: {file}}}, stdout: {{enabled: true}}}}\n"
        )
    };
    let agent = start(&config("one"));
    agent.await_state("demosink", "ok");
    let others = ["demosource", "ingest", "store", "stdout", "web"];
    let before = since(&agent, &others);
    let ticks = agent.metric("demo_ticks_total").unwrap();
    // A request whose body is still to come.
    let request = agent.events("").json(event("slow"));
    let mut raw = agent.raw();
    let body = event("slow");
    raw.send(&request.head()).unwrap();
    raw.send(&body.as_bytes()[..10]).unwrap();
    let mut kept = agent.http();
    let _ = kept.send(&auditmon_e2e::request("GET", "/livez")).unwrap();

    let (changed, pending) = agent.reload_with(&config("two"));
    assert_eq!((changed.as_str(), pending.as_str()), ("sinks.demosink.file", ""));
    assert_eq!(last_reload(&agent).unwrap(), "ok, 1 key changed");

    raw.send(&body.as_bytes()[10..]).unwrap();
    assert_eq!(raw.answer().unwrap().status, 201);
    assert_eq!(kept.send(&auditmon_e2e::request("GET", "/livez")).unwrap().status, 200);
    assert_eq!(since(&agent, &others), before);
    assert!(
        agent.metric("demo_ticks_total").unwrap() >= ticks,
        "it was not built again"
    );
    counts_on(&agent);
    // Between the two files there is neither a hole nor a repetition.
    let lines = |name: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(agent.data_dir().join(name)).unwrap_or_default();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
            .collect()
    };
    eventually("the new file has the newest", PATIENCE, || lines("two").last().copied());
    let (one, two) = (lines("one"), lines("two"));
    let written: BTreeSet<u64> = one.iter().chain(&two).copied().collect();
    assert_eq!(written.len(), one.len() + two.len());
    let journal = agent.dump();
    let until = *two.last().unwrap();
    let wanted: BTreeSet<u64> = journal
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .filter(|seq| *seq <= until)
        .collect();
    assert!(wanted.is_subset(&written));
    let told = agent.dumped("agent.reload");
    assert_eq!(
        told[0]["event_data"]["changed"],
        serde_json::json!(["sinks.demosink.file"])
    );
    assert_eq!(told[0]["event_data"]["by"], "SIGHUP");
    assert!(!told[0].to_string().contains("two"), "keys, never values");
}

#[test]
fn each_key_takes_what_its_class_says() {
    let config = |keys: &str, rest: &str| format!("sources: {{demosource: {{enabled: true, {keys}}}}}\n{rest}");
    let agent = start(&config("username: a, every: 5ms", ""));
    agent.await_state("demosource", "ok");
    let before = since(&agent, &["demosource"]);
    let ticks = agent.metric("demo_ticks_total").unwrap();

    // Live: the same instance goes on.
    let (changed, _) = agent.reload_with(&config("username: b, every: 5ms", ""));
    assert_eq!(changed, "sources.demosource.username");
    eventually("the new name", PATIENCE, || {
        let ticks = agent.dumped("demo.tick");
        (ticks.last().unwrap()["username"] == "b").then_some(())
    });
    assert!(agent.metric("demo_ticks_total").unwrap() >= ticks);
    assert_eq!(since(&agent, &["demosource"]), before);

    // A live value that the plugin refuses: the former goes on.
    agent.rewrite(&config("username: nobody, every: 5ms", ""));
    let line = agent.reload();
    assert_eq!(line["level"], "ERROR", "{line}");
    agent.await_log("goes on with the former values");
    counts_on(&agent);
    assert!(
        agent
            .dumped("demo.tick")
            .iter()
            .all(|event| event["username"] != "nobody")
    );

    // Built again: it goes on where it was.
    let (changed, _) = agent.reload_with(&config("username: b, every: 4ms", ""));
    assert_eq!(changed, "sources.demosource.every");
    counts_on(&agent);

    // For the next start, and told at each reload until then.
    let rest = "journal: {segment_size: 1MiB}\n";
    for _ in 0..2 {
        let (changed, pending) = agent.reload_with(&config("username: b, every: 4ms", rest));
        assert_eq!(changed, "");
        assert!(pending.starts_with("journal"), "{pending}");
    }
    assert_eq!(agent.metric(SUCCESSFUL), Some(1.0));
    let (_, pending) = agent.reload_with(&config("username: b, every: 4ms", ""));
    assert_eq!(pending, "");
}

#[test]
fn the_former_plugin_is_built_again_if_the_new_one_cant_be() {
    let config = |keys: &str| {
        format!("sources: {{demosource: {{enabled: true, {keys}}}}}\nsinks: {{demosink: {{enabled: true, {keys}}}}}\n")
    };
    let agent = start(&config("fault: none"));
    agent.await_state("demosource", "ok");
    for fault in ["build", "busy"] {
        agent.rewrite(&config(&format!("fault: {fault}")));
        let line = agent.reload();
        assert_eq!(line["level"], "ERROR", "{line}");
        assert_eq!(line["changed"], "");
        for path in ["sources.demosource", "sinks.demosink"] {
            let says = format!("{path} goes on with the former values");
            agent.await_log(&says);
        }
        for plugin in ["demosource", "demosink"] {
            assert_eq!(agent.plugin(plugin)["state"], "ok", "{}", agent.stderr());
        }
    }
    // One that is built and fails at its work at once, too.
    let failing = "sources: {demosource: {enabled: true, fault: permanent}}\nsinks: {demosink: {enabled: true}}\n";
    agent.rewrite(failing);
    assert_eq!(agent.reload()["level"], "ERROR");
    agent.await_state("demosource", "ok");
    counts_on(&agent);
}

#[test]
fn plugins_are_turned_on_and_off() {
    let on = "sinks: {demosink: {enabled: true}}\n";
    let agent = start(on);
    agent.await_state("demosink", "ok");
    let lag = "auditmon_plugin_state{plugin=\"demosink\",state=\"disabled\"}";
    let _ = agent.post(event("first")).expect(201);
    let (changed, _) = agent.reload_with("sinks: {demosink: {enabled: false}}\n");
    assert_eq!(changed, "sinks.demosink.enabled");
    assert_eq!(agent.plugin("demosink")["state"], "disabled");
    assert_eq!(agent.metric(lag), Some(1.0));
    let second = agent.post(event("second")).expect(201).json()["first_seq"]
        .as_u64()
        .unwrap();
    let (changed, _) = agent.reload_with(on);
    assert_eq!(changed, "sinks.demosink.enabled");
    agent.await_state("demosink", "ok");
    // It goes on at its position.
    eventually("what came meanwhile is delivered", PATIENCE, || {
        let lines = std::fs::read_to_string(agent.data_dir().join("demo.lines")).unwrap();
        let times = |name: &str| lines.lines().filter(|line| line.ends_with(name)).count();
        assert!(times("first") <= 1);
        (times("first") == 1 && lines.contains(&format!("{second} second\n"))).then_some(())
    });
    // What the command line says wins over the file, at a reload too.
    let agent = Agent::builder()
        .test_plugins()
        .config("{}\n")
        .arg("--disable")
        .arg("web")
        .start();
    agent.reload_with("services: {web: {enabled: true}}\n");
    assert_eq!(agent.plugin("web")["state"], "disabled");
}

#[test]
fn the_store_is_turned_off_and_on_and_the_page_knows() {
    let agent = start("{}\n");
    let _ = agent.post(event("kept")).expect(201);
    let _ = agent.await_events("?event_name=kept", 1);
    let (changed, _) = agent.reload_with("sinks: {store: {enabled: false}}\n");
    assert_eq!(changed, "sinks.store.enabled");
    let answer = agent.get("/api/v1/events").expect(503);
    assert_eq!(answer.json()["code"], "no_store", "{}", answer.text());
    let page = agent.page_url().split_once("/open").unwrap().1.to_owned();
    let opened = request("GET", &format!("/open{page}")).send(agent.listen());
    let cookie = opened
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let look = || request("GET", "/").header("cookie", &cookie).send(agent.listen());
    assert!(look().text().contains("store is off"), "{}", look().text());
    agent.reload_with("{}\n");
    let _ = agent.await_events("?event_name=kept", 1);
    assert_eq!(look().expect(200).status, 200);
}

#[test]
fn the_log_level_and_what_is_protected_change_while_it_runs() {
    // A source that fails again and again says so once, and then at the level of debug.
    let failing = "sources: {demosource: {enabled: true, fault: transient}}\n";
    let agent = start(failing);
    let unprotected = || request("GET", "/metrics").send(agent.listen()).status;
    assert_eq!(unprotected(), 200);
    let debugs = || agent.log().iter().filter(|line| line["level"] == "DEBUG").count();
    assert_eq!(debugs(), 0);
    let rest = "http: {protect: [metrics]}\nlogging: {level: \"info,auditmon_runtime=debug\"}\n";
    let (changed, pending) = agent.reload_with(&format!("{failing}{rest}"));
    assert_eq!(
        (changed.as_str(), pending.as_str()),
        ("http.protect, logging.level", "")
    );
    assert_eq!(unprotected(), 401);
    eventually("lines of the new level", PATIENCE, || (debugs() > 0).then_some(()));
    agent.rewrite("logging: {level: \"no=such=level\"}\n");
    assert_eq!(agent.reload()["level"], "ERROR");
    assert_eq!(unprotected(), 401, "nothing has changed");
}

#[test]
fn twenty_reloads_under_load_lose_nothing() {
    let config = |round: usize| {
        let (odd, n) = (round % 2, round + 1);
        format!(
            "sources:\n  ingest: {{linger: {odd}ms}}\n  demosource: {{enabled: true, every: {n}ms, username: u{n}}}\n\
             sinks:\n  store: {{retention: {{interval: {n}h}}}}\n  demosink: {{enabled: true, file: lines{odd}}}\n\
             http: {{protect: [{}]}}\n",
            if odd == 1 { "metrics" } else { "" }
        )
    };
    let mut agent = start(&config(0));
    let producers = Producers::start(agent.listen(), agent.key(), 8, "reload");
    for round in 1..=20 {
        producers.wait_for(20);
        let (changed, pending) = agent.reload_with(&config(round));
        for key in [
            "ingest.linger",
            "demosource.every",
            "store.retention",
            "demosink.file",
            "http.protect",
        ] {
            assert!(changed.contains(key), "{key}: {changed}");
        }
        assert_eq!(pending, "");
    }
    producers.wait_for(20);
    let (owed, other) = producers.finish();
    assert_eq!(other, Vec::<u16>::new(), "nobody is turned away either");
    counts_on(&agent);
    let dump = agent.dump();
    all_kept(&dump, &owed);
    assert_eq!(agent.stop(), 0);
    agent.fsck();
    let dump = agent.dump();
    let stored = &agent.rows("SELECT count(*), count(DISTINCT seq) FROM events")[0];
    assert_eq!(stored[0], dump.len() as u64, "each once");
    assert_eq!(stored[0], stored[1]);
    let lines: String = ["lines0", "lines1"]
        .map(|name| std::fs::read_to_string(agent.data_dir().join(name)).unwrap())
        .concat();
    let written: BTreeSet<u64> = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    assert!(dump.iter().all(|line| written.contains(&line["seq"].as_u64().unwrap())));
}

#[test]
fn a_stop_in_the_middle_of_a_reload_is_a_stop() {
    // The sink never ends by itself, so the reload waits for it.
    let mut agent = start("sinks: {demosink: {enabled: true, fault: hang}}\n");
    let _ = agent.post(event("x")).expect(201);
    agent.rewrite("sinks: {demosink: {enabled: true, fault: none}}\n");
    agent.signal(Signal::HUP);
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait(), 0, "{}", agent.stderr());
    agent.fsck();
    assert_eq!(agent.dump().last().unwrap()["event"]["event_name"], "agent.stop");
}
