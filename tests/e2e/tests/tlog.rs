//! `/tlog/`: the journal as others check it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacker;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use auditmon_e2e::{Agent, PATIENCE, event, eventually};
use auditmon_merkle::{
    Checkpoint, Ed25519Verifier, TileId, TileNodes, TileReader, TlogProof, leaf_hash, prove_consistency,
    prove_inclusion, verify_consistency,
};
use serde_json::Value;

fn key(agent: &Agent) -> Ed25519Verifier {
    agent.run(&["keys", "log"]).expect(0).stdout.trim_end().parse().unwrap()
}

fn checkpoint(agent: &Agent, key: &Ed25519Verifier) -> (String, Checkpoint) {
    let answer = agent.get("/tlog/checkpoint").expect(200);
    let opened = Checkpoint::open(&answer.text(), &[key]).unwrap();
    (answer.text(), opened)
}

/// Waits until all of `count` records, or more, are covered.
fn covering(agent: &Agent, key: &Ed25519Verifier, count: u64) -> (String, Checkpoint) {
    eventually("covered", PATIENCE, || {
        let found = agent.get("/tlog/checkpoint").status == 200;
        let newest = found.then(|| checkpoint(agent, key));
        newest.filter(|(_, newest)| newest.head().size >= count)
    })
}

fn post(agent: &Agent, count: usize) {
    let body: Vec<String> = (0..count).map(|_| event("tlog")).collect();
    let _ = agent.post(format!("[{}]", body.join(","))).expect(201);
}

/// Seqs and leaves in base64 of all records.
fn leaves(agent: &Agent) -> Vec<(u64, String)> {
    let output = agent.run(&["journal", "dump", "--all"]).expect(0);
    let lines = output.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["seq"].as_u64().unwrap(), line["leaf"].as_str().unwrap().to_owned())
    });
    lines.collect()
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

struct Served<'a>(&'a Agent);

impl TileReader for Served<'_> {
    type Error = std::io::Error;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        let answer = self.0.get(&format!("/tlog/{tile}"));
        Ok((answer.status == 200).then_some(answer.body))
    }
}

#[test]
fn every_record_is_proven_from_what_is_served() {
    let agent = Agent::start();
    let key = key(&agent);
    post(&agent, 300);
    let (_, old) = covering(&agent, &key, 300);
    post(&agent, 300);
    let (note, new) = covering(&agent, &key, 600);
    let head = new.head();
    let mut nodes = TileNodes::new(Served(&agent), head.size).unwrap();
    let proof = prove_consistency(&mut nodes, old.head().size, head.size).unwrap();
    verify_consistency(&old.head(), &head, &proof).unwrap();
    let leaves = leaves(&agent);
    assert!(leaves.len() > 600);
    for (seq, leaf) in leaves.iter().filter(|(seq, _)| *seq < head.size) {
        let hashes = prove_inclusion(&mut nodes, *seq, head.size).unwrap();
        let proof = TlogProof::new(*seq, hashes, &note).unwrap();
        proof.verify(&leaf_hash(&decode(leaf)), &[&key]).unwrap();
    }
}

#[test]
fn answers_are_those_of_the_specification() {
    let agent = Agent::start();
    let key = key(&agent);
    post(&agent, 300);
    let (_, newest) = covering(&agent, &key, 300);
    let answer = agent.get("/tlog/checkpoint").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let size = newest.head().size;
    for (path, bytes) in [("tile/0/000", 8192), ("tile/0/000.p/3", 96), ("tile/1/000.p/1", 32)] {
        let answer = agent.get(&format!("/tlog/{path}")).expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream"),
            "{path}"
        );
        let cached = answer.header("cache-control").unwrap();
        assert!(cached.contains("immutable"), "{cached}");
        assert_eq!(answer.body.len(), bytes, "{path}");
    }
    let beyond = format!("tile/0/{:03}.p/1", size / 256 + 1);
    for path in [
        beyond.as_str(),
        "tile/0/x001/000",
        "tile/entries/000",
        "tile/0/0",
        "tile/0/000.p/256",
        "tile/0/../../keys/log.key",
        "tile/9/000",
        "entries",
    ] {
        let _ = agent.get(&format!("/tlog/{path}")).expect(404);
    }
    let status = agent.run(&["status", "--json"]).expect(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert!(status["journal"]["checkpoint"]["entries"].as_u64().unwrap() >= size);
    assert!(status["journal"]["checkpoint"]["age_seconds"].is_u64());
    assert!(agent.metric("auditmon_journal_checkpoint_entries").unwrap() >= size as f64);
    assert!(agent.metric("auditmon_journal_checkpoint_timestamp_seconds").unwrap() > 1e9);
    assert!(agent.metric("auditmon_journal_checkpoints_total").unwrap() >= 1.0);
    assert_eq!(agent.metric("auditmon_journal_checkpoint_failures_total"), Some(0.0));
}

