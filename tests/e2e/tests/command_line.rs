//! The command line around the agent: completions, manual, colors, log lines, and the ids of requests in them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use auditmon_e2e::{Agent, binary, eventually, request};

#[test]
fn completions_and_manual_need_no_configuration() {
    let agent = Agent::builder().config("nonsense: true\n").place();
    for (shell, has) in [
        ("bash", "complete -F _auditmon"),
        ("zsh", "#compdef auditmon"),
        ("fish", "complete -c auditmon"),
    ] {
        let text = agent.run(&["completions", shell]).expect(0).stdout;
        assert!(
            text.contains(has) && text.contains("dlq") && text.contains("data-dir"),
            "{shell}"
        );
    }
    // The shell takes them.
    let file = agent.dir().join("completions");
    std::fs::write(&file, agent.run(&["completions", "bash"]).stdout).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
    let _ = agent.run(&["completions", "tcsh"]).expect(2);

    let page = agent.run(&["man"]).expect(0).stdout;
    assert!(
        page.contains(".TH auditmon") && page.contains("auditmon\\-keys(1)"),
        "{page}"
    );
    let dir = agent.dir().join("man1");
    std::fs::create_dir(&dir).unwrap();
    let _ = agent.run(&["man", "--dir", &dir.display().to_string()]).expect(0);
    for name in [
        "auditmon.1",
        "auditmon-run.1",
        "auditmon-keys-create.1",
        "auditmon-journal-fsck.1",
    ] {
        let mode = std::fs::metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{name} is for everybody");
    }
    let missing = agent.run(&["man", "--dir", "/nonexistent/man1"]).expect(1);
    assert!(missing.stderr.contains("/nonexistent/man1"), "{}", missing.stderr);
}

/// What a start that fails after its first log lines shows on a terminal.
fn on_a_terminal(env: &[(&str, &str)]) -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let command = format!("{} run --data-dir {}", binary().display(), dir.path().display());
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("AUDITMON_HTTP_LISTEN", taken.local_addr().unwrap().to_string())
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("auditmon starts") && text.contains("can't be listened on"),
        "{text}"
    );
    text
}

#[test]
fn log_lines_are_for_people_on_a_terminal_and_for_programs_elsewhere() {
    let colored = on_a_terminal(&[]);
    assert!(
        colored.contains("\u{1b}[") && !colored.contains("\"message\""),
        "{colored}"
    );
    for (wish, has) in [("1", false), ("", true)] {
        let text = on_a_terminal(&[("NO_COLOR", wish)]);
        assert_eq!(text.contains("\u{1b}["), has, "NO_COLOR={wish}: {text}");
    }
    let json = on_a_terminal(&[("AUDITMON_LOGGING_FORMAT", "json")]);
    assert!(json.contains("\"message\":\"auditmon starts\""), "{json}");
    // The harness reads JSON from a file: that is what `auto` gives there.
    let agent = Agent::start();
    assert!(agent.log().iter().any(|line| line["message"] == "ready"));
    let agent = Agent::builder().env("AUDITMON_LOGGING_FORMAT", "text").place();
    let output = agent.run(&["run", "--enable", "nothing"]).expect(78);
    assert!(!output.stderr.contains('\u{1b}'), "no colors outside of a terminal");
}

#[test]
fn a_module_has_a_level_of_its_own_and_a_wrong_one_is_told() {
    let agent = Agent::builder()
        .config("logging: {level: \"warn,auditmon_runtime::telemetry=debug,auditmon::cli=info\"}\n")
        .start();
    let _ = request("GET", "/livez").send(agent.listen()).expect(200);
    let line = agent.await_log("answered");
    assert_eq!(
        (&line["level"], &line["target"]),
        (&"DEBUG".into(), &"auditmon_runtime::telemetry".into())
    );
    assert!(
        !agent.stderr().contains("journal is open"),
        "of the others only warnings"
    );
    for level in ["lots", "info,auditmon_runtime=lots", "info,=debug", ""] {
        let agent = Agent::builder()
            .config(&format!("logging: {{level: \"{level}\"}}\n"))
            .place();
        let output = agent.run(&["check"]).expect(78);
        assert!(
            output.stderr.contains("auditmon.yaml:1:11: logging.level: expected "),
            "{level}: {}",
            output.stderr
        );
    }
}

#[test]
fn a_request_has_an_id_in_its_answer_and_in_the_log() {
    let agent = Agent::builder()
        .config("logging: {level: \"info,auditmon_runtime::telemetry=debug\"}\n")
        .start();
    let ask = |id: Option<&str>, target: &str| {
        let request = request("GET", target);
        let request = id
            .into_iter()
            .fold(request, |request, id| request.header("x-request-id", id));
        let answer = request.send(agent.listen());
        answer
            .header("x-request-id")
            .unwrap_or_else(|| panic!("{target}: no id"))
            .to_owned()
    };
    let line_of = |id: &str| {
        eventually(&format!("a line about {id}"), auditmon_e2e::PATIENCE, || {
            let mut lines = agent.log().into_iter();
            lines.find(|line| line["request_id"] == id)
        })
    };
    assert_eq!(ask(Some("proxy-7/abc"), "/livez"), "proxy-7/abc");
    let line = line_of("proxy-7/abc");
    assert_eq!(
        (&line["route"], &line["code"], &line["method"]),
        (&"/livez".into(), &200.into(), &"GET".into())
    );
    // Also where nothing is, and where the answer is a refusal.
    let made = ask(None, "/nothing");
    assert_eq!(line_of(&made)["route"], "other");
    assert_ne!(made, ask(None, "/api/v1/events"));
    // What is too long or has blanks is not taken over.
    let long = "x".repeat(129);
    for bad in [long.as_str(), "a b", "ä"] {
        assert_eq!(ask(Some(bad), "/livez").len(), 36, "{bad}");
    }
    // Nothing of a query reaches the log: it may be the page's token.
    let id = ask(None, "/open?token=hunter2");
    assert_eq!(line_of(&id)["code"], 401);
    assert!(!agent.stderr().contains("hunter2"));
}
