//! A webhook over the network, from the configuration to the receiver, with the agent killed on the way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use auditmon_e2e::receiver::Receiver;
use auditmon_e2e::{Agent, PATIENCE, event, eventually};

fn config(receiver: &Receiver) -> String {
    format!(
        "sinks: {{webhook: {{siem: {{url: \"http://{}/hook\"}}}}}}\n",
        receiver.address()
    )
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:03}")).collect()
}

#[test]
fn a_receiver_that_fails_at_first_and_an_agent_that_is_killed_lose_nothing() {
    let receiver = Receiver::start(|asked| if asked.before % 3 == 1 { 503_u16 } else { 200 });
    let mut agent = Agent::builder().config(&config(&receiver)).start();
    let sent = names("w", 60);
    for name in &sent[..30] {
        let _ = agent.post(event(name)).expect(201);
    }
    eventually("some have arrived", PATIENCE, || {
        (receiver.first_times("w").len() >= 5).then_some(())
    });
    agent.kill();
    agent.start_again();
    for name in &sent[30..] {
        let _ = agent.post(event(name)).expect(201);
    }
    let arrived = eventually("all have arrived", PATIENCE, || {
        let arrived = receiver.first_times("w");
        (arrived.len() == sent.len()).then_some(arrived)
    });
    // All are of one user, and so in order.
    assert_eq!(arrived, sent);
}

#[test]
fn what_is_refused_for_good_is_kept_listed_and_handed_over_again() {
    let mended = Arc::new(Mutex::new(false));
    let good = Arc::clone(&mended);
    let receiver = Receiver::start(move |asked| match asked.names[0].as_str() {
        "bad" if !*good.lock().unwrap() => 422_u16,
        _ => 200,
    });
    let agent = Agent::builder().config(&config(&receiver)).start();
    for name in ["a", "bad", "b"] {
        let _ = agent.post(event(name)).expect(201);
    }
    eventually("the one behind it arrives", PATIENCE, || {
        receiver.taken().contains(&"b".to_owned()).then_some(())
    });
    let listed = eventually("the letter", PATIENCE, || {
        let output = agent.run(&["dlq", "list", "--json"]);
        (!output.stdout.is_empty()).then_some(output.stdout)
    });
    let letter: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(letter["sink"], "webhook.siem");
    assert_eq!(letter["event"]["event_name"], "bad");
    assert!(letter["reason"].as_str().unwrap().contains("422"), "{letter}");
    // It is compared with the journal once that is signed, and one that was changed is found.
    eventually("compared", PATIENCE, || {
        let report: serde_json::Value =
            serde_json::from_str(&agent.run(&["verify", "--json"]).expect(0).stdout).ok()?;
        (report["counts"]["letters"] == 1).then_some(())
    });
    let file = agent.data_dir().join("dlq/webhook.siem.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    for (was, is) in [("422", "400"), ("\"bad\"", "\"sad\"")] {
        std::fs::write(&file, text.replace(was, is)).unwrap();
        let output = agent.run(&["verify"]).expect(1);
        let seq = format!("tampered: dlq/webhook.siem.jsonl: seq {}", letter["seq"]);
        assert!(output.stdout.contains(&seq), "{}", output.stdout);
    }
    std::fs::write(&file, &text).unwrap();
    let output = agent.run(&["dlq", "replay", "webhook.none"]).expect(2);
    assert!(output.stderr.contains("only of webhook.siem"), "{}", output.stderr);
    *mended.lock().unwrap() = true;
    let output = agent.run(&["dlq", "replay", "webhook.siem"]).expect(0);
    assert_eq!(output.stdout, "1 events will be handed to webhook.siem again, now\n");
    eventually("it arrives", PATIENCE, || {
        receiver.taken().contains(&"bad".to_owned()).then_some(())
    });
    eventually("nothing is left", PATIENCE, || {
        agent.run(&["dlq", "list"]).stdout.is_empty().then_some(())
    });
}

#[test]
fn a_receiver_that_is_gone_for_good_stops_its_sink_and_no_other() {
    let receiver = Receiver::start(|_| 410_u16);
    let agent = Agent::builder()
        .config(&format!(
            "{}  stdout: {{enabled: true}}\n",
            config(&receiver).replace("sinks: {", "sinks:\n  ").replace("}}}", "}}")
        ))
        .start();
    let _ = agent.post(event("a")).expect(201);
    eventually("it is failed, and says why", PATIENCE, || {
        let status: serde_json::Value = serde_json::from_str(&agent.run(&["status", "--json"]).stdout).ok()?;
        let sink = &status["plugins"]["webhook.siem"];
        (sink["state"] == "failed" && sink["reason"].as_str()?.contains("410")).then_some(())
    });
    assert_eq!(agent.await_events("?event_name=a", 1).len(), 1);
    eventually("the other sink has it", PATIENCE, || {
        agent.stdout().contains("\"event_name\":\"a\"").then_some(())
    });
}
