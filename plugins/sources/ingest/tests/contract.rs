//! What every plugin keeps.

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;
use auditmon_source_ingest::IngestConfig;
use auditmon_testkit::contract;

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<IngestConfig>(&Entry::source::<IngestConfig>("ingest", Kind::Application));
}

#[test]
fn the_source_keeps_the_contract() {
    let entry = Entry::source::<IngestConfig>("ingest", Kind::Application);
    contract::Running::new(&entry, serde_json::json!({})).keeps();
}
