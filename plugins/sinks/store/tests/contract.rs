//! What every plugin keeps.
#![allow(clippy::unwrap_used, reason = "tests")]

use auditmon_core::plugin::Entry;
use auditmon_sink_store::StoreConfig;
use auditmon_testkit::contract;

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<StoreConfig>(&Entry::sink::<StoreConfig>("store"));
}

#[test]
fn the_sink_keeps_the_contract() {
    let entry = Entry::sink::<StoreConfig>("store");
    contract::Sink::new(&entry, |_| serde_json::json!({}))
        .taken(|data_dir| {
            let db = rusqlite::Connection::open(data_dir.join("events.db")).unwrap();
            let mut rows = db.prepare("SELECT seq FROM events ORDER BY rowid").unwrap();
            let seqs = rows.query_map([], |row| row.get::<_, i64>(0)).unwrap();
            seqs.map(|seq| seq.unwrap().unsigned_abs()).collect()
        })
        .keeps();
}
