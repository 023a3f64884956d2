//! Nothing before the sync: while the disk takes two seconds, nobody sees the event, and nobody is told that it is accepted.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use auditmon_e2e::{Agent, PATIENCE, SlowDisk, event, eventually, request};
use rustix::process::Signal;

const DELAY: Duration = Duration::from_secs(2);

/// Every place where an event shows, by name; the ones that show this event.
fn seen(agent: &Agent, cookie: Option<&str>, name: &str) -> Vec<&'static str> {
    let mut seen = Vec::new();
    if agent
        .get(&format!("/api/v1/events?event_name={name}"))
        .text()
        .contains(&format!("\"{name}\""))
    {
        seen.push("GET /api/v1/events");
    }
    if agent
        .rows(&format!("SELECT 1 FROM events WHERE event_name = '{name}'"))
        .len()
        == 1
    {
        seen.push("events.db");
    }
    if agent.stdout().contains(name) {
        seen.push("stdout sink");
    }
    if let Some(cookie) = cookie {
        let page = request("GET", "/").header("cookie", cookie).send(agent.listen());
        if page.text().contains(name) {
            seen.push("page");
        }
    }
    if agent.run(&["journal", "dump"]).stdout.contains(name) {
        seen.push("journal dump");
    }
    seen
}

#[test]
fn an_event_shows_nowhere_before_it_is_on_disk() {
    let agent = Agent::builder().config("sinks: {stdout: {enabled: true}}\n").start();
    let opened = request(
        "GET",
        agent.page_url().split_once(&agent.listen().to_string()).unwrap().1,
    )
    .send(agent.listen());
    let cookie = opened
        .header("set-cookie")
        .map(|cookie| cookie.split(';').next().unwrap().to_owned());
    assert!(cookie.is_some(), "the page opens: {} {}", opened.status, opened.text());

    // The places work: this one shows everywhere.
    let _ = agent.post(event("before")).expect(201);
    let everywhere = ["GET /api/v1/events", "events.db", "stdout sink", "page", "journal dump"];
    eventually("everywhere", PATIENCE, || {
        (seen(&agent, cookie.as_deref(), "before") == everywhere).then_some(())
    });

    let disk = SlowDisk::attach(&agent, DELAY);
    let request = agent.events("").json(event("during"));
    let listen = agent.listen();
    let posted = Instant::now();
    let post = std::thread::spawn(move || (request.send(listen), Instant::now()));
    let mut looks = 0;
    // The sync may begin a little after the post: what counts is that nothing shows until shortly before its end.
    while posted.elapsed() < DELAY - Duration::from_millis(400) {
        let began = Instant::now();
        let shown = seen(&agent, cookie.as_deref(), "during");
        if posted.elapsed() < DELAY {
            assert_eq!(shown, [""; 0], "after {:?}", posted.elapsed());
            looks += 1;
        }
        assert!(
            began.elapsed() < DELAY,
            "looking must not wait for the disk: {:?}",
            began.elapsed()
        );
    }
    assert!(looks >= 2, "the machine was too busy to look even twice");
    let (answer, answered) = post.join().unwrap();
    let _ = answer.expect(201);
    assert!(answered - posted >= DELAY, "{:?}", answered - posted);
    drop(disk);
    eventually("everywhere", PATIENCE, || {
        (seen(&agent, cookie.as_deref(), "during") == everywhere).then_some(())
    });
}

#[test]
fn a_power_cut_before_the_sync_leaves_no_answer_behind() {
    let mut agent = Agent::start();
    let _ = agent.post(event("first")).expect(201);
    let disk = SlowDisk::attach(&agent, Duration::from_secs(30));
    let request = agent.events("").json(event("unanswered"));
    let listen = agent.listen();
    let post = std::thread::spawn(move || request.try_send(listen));
    eventually("not ready: something waits for the disk", PATIENCE, || {
        (agent.get("/readyz").status == 503).then_some(())
    });
    assert!(!post.is_finished(), "answered before the sync");
    assert_eq!(agent.get("/livez").status, 200);
    agent.signal(Signal::KILL);
    // The thread that strace holds is gone only with strace.
    drop(disk);
    assert_eq!(agent.wait(), -1 - Signal::KILL.as_raw());
    assert!(post.join().unwrap().is_err(), "answered, though never synced");
    agent.start_again();
    let names: Vec<_> = agent
        .dump()
        .iter()
        .map(|line| line["event"]["event_name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains(&"first".to_owned()), "{names:?}");
    assert_eq!(agent.stop(), 0);
    agent.fsck();
}

#[test]
fn after_a_failed_sync_nothing_of_it_is_answered_or_seen_and_the_agent_goes_on() {
    for error in ["EIO", "ENOSPC"] {
        let mut agent = Agent::start();
        let _ = agent.post(event("before")).expect(201);
        // The agent's own upkeep has synced by now, too: the next sync is the one of the post.
        let _ = agent.dump();
        let disk = SlowDisk::failing_once(&agent, error);
        let refused = agent.post(event("failed"));
        assert!(
            [503, 507].contains(&refused.status),
            "{error}: {} {}",
            refused.status,
            refused.text()
        );
        assert!(refused.header("retry-after").is_some());
        let again = eventually("accepted again, without help", PATIENCE, || {
            let answer = agent.post(event("after"));
            (answer.status == 201).then(|| answer.json())
        });
        drop(disk);
        let _ = agent.await_events("?event_name=after", 1);
        assert!(agent.await_events("?event_name=failed", 0).is_empty());
        assert_eq!(agent.stop(), 0);
        agent.fsck();
        let dump = agent.dump();
        let names: Vec<_> = dump
            .iter()
            .map(|line| line["event"]["event_name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"before") && !names.contains(&"failed"), "{names:?}");
        assert_eq!(names.iter().filter(|name| **name == "after").count(), 1, "{names:?}");
        assert!(names.contains(&"journal.sync_failed"), "it is an event: {names:?}");
        let after = dump.iter().find(|line| line["event"]["event_name"] == "after").unwrap();
        assert_eq!(after["seq"], again["first_seq"]);
    }
}
