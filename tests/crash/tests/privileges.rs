//! The kernel source of an agent that has given up its privileges: it registers, loads rules that only root may see,
//! receives, follows changes of users, and puts everything back.
//!
//! Root only. One at a time on this machine; the kernel is given back as it was found.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use auditmon_crash::kernel::Live;
use auditmon_e2e::{Agent, PATIENCE, eventually, own_etc};
use auditmon_source_kernel::control::Loaded;
use serde_json::Value;

const NOBODY: u32 = 65534;

/// `linux/capability.h`: DAC_READ_SEARCH, NET_ADMIN, AUDIT_WRITE, AUDIT_CONTROL.
const ALL_NEEDED: u64 = 1 << 2 | 1 << 12 | 1 << 29 | 1 << 30;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Has the shell do it, as this user: a process that was started while auditing is on.
fn shell(uid: u32, script: &str) {
    let status = Command::new("sh").args(["-c", script]).uid(uid).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Events whose rule has this key.
fn with_key(agent: &Agent, key: &str) -> Vec<Value> {
    let has_key = |event: &Value| {
        let keys = event["event"]["event_data"]["keys"].as_array();
        keys.is_some_and(|keys| keys.iter().any(|known| known == key))
    };
    agent.dump().into_iter().filter(has_key).collect()
}

/// Loaded rules of this test.
fn ours(live: &mut Live) -> Vec<String> {
    let loaded = live.control.rules().unwrap().into_iter();
    loaded
        .filter_map(|rule| match rule {
            Loaded::Rule(rule) => Some(rule.to_string()).filter(|text| text.contains("priv-")),
            Loaded::Unknown(_) => None,
        })
        .collect()
}

fn kernel_works_without_privileges(test: &str, run_as: &str, uid: u32, under: &[&str]) {
    let Some(mut live) = Live::borrow(test) else {
        return;
    };
    let mut agent = Agent::builder().kernel().config(run_as).under(under).place();
    mode(agent.dir(), 0o755);
    std::fs::create_dir(agent.data_dir()).unwrap();
    std::os::unix::fs::chown(agent.data_dir(), Some(uid), Some(uid)).unwrap();
    // Nobody but root gets in here, neither to the rules nor to what they watch.
    let closed = agent.dir().join("closed");
    let (tree, file, rules) = (closed.join("tree"), closed.join("file"), closed.join("site.rules"));
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(&file, "").unwrap();
    let text = format!(
        "-w {} -p wa -k priv-file\n-w {} -p wa -k priv-tree\n",
        file.display(),
        tree.display()
    );
    std::fs::write(&rules, &text).unwrap();
    mode(&rules, 0o600);
    mode(&closed, 0o700);
    let config = format!(
        "{run_as}sources: {{kernel: {{rules: {{files: [{}]}}}}}}\n",
        rules.display()
    );
    std::fs::write(agent.dir().join("auditmon.yaml"), config).unwrap();
    for round in ["first", "second"] {
        agent.start_again();
        agent.await_log("receiving the kernel's audit records");
        let loaded = ours(&mut live);
        assert_eq!(loaded.len(), 2, "{loaded:?}");

        shell(0, &format!("echo {round} >>{}", file.display()));
        shell(
            0,
            &format!("mkdir -p {0}/below && echo x >{0}/below/{round}", tree.display()),
        );
        eventually("the watched file's event", PATIENCE, || {
            (!with_key(&agent, "priv-file").is_empty()).then_some(())
        });
        let below = tree.join("below").join(round);
        eventually("an event below the watched directory", PATIENCE, || {
            let events = with_key(&agent, "priv-tree");
            let text = serde_json::to_string(&events).unwrap();
            text.contains(below.to_str().unwrap()).then_some(())
        });

        // Rules that are root's alone are read again at a reload.
        std::fs::write(&rules, format!("{text}-w {} -p r -k priv-reload\n", file.display())).unwrap();
        let line = agent.reload();
        assert_eq!(line["changed"], "sources.kernel.rules.files", "{line}");
        agent.await_state("kernel", "ok");
        assert_eq!(ours(&mut live).len(), 3);
        std::fs::write(&rules, &text).unwrap();
        let line = agent.reload();
        assert_eq!(line["level"], "INFO", "{line}");
        agent.await_state("kernel", "ok");
        assert_eq!(ours(&mut live).len(), 2);

        for thread in agent.threads() {
            assert_eq!(thread.uids, [uid; 4], "{thread:?}");
            let kept = if thread.name == "control" { ALL_NEEDED } else { 0 };
            assert_eq!((thread.permitted, thread.effective), (kept, kept), "{thread:?}");
        }
        // Whatever is missed is told by the capability's name.
        let missed: Vec<_> = agent
            .log()
            .into_iter()
            .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("CAP_")))
            .collect();
        assert!(missed.is_empty(), "{missed:?}");
        let metrics = agent.get("/metrics").expect(200).text();
        assert!(metrics.contains("auditmon_kernel_registered 1"), "{metrics}");
        eventually("a heartbeat comes back", PATIENCE, || {
            let metrics = agent.get("/metrics").expect(200).text();
            let delay = metrics
                .lines()
                .find_map(|line| line.strip_prefix("auditmon_kernel_heartbeat_delay_seconds "))?;
            (delay.parse::<f64>().unwrap() > 0.0).then_some(())
        });
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        live.assert_as_found();
    }
}

