//! What every plugin keeps.

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;
use auditmon_source_immudb::ImmudbConfig;
use auditmon_testkit::contract;
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
