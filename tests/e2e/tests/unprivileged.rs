//! An agent of root's that has given up its privileges does all that one with them would: it reads root's files again
//! when it loads the configuration, and root's commands reach it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auditmon_e2e::authority::Authority;
use auditmon_e2e::receiver::Receiver;
use auditmon_e2e::{Agent, Builder, PATIENCE, event, eventually, is_root, request};

const NOBODY: u32 = 65534;

/// Both ways to run as root: as somebody else, and as nobody else.
const BOTH: [&str; 2] = ["run_as: nobody\n", "run_as: root\n"];

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// An agent whose configuration is root's alone, and a directory that nobody else may enter.
struct Closed {
    agent: Agent,
    closed: PathBuf,
}

impl Closed {
    fn place(builder: Builder) -> Self {
        let agent = builder.config("{}\n").place();
        mode(agent.dir(), 0o755);
        mode(&agent.dir().join("auditmon.yaml"), 0o600);
        let closed = agent.dir().join("closed");
        std::fs::create_dir(&closed).unwrap();
        mode(&closed, 0o700);
        Self { agent, closed }
    }

    fn start(config: &str) -> Self {
        let mut this = Self::place(Agent::builder());
        this.agent.rewrite(config);
        this.agent.start_again();
        this
    }

    /// A file in the closed directory, for root alone.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.closed.join(name);
        std::fs::write(&path, text).unwrap();
        mode(&path, 0o600);
        path
    }

    #[track_caller]
    fn sends(&self, name: &str, to: &Receiver) {
        let _ = self.agent.post(event(name)).expect(201);
        eventually(&format!("{name} has come"), PATIENCE, || {
            to.taken().contains(&name.to_owned()).then_some(())
        });
    }
}

/// A receiver that only those can speak to who know its authority.
fn secure(authority: &Authority) -> Receiver {
    Receiver::with_tls(authority.server(), |_| 200_u16)
}

fn siem(receiver: &Receiver, ca: &Path, token: &Path) -> String {
    let address = receiver.address().port();
    format!(
        "{{url: \"https://localhost:{address}/hook\", ca_file: {}, bearer_file: {}, retry: {{min: 20ms, max: 1s}}}}",
        ca.display(),
        token.display()
    )
}

#[test]
fn webhooks_use_files_of_roots_from_the_start_on_and_after_each_reload() {
    if !is_root("unprivileged::webhooks_use_files_of_roots") {
        return;
    }
    for run_as in BOTH {
        let (first, second) = (Authority::new("first"), Authority::new("second"));
        let [to_first, to_second, to_other] = [&first, &second, &second].map(secure);
        let mut this = Closed::place(Agent::builder());
        let (ca, token) = (this.file("ca", &first.pem), this.file("token", "t0ken-of-the-first"));
        let config = |hooks: &str| format!("{run_as}sinks: {{webhook: {{{hooks}}}}}\n");
        let one = format!("siem: {}", siem(&to_first, &ca, &token));
        this.agent.rewrite(&config(&one));
        this.agent.start_again();
        this.sends("start", &to_first);

        // Other contents under the same names.
        this.file("ca", &second.pem);
        this.file("token", "t0ken-of-the-second");
        let moved = format!("siem: {}", siem(&to_second, &ca, &token));
        let (changed, pending) = this.agent.reload_with(&config(&moved));
        for key in ["url", "ca_file", "bearer_file"] {
            assert!(changed.contains(&format!("sinks.webhook.siem.{key}")), "{changed}");
        }
        assert_eq!(pending, "");
        this.sends("contents", &to_second);

        // Names that the agent has never heard of.
        let (other_ca, other_token) = (this.file("other.ca", &second.pem), this.file("other.token", "other"));
        let both = format!("{moved}, other: {}", siem(&to_other, &other_ca, &other_token));
        let (changed, _) = this.agent.reload_with(&config(&both));
        assert_eq!(changed, "sinks.webhook.other.enabled");
        this.sends("names", &to_other);

        // A secret for others ends nothing: the former values go on.
        let open = this.file("open", "for-everybody");
        mode(&open, 0o644);
        this.agent
            .rewrite(&config(&format!("siem: {}", siem(&to_second, &ca, &open))));
        assert_eq!(this.agent.reload()["level"], "ERROR");
        let said = this.agent.await_log("goes on with the former values")["message"].to_string();
        assert!(
            said.contains("sinks.webhook.siem.bearer_file") && said.contains("chmod 600"),
            "{said}"
        );
        assert!(!this.agent.stderr().contains("for-everybody"));
        this.sends("former", &to_second);
        assert_eq!(this.agent.stop(), 0, "{}", this.agent.stderr());
    }
}

