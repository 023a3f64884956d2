//! What the agent gives up before it starts to work, seen from outside: in /proc, and by what it can't do any more.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use auditmon_e2e::{Agent, Builder, PATIENCE, event, eventually, is_root, own_etc};

const NOBODY: u32 = 65534;

/// Bits of `linux/capability.h`.
const DAC_READ_SEARCH: u64 = 1 << 2;
const NET_BIND_SERVICE: u64 = 1 << 10;

/// Both ways to run as root: as somebody else, and as nobody else.
const USER: &str = "run_as: nobody\n";
const ROOT: &str = "run_as: root\n";

/// Lets others than root at the test's directory, as the agent's user is.
fn open_up(agent: &Agent) {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(agent.dir(), open).unwrap();
}

fn place(builder: Builder) -> Agent {
    let agent = builder.place();
    open_up(&agent);
    agent
}

/// Starts it and makes it do a bit of everything, so that all its threads are there.
fn at_work(agent: &mut Agent) {
    agent.start_again();
    let _ = agent.post(event("x")).expect(201);
    let _ = agent.await_events("?event_name=x", 1);
    let _ = agent.get("/metrics").expect(200);
}

fn owner(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().uid()
}

/// The directory and all below it.
fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_owned()];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_below(&path));
        } else {
            all.push(path);
        }
    }
    all
}

#[test]
fn with_a_user_no_thread_is_root_and_one_has_what_is_needed() {
    if !is_root("privileges::with_a_user") {
        return;
    }
    let mut agent = place(Agent::builder().config(USER));
    at_work(&mut agent);
    let threads = agent.threads();
    assert!(threads.len() > 5, "{threads:#?}");
    for thread in &threads {
        assert_eq!(thread.uids, [NOBODY; 4], "{thread:?}");
        assert_eq!(thread.gids, [NOBODY; 4], "{thread:?}");
        assert!(thread.groups.is_empty(), "{thread:?}");
        assert!(thread.no_new_privs, "{thread:?}");
        // The configuration file may be root's alone, and will be read again.
        let kept = if thread.name == "control" { DAC_READ_SEARCH } else { 0 };
        assert_eq!((thread.permitted, thread.effective), (kept, kept), "{thread:?}");
        assert_eq!(
            (thread.inheritable, thread.ambient, thread.bounding),
            (0, 0, 0),
            "{thread:?}"
        );
    }
    assert_eq!(threads.iter().filter(|thread| thread.permitted != 0).count(), 1);
    for path in all_below(agent.data_dir()) {
        assert_eq!(owner(&path), NOBODY, "{}", path.display());
    }
    assert_eq!(agent.stop(), 0);
    agent.fsck();
}

#[test]
fn without_a_user_no_thread_but_one_has_a_capability() {
    if !is_root("privileges::without_a_user") {
        return;
    }
    let mut agent = place(Agent::builder().config(ROOT));
    at_work(&mut agent);
    let threads = agent.threads();
    for thread in &threads {
        assert_eq!(thread.uids, [0; 4], "{thread:?}");
        assert!(thread.no_new_privs, "{thread:?}");
        let kept = if thread.name == "control" { DAC_READ_SEARCH } else { 0 };
        assert_eq!((thread.permitted, thread.effective), (kept, kept), "{thread:?}");
        assert_eq!(
            (thread.inheritable, thread.ambient, thread.bounding),
            (0, 0, 0),
            "{thread:?}"
        );
    }
    assert_eq!(threads.iter().filter(|thread| thread.permitted != 0).count(), 1);
    assert_eq!(agent.stop(), 0);
}