#[test]
fn it_can_be_protected() {
    let agent = Agent::builder().config("http: {protect: [tlog]}\n").start();
    let log_key = key(&agent);
    let get = |path: &str| auditmon_e2e::request("GET", path);
    let _ = get("/tlog/checkpoint").send(agent.listen()).expect(401);
    let _ = get("/tlog/tile/0/000.p/1").send(agent.listen()).expect(401);
    let read = agent.create_key("auditor", "read");
    let note = eventually("signed", PATIENCE, || {
        let answer = get("/tlog/checkpoint").key(&read).send(agent.listen());
        (answer.status == 200).then(|| answer.text())
    });
    assert!(Checkpoint::open(&note, &[&log_key]).is_ok());
    let tile = get("/tlog/tile/0/000.p/1").key(&read).send(agent.listen()).expect(200);
    assert_eq!(tile.header("cache-control"), Some("private, no-cache"));
}

#[test]
fn a_stop_signs_all_and_the_next_start_extends_it() {
    let mut agent = Agent::start();
    let log_key = key(&agent);
    post(&agent, 20);
    agent.stop();
    let stored = agent.data_dir().join("journal/1/checkpoint");
    let note = std::fs::read_to_string(&stored).unwrap();
    let old = Checkpoint::open(&note, &[&log_key]).unwrap().head();
    assert_eq!(old.size, leaves(&agent).len() as u64, "every record is covered");
    agent.start_again();
    let (_, new) = covering(&agent, &log_key, old.size + 1);
    let mut nodes = TileNodes::new(Served(&agent), new.head().size).unwrap();
    let proof = prove_consistency(&mut nodes, old.size, new.head().size).unwrap();
    verify_consistency(&old, &new.head(), &proof).unwrap();
}

/// Builds the program that reads a log with Go's own packages. Needs a Go in PATH, from wherever it is, and Debian's
/// golang-golang-x-mod-dev; `None`, and said so, if one is missing.
fn go_checker(dir: &Path) -> Option<PathBuf> {
    const SOURCES: &str = "/usr/share/gocode";
    let given = std::env::var_os("AUDITMON_GO_MODULE");
    if given.is_none() && !Path::new(SOURCES).join("src/golang.org/x/mod/sumdb/tlog").is_dir() {
        eprintln!("SKIPPED: go_reads_it_and_agrees: golang.org/x/mod is not in {SOURCES} (golang-golang-x-mod-dev)");
        return None;
    }
    let checker = dir.join("check");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&checker)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tlog/check.go"))
        .env("GOCACHE", dir.join("cache"))
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off");
    match given {
        // A module that requires golang.org/x/mod, where the package is not to be had.
        Some(path) => build.current_dir(path),
        None => build.env("GO111MODULE", "off").env("GOPATH", SOURCES).current_dir(dir),
    };
    match build.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: go_reads_it_and_agrees: there is no go in PATH (golang-go)");
            None
        }
        built => {
            let built = built.unwrap();
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            Some(checker)
        }
    }
}

#[test]
fn go_reads_it_and_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let Some(checker) = go_checker(dir.path()) else { return };
    let agent = Agent::start();
    let log_key = key(&agent);
    post(&agent, 270);
    let (old, _) = covering(&agent, &log_key, 270);
    let old_file = dir.path().join("old");
    std::fs::write(&old_file, old).unwrap();
    post(&agent, 270);
    let (_, newest) = covering(&agent, &log_key, 540);
    let mut check = Command::new(&checker)
        .arg(format!("http://{}/tlog", agent.listen()))
        .arg(log_key.vkey().to_string())
        .arg(&old_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = String::new();
    for (seq, leaf) in leaves(&agent).iter().filter(|(seq, _)| *seq < newest.head().size) {
        lines += &format!("{seq} {leaf}\n");
    }
    check.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(&format!("{} of ", lines.lines().count())), "{said}");
}

/// Waits until the newest checkpoint is signed by the key that the journal has now.
fn signed_by_its_key(agent: &Agent) {
    let key = key(agent);
    eventually("signed by the new key", PATIENCE, || {
        Checkpoint::open(&agent.get("/tlog/checkpoint").text(), &[&key]).ok()
    });
}