#[test]
fn no_file_that_is_configured_by_mistake_is_told() {
    if !is_root("unprivileged::no_file_that_is_configured_by_mistake") {
        return;
    }
    const MARK: &str = "r00ts-own-hash";
    let receiver = Receiver::start(|_| 200_u16);
    for run_as in BOTH {
        let this = Closed::start(run_as);
        let shadow = this.file("shadow", &format!("root:$y${MARK}:20000::::::\n"));
        mode(&shadow, 0o640);
        let shadow = shadow.to_str().unwrap();
        for (path, key) in [
            (shadow, "ca_file"),
            (shadow, "headers_file"),
            (shadow, "url_file"),
            ("/etc/shadow", "ca_file"),
        ] {
            let url = format!("url: \"http://{}/hook\", ", receiver.address());
            let url = if key == "url_file" { "" } else { &url };
            let hook = format!("{{{url}{key}: {path}}}");
            this.agent
                .rewrite(&format!("{run_as}sinks: {{webhook: {{siem: {hook}}}}}\n"));
            assert_eq!(this.agent.reload()["level"], "ERROR", "{key}: {path}");
            let why = if key == "ca_file" {
                format!("{path}: holds no certificate")
            } else {
                format!("{path}: mode 0640 lets others than its owner at a secret")
            };
            assert!(this.agent.stderr().contains(&why), "{why}: {}", this.agent.stderr());
        }
        let status = this.agent.run(&["status", "--json"]).stdout;
        let metrics = this.agent.get("/metrics").expect(200).text();
        let told = format!("{}{status}{metrics}{:?}", this.agent.stderr(), this.agent.dump());
        assert!(!told.contains(MARK), "{told}");
        // Every line of the machine's own that is longer than a name.
        for line in std::fs::read_to_string("/etc/shadow").unwrap().lines() {
            assert!(!told.contains(line), "a line of /etc/shadow is told");
        }
    }
}

#[test]
fn commands_of_roots_reach_it() {
    if !is_root("unprivileged::commands_of_roots") {
        return;
    }
    for run_as in BOTH {
        let mended = Arc::new(AtomicBool::new(false));
        let good = mended.clone();
        let receiver = Receiver::start(move |asked| {
            let refused = asked.names.iter().any(|name| name == "bad") && !good.load(Ordering::Relaxed);
            if refused { 422_u16 } else { 200 }
        });
        let url = format!("http://{}/hook", receiver.address());
        let config = format!("{run_as}sinks: {{webhook: {{siem: {{url: \"{url}\"}}}}}}\n");
        let mut this = Closed::start(&config);
        for name in ["a", "bad", "b"] {
            let _ = this.agent.post(event(name)).expect(201);
        }
        eventually("the letter", PATIENCE, || {
            let listed = this.agent.run(&["dlq", "list", "--json"]).expect(0).stdout;
            listed.contains("\"bad\"").then_some(())
        });
        mended.store(true, Ordering::Relaxed);
        let _ = this.agent.run(&["dlq", "replay", "webhook.siem"]).expect(0);
        eventually("it arrives", PATIENCE, || {
            receiver.taken().contains(&"bad".to_owned()).then_some(())
        });
        eventually("nothing is left", PATIENCE, || {
            this.agent.run(&["dlq", "list"]).stdout.is_empty().then_some(())
        });

        let status = this.agent.run(&["status"]).expect(0).stdout;
        assert!(status.contains("webhook.siem"), "{status}");
        this.agent.rewrite(&format!("{config}http: {{protect: [metrics]}}\n"));
        let said = this.agent.run(&["reload"]).expect(0).stdout;
        assert!(said.contains("http.protect"), "{said}");
        let without_key = request("GET", "/metrics").send(this.agent.listen());
        assert_eq!(without_key.status, 401);
        assert_eq!(this.agent.stop(), 0, "{}", this.agent.stderr());
    }
}

#[test]
fn what_was_given_up_for_good_is_told_by_a_reload() {
    if !is_root("unprivileged::what_was_given_up_for_good") {
        return;
    }
    for run_as in BOTH {
        let mut this = Closed::start(run_as);
        let elsewhere = this.agent.dir().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        chown(&elsewhere, Some(NOBODY), Some(NOBODY)).unwrap();
        mode(&elsewhere, 0o777);
        let file = elsewhere.join("events.db");
        let config = format!("{run_as}sinks: {{store: {{file: {}}}}}\n", file.display());
        this.agent.rewrite(&config);
        assert_eq!(this.agent.reload()["level"], "ERROR");
        let line = this
            .agent
            .await_log("writing there was given up when the agent started");
        let says = line["message"].as_str().unwrap();
        assert!(
            says.starts_with(&format!("store: {}", elsewhere.display()))
                && says.ends_with("takes a restart of the agent"),
            "{says}"
        );
        assert!(!file.exists());
        // The store goes on where it was, and the next start takes the other place.
        let _ = this.agent.post(event("before")).expect(201);
        assert_eq!(this.agent.await_events("?event_name=before", 1).len(), 1);
        assert_eq!(this.agent.stop(), 0, "{}", this.agent.stderr());
        this.agent.start_again();
        let _ = this.agent.post(event("after")).expect(201);
        assert_eq!(this.agent.await_events("?event_name=after", 1).len(), 1);
        assert!(file.exists());
        assert_eq!(this.agent.stop(), 0, "{}", this.agent.stderr());
    }
}