/// What nothing needs privilege for keeps none.
#[test]
fn what_nobody_needs_nobody_keeps() {
    if !is_root("privileges::what_nobody_needs") {
        return;
    }
    let mut agent = place(Agent::builder());
    chown(agent.dir(), Some(NOBODY), None).unwrap();
    std::fs::create_dir(agent.data_dir()).unwrap();
    chown(agent.data_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    at_work(&mut agent);
    for thread in agent.threads() {
        // The data directory's owner, without a word of configuration.
        assert_eq!((thread.uids, thread.permitted), ([NOBODY; 4], 0), "{thread:?}");
    }
}

/// Packages make a user of this name.
#[test]
fn without_a_word_the_user_auditmon_is_taken_where_it_exists() {
    const AUDITMON: u32 = 4_000_003;
    if !is_root("privileges::without_a_word") {
        return;
    }
    let place = Agent::builder().place();
    let etc = own_etc(place.dir());
    let mut agent = self::place(Agent::builder().under(&etc.wrapper()));
    let uids = |agent: &Agent| -> Vec<_> { agent.threads().into_iter().map(|thread| thread.uids).collect() };
    if !std::fs::read_to_string("/etc/passwd").unwrap().contains("auditmon:") {
        at_work(&mut agent);
        assert!(uids(&agent).iter().all(|uids| *uids == [0; 4]));
        assert_eq!(agent.stop(), 0);
        etc.add_user("auditmon", AUDITMON);
        at_work(&mut agent);
        assert!(uids(&agent).iter().all(|uids| *uids == [AUDITMON; 4]));
        assert_eq!(owner(agent.data_dir()), AUDITMON);
    }
}

#[test]
fn nothing_is_written_outside_the_data_directory() {
    if !is_root("privileges::nothing_is_written") {
        return;
    }
    for config in [USER, ROOT] {
        let mut agent = place(Agent::builder().config(config));
        // Permissions would let anybody write here.
        let outside = agent.dir().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(agent.data_dir()).unwrap();
        std::fs::write(agent.data_dir().join("lock"), "").unwrap();
        let journal = agent.data_dir().join("journal");
        symlink(&outside, &journal).unwrap();
        agent.spawn();
        assert_eq!(agent.wait(), 1);
        let said = agent.stderr();
        assert!(
            said.contains("journal") && said.contains("Permission denied"),
            "{config}{said}"
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{config}");
        std::fs::remove_file(journal).unwrap();

        let file = outside.join("events.db");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        symlink(&file, agent.data_dir().join("events.db")).unwrap();
        agent.start_again();
        eventually("the store fails", PATIENCE, || {
            let store = agent.get("/healthz").json()["plugins"]["store"].clone();
            (store["state"] == "failed").then_some(())
        });
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{config}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 0, "{config}");
        // Within, everything works.
        let _ = agent.post(event("x")).expect(201);
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn a_kernel_without_landlock_is_told_once_where_it_matters() {
    if !is_root("privileges::a_kernel_without_landlock") {
        return;
    }
    let old = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=landlock_create_ruleset",
        "-e",
        "inject=landlock_create_ruleset:error=ENOSYS",
    ];
    for (config, warns) in [(USER, 0), (ROOT, 1)] {
        let mut agent = place(Agent::builder().config(config).under(&old));
        at_work(&mut agent);
        let warnings = agent.log().into_iter().filter(|line| {
            let text = line["message"].as_str().unwrap();
            line["level"] == "WARN" && text.contains("Landlock")
        });
        assert_eq!(warnings.count(), warns, "{}", agent.stderr());
        // Everything else is given up all the same.
        let kept = agent.threads().into_iter().filter(|thread| thread.permitted != 0);
        assert_eq!(kept.count(), 1);
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn what_only_root_may_read_is_not_read() {
    if !is_root("privileges::what_only_root_may_read") {
        return;
    }
    for config in [USER, ROOT] {
        for file in ["/etc/shadow", "own"] {
            let mut agent = place(Agent::builder().config(config));
            let secret = agent.dir().join(file);
            if file == "own" {
                std::fs::write(&secret, [b'x'; 8192]).unwrap();
                std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            let before = std::fs::metadata(&secret).unwrap();
            std::fs::create_dir(agent.data_dir()).unwrap();
            std::fs::write(agent.data_dir().join("lock"), "").unwrap();
            symlink(&secret, agent.data_dir().join("accounts.db")).unwrap();
            agent.spawn();
            assert_eq!(agent.wait(), 1);
            let said = agent.stderr();
            // What is opened and is no database is told as that.
            assert!(said.contains("unable to open database file"), "{config}{said}");
            let after = std::fs::metadata(&secret).unwrap();
            assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
        }
    }
}

#[test]
fn a_user_that_comes_later_gets_everything_and_root_may_still_lend_a_hand() {
    if !is_root("privileges::a_user_that_comes_later") {
        return;
    }
    let mut agent = place(Agent::builder().config(ROOT));
    at_work(&mut agent);
    assert_eq!(agent.stop(), 0);
    assert!(all_below(agent.data_dir()).iter().all(|path| owner(path) == 0));
    std::fs::write(agent.dir().join("auditmon.yaml"), USER).unwrap();
    at_work(&mut agent);
    assert_eq!(agent.await_events("?event_name=x", 2).len(), 2);
    // Commands are usually root's; beside a running agent,
    let status = agent.run(&["status"]).expect(0).stdout;
    assert!(status.contains("store"), "{status}");
    let key = agent.create_key("beside", "read");
    let request = || auditmon_e2e::request("GET", "/api/v1/events").key(&key);
    eventually("the key works", PATIENCE, || {
        (request().send(agent.listen()).status == 200).then_some(())
    });
    assert_eq!(agent.stop(), 0);
    // and without one.
    let _ = agent.create_key("alone", "read");
    at_work(&mut agent);
    for path in all_below(agent.data_dir()) {
        assert_eq!(owner(&path), NOBODY, "{}", path.display());
    }
    // Back again.
    assert_eq!(agent.stop(), 0);
    std::fs::write(agent.dir().join("auditmon.yaml"), ROOT).unwrap();
    at_work(&mut agent);
    assert!(all_below(agent.data_dir()).iter().all(|path| owner(path) == 0));
}

#[test]
fn a_place_that_the_user_cant_reach_or_that_is_not_ours_is_named() {
    if !is_root("privileges::a_place_that_the_user_cant_reach") {
        return;
    }
    let mut agent = Agent::builder().config(USER).place();
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(agent.dir(), closed).unwrap();
    agent.spawn();
    assert_eq!(agent.wait(), 73);
    let said = agent.stderr();
    for part in [
        agent.data_dir().to_str().unwrap(),
        "user nobody",
        "Permission denied",
        "run_as: root",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let mut agent = place(Agent::builder().config(USER));
    std::fs::create_dir(agent.data_dir()).unwrap();
    let thesis = agent.data_dir().join("thesis.txt");
    std::fs::write(&thesis, "x").unwrap();
    agent.spawn();
    assert_eq!(agent.wait(), 73);
    assert!(
        agent.stderr().contains("not handed over to user nobody"),
        "{}",
        agent.stderr()
    );
    assert_eq!((owner(&thesis), owner(agent.data_dir())), (0, 0));
}

#[test]
fn a_user_that_is_not_there_is_a_fault_of_the_configuration() {
    if !is_root("privileges::a_user_that_is_not_there") {
        return;
    }
    let mut agent = Agent::builder().config("run_as: no-such-user\n").place();
    agent.spawn();
    assert_eq!(agent.wait(), 78);
    let says = "auditmon.yaml:1:1: run_as: there is no user `no-such-user` on this host";
    assert!(agent.stderr().contains(says), "{}", agent.stderr());
    assert!(!agent.data_dir().exists());
    assert!(agent.run(&["check"]).expect(78).stderr.contains(says));
}

#[test]
fn an_ordinary_user_with_ambient_capabilities_keeps_them_in_one_thread() {
    if !is_root("privileges::an_ordinary_user_with_ambient_capabilities") {
        return;
    }
    // As systemd does with User= and AmbientCapabilities=; one of them nothing needs.
    let capabilities = "+dac_read_search,+audit_control";
    let setpriv = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        &format!("--inh-caps={capabilities}"),
        &format!("--ambient-caps={capabilities}"),
    ];
    let mut agent = place(Agent::builder().config("host: ambient\n").under(&setpriv));
    std::fs::create_dir(agent.data_dir()).unwrap();
    chown(agent.data_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    at_work(&mut agent);
    for thread in agent.threads() {
        assert_eq!(thread.uids, [NOBODY; 4], "{thread:?}");
        assert!(thread.no_new_privs, "{thread:?}");
        let kept = if thread.name == "control" { DAC_READ_SEARCH } else { 0 };
        assert_eq!((thread.permitted, thread.effective), (kept, kept), "{thread:?}");
        assert_eq!((thread.inheritable, thread.ambient), (0, 0), "{thread:?}");
    }
    assert_eq!(agent.stop(), 0);
}

#[test]
fn an_ordinary_user_without_any_just_runs() {
    let builder = Agent::builder();
    let mut agent = if is_root("privileges::an_ordinary_user_without_any (as another)") {
        builder.uid(NOBODY)
    } else {
        builder
    }
    .place();
    at_work(&mut agent);
    for thread in agent.threads() {
        assert_eq!(
            (thread.permitted, thread.effective, thread.ambient),
            (0, 0, 0),
            "{thread:?}"
        );
        assert!(thread.no_new_privs, "{thread:?}");
    }
    assert!(!agent.stderr().contains("privileges given up"), "{}", agent.stderr());
}

#[test]
fn root_of_a_container_that_can_become_nobody_stays_and_says_so() {
    if !is_root("privileges::root_of_a_container") {
        return;
    }
    let setpriv = ["setpriv", "--bounding-set=-setuid,-setgid"];
    let mut agent = place(Agent::builder().under(&setpriv));
    std::fs::create_dir(agent.data_dir()).unwrap();
    chown(agent.data_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    at_work(&mut agent);
    let _ = agent.await_log("needs CAP_SETUID and CAP_SETGID; the agent stays uid 0");
    for thread in agent.threads() {
        assert_eq!((thread.uids, thread.permitted), ([0; 4], 0), "{thread:?}");
    }
    // Who was named is not replaced by root.
    let mut named = place(Agent::builder().config(USER).under(&setpriv));
    named.spawn();
    assert_eq!(named.wait(), 78);
    assert!(
        named
            .stderr()
            .contains("becoming user nobody (uid 65534) needs CAP_SETUID")
    );
}

#[test]
fn a_port_below_1024_is_listened_on() {
    if !is_root("privileges::a_port_below_1024") {
        return;
    }
    let free = (700..1024)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap();
    let mut agent = place(Agent::builder().config(USER).port(free));
    at_work(&mut agent);
    assert_eq!(agent.listen().port(), free);
    let kept: Vec<_> = agent
        .threads()
        .into_iter()
        .filter(|thread| thread.permitted != 0)
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].permitted, DAC_READ_SEARCH | NET_BIND_SERVICE);
}

#[test]
fn check_tells_what_the_features_that_are_on_need() {
    let agent = Agent::builder().config("{}\n").place();
    let said = agent.run(&["check"]).expect(0).stdout;
    let audit = |line: &&str| line.contains(" kernel: ") && line.contains("CAP_AUDIT_CONTROL");
    let line = said.lines().find(audit).unwrap_or_else(|| panic!("{said}"));
    if is_root("privileges::check_tells (as root)") {
        assert!(line.ends_with("there, kept by the control thread"), "{line}");
        let poor = Agent::builder().uid(NOBODY).place();
        let said = poor.run(&["check"]).expect(0).stdout;
        assert!(said.contains("runs as uid 65534 without privileges"), "{said}");
        let line = said.lines().find(audit).unwrap();
        assert!(line.ends_with("missing: the source fails and says so"), "{line}");
    }
    let off = agent.run(&["check", "--disable", "kernel"]).expect(0).stdout;
    assert!(!off.lines().any(|line| line.contains(" kernel: ")), "{off}");
}
