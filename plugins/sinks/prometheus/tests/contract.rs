//! What every plugin keeps.

use auditmon_core::plugin::Entry;
use auditmon_sink_prometheus::PrometheusConfig;
use auditmon_testkit::contract;

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<PrometheusConfig>(&Entry::sink::<PrometheusConfig>("prometheus"));
}

#[test]
fn the_sink_keeps_the_contract() {
    let entry = Entry::sink::<PrometheusConfig>("prometheus");
    contract::Sink::new(&entry, |_| serde_json::json!({})).keeps();
}
