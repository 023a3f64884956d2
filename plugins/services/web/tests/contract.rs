//! What every plugin keeps.

use auditmon_core::plugin::Entry;
use auditmon_service_web::WebConfig;
use auditmon_testkit::contract;

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<WebConfig>(&Entry::service::<WebConfig>("web"));
}

#[test]
fn the_service_keeps_the_contract() {
    let entry = Entry::service::<WebConfig>("web");
    contract::Running::new(&entry, serde_json::json!({})).keeps();
}
