//! The web page: one address opens it once, and nothing that an event says becomes markup.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use auditmon_e2e::{Agent, Answer, PATIENCE, event, eventually, request};
use serde_json::json;

fn path<'a>(agent: &Agent, url: &'a str) -> &'a str {
    url.trim_end()
        .strip_prefix(&format!("http://{}", agent.listen()))
        .unwrap_or_else(|| panic!("{url} is not this agent's"))
}

/// Follows a one-time address; gives the cookie.
#[track_caller]
fn open(agent: &Agent, url: &str) -> String {
    let answer = request("GET", path(agent, url)).send(agent.listen()).expect(303);
    assert_eq!(answer.header("location"), Some("/"));
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.split("; ").any(|p| p == part), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn get(agent: &Agent, path: &str, cookie: &str) -> Answer {
    request("GET", path).header("cookie", cookie).send(agent.listen())
}

#[test]
fn the_one_time_address_opens_the_page_once() {
    let mut agent = Agent::start();
    let _ = agent.post(event("shown")).expect(201);
    let _ = request("GET", "/").send(agent.listen()).expect(401);
    // A chat program that looks at the link doesn't use it up.
    let _ = request("HEAD", path(&agent, agent.page_url())).send(agent.listen());
    let cookie = open(&agent, agent.page_url());
    let html = eventually("the event is on the page", PATIENCE, || {
        let answer = get(&agent, "/", &cookie).expect(200);
        answer.text().contains("shown").then_some(answer)
    });
    assert!(html.header("content-type").unwrap().starts_with("text/html"));
    let _ = request("GET", path(&agent, agent.page_url()))
        .send(agent.listen())
        .expect(401);
    let _ = request("GET", "/open?token=wrong").send(agent.listen()).expect(401);
    let _ = get(&agent, "/", "auditmon_session=wrong").expect(401);
    // The session reads by the API, too, but writes nothing.
    let _ = get(&agent, "/api/v1/events", &cookie).expect(200);
    let _ = request("POST", "/api/v1/events")
        .header("cookie", &cookie)
        .json(event("no"))
        .send(agent.listen())
        .expect(401);

    let key = agent.key().to_owned();
    agent.restart();
    assert_eq!(agent.key(), key);
    let _ = get(&agent, "/", &cookie).expect(200);
    // Another address, printed beside the running agent.
    let another = agent.run(&["page"]).expect(0).stdout;
    let query = another.split_once("/open").unwrap().1.trim_end();
    eventually("it opens", Duration::from_secs(10), || {
        (request("GET", &format!("/open{query}")).send(agent.listen()).status == 303).then_some(())
    });
}

#[test]
fn what_an_event_says_stays_text() {
    let agent = Agent::start();
    let cookie = open(&agent, agent.page_url());
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let sent = json!({"event_name": evil, "username": evil, "resource": "javascript:alert(3)", "request_id": evil, "event_data": {evil: evil}});
    let id = agent.post(sent.to_string()).expect(201).json()["ids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let list = eventually("the event is on the page", PATIENCE, || {
        let answer = get(&agent, "/", &cookie);
        answer.text().contains(&id).then_some(answer)
    });
    let query = "/?username=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&usrname=%3Cimg%20src=x%3E";
    for answer in [
        list,
        get(&agent, &format!("/events/{id}"), &cookie).expect(200),
        get(&agent, query, &cookie),
        get(&agent, "/events/%3Cscript%3E", &cookie),
    ] {
        let html = answer.text();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(!html.contains("href=\"javascript:"), "{html}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(
            !html.contains("http://") || !html.contains("src=\"http"),
            "nothing foreign is loaded"
        );
    }
}

#[test]
fn filters_of_the_page_find_and_say_what_is_wrong() {
    let agent = Agent::start();
    let cookie = open(&agent, agent.page_url());
    let _ = agent
        .post(format!("[{},{}]", event("first-one"), event("other-one")))
        .expect(201);
    let _ = agent.await_events("?username=tester", 2);
    let html = get(&agent, "/?event_name=first-one", &cookie).expect(200).text();
    assert!(html.contains("/events/") && html.contains("first-one") && !html.contains("other-one"));
    assert!(
        get(&agent, "/?after=monday", &cookie)
            .expect(400)
            .text()
            .contains("after")
    );
    let _ = get(&agent, "/events/01890000-0000-7000-8000-000000000000", &cookie).expect(404);
    // The style sheet that the page names is there, without a session.
    let html = get(&agent, "/", &cookie).text();
    let style = html.split("href=\"/static/").nth(1).unwrap().split('"').next().unwrap();
    let _ = request("GET", &format!("/static/{style}"))
        .send(agent.listen())
        .expect(200);
}

#[test]
fn what_retention_deleted_is_told_from_what_never_was() {
    let agent = Agent::builder()
        .config("sinks: {store: {retention: {application: 1s, interval: 1s}}}\n")
        .start();
    let cookie = open(&agent, agent.page_url());
    let id = agent.post(event("short-lived")).expect(201).json()["ids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = eventually("it is deleted", PATIENCE, || {
        let answer = get(&agent, &format!("/events/{id}"), &cookie);
        (answer.status != 200).then_some(answer)
    });
    let html = answer.expect(410).text();
    assert!(html.contains("deleted by retention"), "{html}");
    // Of the same moment, but nobody's.
    let nobodys = format!("{}000000000000", &id[..24]);
    let html = get(&agent, &format!("/events/{nobodys}"), &cookie).expect(404).text();
    assert!(!html.contains("retention"), "{html}");
}

#[test]
fn without_a_store_the_page_says_so() {
    let agent = Agent::builder().arg("--disable").arg("store").start();
    let cookie = open(&agent, agent.page_url());
    assert!(get(&agent, "/", &cookie).expect(503).text().contains("store"));
}

#[test]
fn behind_a_proxy_everything_stays_below_its_path() {
    let agent = Agent::builder()
        .config("http: {root_url: \"https://audit.example.org/a/b/\"}\n")
        .start();
    let below = agent.page_url().strip_prefix("https://audit.example.org").unwrap();
    assert!(below.starts_with("/a/b/open?token="), "{below}");
    // A proxy that leaves the path as it is.
    let answer = request("GET", below).send(agent.listen()).expect(303);
    assert_eq!(answer.header("location"), Some("/a/b/"));
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/a/b", "Secure"] {
        assert!(cookie.split("; ").any(|p| p == part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let _ = agent.post(event("below")).expect(201);
    let html = eventually("the event is on the page", PATIENCE, || {
        let answer = get(&agent, "/a/b/", &cookie).expect(200);
        answer.text().contains("below").then(|| answer.text())
    });
    // All that the page leads to is there, whether the proxy takes the path off or not.
    let links = html.split(" href=\"").chain(html.split(" action=\"")).skip(1);
    let mut followed = 0;
    for link in links.filter_map(|rest| rest.split('"').next()) {
        let link = link.replace("&#38;", "&");
        if link.starts_with("/a/b/") {
            let _ = get(&agent, &link, &cookie).expect(200);
            let _ = get(&agent, link.strip_prefix("/a/b").unwrap(), &cookie).expect(200);
            followed += 1;
        } else {
            assert!(
                !link.starts_with('/') && !link.contains("://"),
                "{link} leads out of the path"
            );
        }
    }
    assert!(followed > 5, "{followed}");
}