/// Both verifiers say that everything holds, with the journal's key and without.
#[track_caller]
fn verified(agent: &Agent) {
    let vkey = agent.run(&["keys", "log"]).expect(0).stdout;
    let dir = agent.data_dir().to_str().unwrap();
    for given in [vec![], vec!["--key", vkey.trim_end()]] {
        let _ = agent.run(&[&["verify"], &given[..]].concat()).expect(0);
        if let Some((code, said)) = attacker::python(&[&[dir], &given[..]].concat()) {
            assert_eq!(code, 0, "{said}");
        }
    }
}

#[test]
fn a_key_is_rotated_beside_an_agent_and_without_one() {
    let mut agent = Agent::start();
    let old = key(&agent);
    let rotate = |agent: &Agent, more: &[&str]| agent.run(&[&["keys", "log", "rotate"], more].concat());
    let printed = rotate(&agent, &[]).expect(0).stdout;
    let new = key(&agent);
    assert_eq!(printed.trim_end(), new.vkey().to_string());
    assert_ne!(new.vkey(), old.vkey());
    let (note, newest) = eventually("signed by both", PATIENCE, || {
        let note = agent.get("/tlog/checkpoint").expect(200).text();
        let newest = Checkpoint::open(&note, &[&new]).ok()?;
        Some((note, newest))
    });
    assert_eq!(Checkpoint::open(&note, &[&old]).unwrap(), newest);
    let refused = rotate(&agent, &[]).expect(1);
    assert!(refused.stderr.contains("--finish"), "{}", refused.stderr);
    agent.stop();
    assert_eq!(rotate(&agent, &["--finish"]).expect(0).stdout, printed);
    agent.start_again();
    let (note, _) = covering(&agent, &new, newest.head().size + 1);
    assert!(
        Checkpoint::open(&note, &[&old]).is_err(),
        "the former key signs no more"
    );
    for name in ["journal.key_rotated", "journal.key_rotation_finished"] {
        assert_eq!(agent.dumped(name).len(), 1, "{name}");
    }
    // What only former keys signed is no tampering; once more, and after the key was lost.
    let _ = rotate(&agent, &[]).expect(0);
    let _ = rotate(&agent, &["--finish"]).expect(0);
    signed_by_its_key(&agent);
    verified(&agent);
    agent.stop();
    std::fs::remove_file(agent.data_dir().join("keys/log.key")).unwrap();
    agent.start_again();
    assert_eq!(agent.dumped("journal.key_lost").len(), 1);
    signed_by_its_key(&agent);
    let former = std::fs::read_to_string(agent.data_dir().join("keys/log.old.vkey")).unwrap();
    assert_eq!(former.lines().count(), 3, "{former}");
    verified(&agent);
    agent.stop();
    verified(&agent);
}

#[test]
fn a_rewritten_journal_goes_on_as_a_new_generation_once_accepted() {
    let mut agent = Agent::start();
    let refused = agent.run(&["journal", "accept-rollback", "--reason", "none"]).expect(1);
    assert!(refused.stderr.contains("nothing to accept"), "{}", refused.stderr);
    post(&agent, 3);
    agent.stop();
    let seg = agent.data_dir().join("journal/1/seg");
    let checkpoint = agent.data_dir().join("journal/1/checkpoint");
    let signed = std::fs::read(&checkpoint).unwrap();
    // The same journal lived on differently, with as many records or more.
    std::fs::remove_dir_all(&seg).unwrap();
    for name in ["checkpoint", "checkpoints"] {
        let _ = std::fs::remove_file(agent.data_dir().join("journal/1").join(name));
    }
    std::fs::rename(agent.data_dir().join("events.db"), agent.dir().join("events.db")).unwrap();
    agent.start_again();
    post(&agent, 30);
    agent.stop();
    std::fs::write(&checkpoint, signed).unwrap();
    let _ = std::fs::remove_file(agent.data_dir().join("journal/1/checkpoints"));
    agent.start_again();
    let log_key = key(&agent);
    assert!(log_key.vkey().name().ends_with("/gen/2"), "{}", log_key.vkey().name());
    let (_, newest) = covering(&agent, &log_key, 1);
    assert!(newest.origin().ends_with("/gen/2"));
    assert_eq!(agent.dumped("journal.rewritten").len(), 1);
    let reason = "restored: the backup of 3 May & more";
    let _ = agent.run(&["journal", "accept-rollback", "--reason", reason]).expect(0);
    let told = agent.dumped("journal.rollback_accepted");
    assert_eq!(told[0]["event_data"]["reason"], reason);
    let again = agent.run(&["journal", "accept-rollback", "--reason", reason]).expect(1);
    assert!(again.stderr.contains("accepted already"), "{}", again.stderr);
}