#[test]
fn as_a_user_the_kernel_source_works() {
    kernel_works_without_privileges("as_a_user_the_kernel_source_works", "run_as: nobody\n", NOBODY, &[]);
}

#[test]
fn without_a_user_the_kernel_source_works() {
    kernel_works_without_privileges("without_a_user_the_kernel_source_works", "run_as: root\n", 0, &[]);
}

/// As systemd starts it with `User=` and `AmbientCapabilities=`.
#[test]
fn as_an_ordinary_user_with_ambient_capabilities_the_kernel_source_works() {
    let capabilities = "+dac_read_search,+net_admin,+audit_write,+audit_control";
    let (inherited, ambient) = (
        format!("--inh-caps={capabilities}"),
        format!("--ambient-caps={capabilities}"),
    );
    let setpriv = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        &inherited,
        &ambient,
    ];
    let test = "as_an_ordinary_user_with_ambient_capabilities_the_kernel_source_works";
    kernel_works_without_privileges(test, "host: ambient\n", NOBODY, &setpriv);
}

/// Adding a user replaces /etc/passwd; for Landlock that is another file.
#[test]
fn users_that_are_added_are_named() {
    const NEWCOMER: u32 = 4_000_002;
    let Some(mut live) = Live::borrow("users_that_are_added_are_named") else {
        return;
    };
    for run_as in ["run_as: nobody\n", "run_as: root\n"] {
        let place = Agent::builder().place();
        let etc = own_etc(place.dir());
        let rule = format!("-a always,exit -F arch=b64 -S execve -F uid={NEWCOMER} -k priv-user");
        let config = format!("{run_as}sources: {{kernel: {{rules: {{list: [\"{rule}\"]}}}}}}\n");
        let mut agent = Agent::builder().kernel().config(&config).under(&etc.wrapper()).place();
        mode(agent.dir(), 0o755);
        agent.start_again();
        agent.await_log("receiving the kernel's audit records");
        etc.add_user("newcomer", NEWCOMER);
        eventually("the new user is named", PATIENCE, || {
            shell(NEWCOMER, "true");
            let events = with_key(&agent, "priv-user");
            let named = |event: &&Value| {
                event["event"]["event_data"].to_string().contains("newcomer")
                    || event["event"]["username"] == "newcomer"
            };
            events.iter().find(named).cloned()
        });
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        live.assert_as_found();
    }
}
