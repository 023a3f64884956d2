//! What every plugin keeps; its life needs the kernel of this machine.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;
use auditmon_source_kernel::KernelConfig;
use auditmon_testkit::contract;
use support::Live;

fn entry() -> Entry {
    Entry::source::<KernelConfig>("kernel", Kind::Kernel)
}

#[test]
fn the_configuration_keeps_the_contract() {
    contract::config::<KernelConfig>(&entry());
}

#[test]
fn the_source_keeps_the_contract() {
    let Some(mut live) = Live::borrow("the_source_keeps_the_contract") else {
        return;
    };
    contract::Running::new(&entry(), serde_json::json!({"rules": {"list": []}})).keeps();
    assert!(live.is_as_found());
}
