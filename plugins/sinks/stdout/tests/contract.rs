//! What every plugin keeps. Its lines go to this test's own standard output.

use auditmon_core::plugin::Entry;
use auditmon_sink_stdout::StdoutConfig;
use auditmon_testkit::contract;

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<StdoutConfig>(&Entry::sink::<StdoutConfig>("stdout").off_by_default());
}

#[test]
fn the_sink_keeps_the_contract() {
    let entry = Entry::sink::<StdoutConfig>("stdout");
    contract::Sink::new(&entry, |_| serde_json::json!({})).keeps();
}
