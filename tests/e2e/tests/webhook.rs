//! A webhook over the network, from the configuration to the receiver, with the agent killed on the way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use auditmon_e2e::{Agent, PATIENCE, event, eventually};

/// Answers each request by the event's name, and keeps the names that it took.
struct Receiver {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// `answer` gets the event's name and how many requests there were before.
    fn start(answer: impl Fn(&str, usize) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let (keep, answer) = (Arc::clone(&taken), Arc::new(answer));
        let asked = Arc::new(Mutex::new(0_usize));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (keep, answer, asked) = (Arc::clone(&keep), Arc::clone(&answer), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // The agent may be killed in the middle.
                    while let Some(name) = request(&stream) {
                        let before = {
                            let mut asked = asked.lock().unwrap();
                            *asked += 1;
                            *asked - 1
                        };
                        let code = answer(&name, before);
                        if code == 200 {
                            keep.lock().unwrap().push(name);
                        }
                        let head = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\n\r\n");
                        if (&stream).write_all(head.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, taken }
    }

    fn config(&self) -> String {
        format!(
            "sinks: {{webhook: {{siem: {{url: \"http://{}/hook\"}}}}}}\n",
            self.address
        )
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

/// The name of the posted event; `None` at the connection's end.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Some(event["event_name"].as_str().unwrap().to_owned())
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:03}")).collect()
}

/// Only what this test sent, in order, each the first time it came.
fn first_times(taken: &[String], prefix: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    taken
        .iter()
        .filter(|name| name.starts_with(prefix) && seen.insert((*name).clone()))
        .cloned()
        .collect()
}

#[test]
fn a_receiver_that_fails_at_first_and_an_agent_that_is_killed_lose_nothing() {
    let receiver = Receiver::start(|_, before| if before % 3 == 1 { 503 } else { 200 });
    let mut agent = Agent::builder().config(&receiver.config()).start();
    let sent = names("w", 60);
    for name in &sent[..30] {
        let _ = agent.post(event(name)).expect(201);
    }
    eventually("some have arrived", PATIENCE, || {
        (first_times(&receiver.taken(), "w").len() >= 5).then_some(())
    });
    agent.kill();
    agent.start_again();
    for name in &sent[30..] {
        let _ = agent.post(event(name)).expect(201);
    }
    let arrived = eventually("all have arrived", PATIENCE, || {
        let arrived = first_times(&receiver.taken(), "w");
        (arrived.len() == sent.len()).then_some(arrived)
    });
    // All are of one user, and so in order.
    assert_eq!(arrived, sent);
}

#[test]
fn what_is_refused_for_good_is_kept_listed_and_handed_over_again() {
    let mended = Arc::new(Mutex::new(false));
    let good = Arc::clone(&mended);
    let receiver = Receiver::start(move |name, _| match name {
        "bad" if !*good.lock().unwrap() => 422,
        _ => 200,
    });
    let agent = Agent::builder().config(&receiver.config()).start();
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
    let output = agent.run(&["dlq", "replay", "webhook.none"]).expect(2);
    assert!(output.stderr.contains("only of webhook.siem"), "{}", output.stderr);
    *mended.lock().unwrap() = true;
    let _ = agent.run(&["dlq", "replay", "webhook.siem"]).expect(0);
    eventually("it arrives", PATIENCE, || {
        receiver.taken().contains(&"bad".to_owned()).then_some(())
    });
    eventually("nothing is left", PATIENCE, || {
        agent.run(&["dlq", "list"]).stdout.is_empty().then_some(())
    });
}

#[test]
fn a_receiver_that_is_gone_for_good_stops_its_sink_and_no_other() {
    let receiver = Receiver::start(|_, _| 410);
    let agent = Agent::builder()
        .config(&format!(
            "{}  stdout: {{enabled: true}}\n",
            receiver.config().replace("sinks: {", "sinks:\n  ").replace("}}}", "}}")
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
