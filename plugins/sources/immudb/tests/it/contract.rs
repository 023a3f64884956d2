//! What every plugin keeps.

use auditmon_core::event::Kind;
use auditmon_core::plugin::{Entry, Faults, PluginConfig as _, PluginError, needs_of};
use auditmon_core::privileged::ConfiguredFile;
use auditmon_source_immudb::ImmudbConfig;
use auditmon_testkit::{TestAgent, contract};
use serde_json::json;

use crate::fake::{Fake, PASSWORD, USER};

fn entry() -> Entry {
    Entry::source::<ImmudbConfig>("immudb", Kind::Immudb).off_by_default()
}

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<ImmudbConfig>(&entry());
}

#[test]
fn the_source_keeps_the_contract() {
    // The server has a runtime of its own: each check has one, too.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = runtime.block_on(Fake::start());
    fake.change(|world| world.grow("orders", 3, 0));
    let server = json!({"address": fake.address.to_string(), "username": USER, "password": PASSWORD});
    contract::Running::new(&entry(), json!({"interval": "1s", "servers": [server]})).keeps();
}

#[test]
fn it_keeps_the_contract_without_a_server_that_answers() {
    // Bound and never accepted from.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = json!({"address": silent.local_addr().unwrap().to_string(), "username": USER, "password": PASSWORD});
    contract::Running::new(
        &entry(),
        json!({"interval": "1s", "timeout": "5s", "servers": [server]}),
    )
    .keeps();
}

/// No audit can do without it, and nothing mends one that is none; a file that can't be read at a start may be there again.
#[tokio::test]
async fn a_signing_key_that_is_of_no_use_is_a_fault_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.pem");
    std::fs::write(&text, "no key").unwrap();
    let none = dir.path().join("none.pem");
    let directory = dir.path().to_owned();
    for (file, says, stays) in [
        (none, "none.pem: ", false),
        (text, "text.pem: ", true),
        (directory, ": not a regular file", true),
    ] {
        let section = json!({"servers": [{"address": "127.0.0.1:3322", "name": "db1", "signing_keys": [file]}]});
        let config: ImmudbConfig = serde_json::from_value(section).unwrap();
        let mut faults = Faults::default();
        config.inspect(&ConfiguredFile::read, &mut faults);
        let faults = faults.into_vec();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].path, "servers[0].signing_keys");
        assert!(faults[0].message.contains(says), "{}", faults[0].message);
        let agent = TestAgent::new();
        let mut cx = agent.build_context("immudb", Some(Kind::Immudb), needs_of(&config));
        let error = match config.build(&mut cx).await {
            Err(PluginError::Permanent(error)) if stays => error,
            Err(PluginError::Transient(error)) if !stays => error,
            _ => panic!("{says}"),
        };
        assert!(error.starts_with("db1: ") && error.contains(says), "{error}");
    }
}
