//! What every plugin keeps.
#![allow(clippy::unwrap_used, reason = "tests")]

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;
use auditmon_demo::{DemoSinkConfig, DemoSourceConfig};
use auditmon_testkit::contract;
use serde_json::json;

#[test]
fn the_source_keeps_the_contract() {
    let entry = Entry::source::<DemoSourceConfig>("demosource", Kind::Application).off_by_default();
    contract::config::<DemoSourceConfig>(&entry);
    contract::Running::new(&entry, json!({"every": "1ms"})).keeps();
}

#[test]
fn the_sink_keeps_the_contract() {
    let entry = Entry::sink::<DemoSinkConfig>("demosink").off_by_default();
    contract::config::<DemoSinkConfig>(&entry);
    contract::Sink::new(&entry, |_| json!({"file": "lines"}))
        .taken(|data_dir| {
            let lines = std::fs::read_to_string(data_dir.join("lines")).unwrap_or_default();
            let seqs = lines.lines().map(|line| line.split_once(' ').unwrap().0);
            seqs.map(|seq| seq.parse().unwrap()).collect()
        })
        .keeps();
}

/// Whether a part of the contract notices a plugin that breaks it.
fn breaks(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(check).expect_err("the contract notices");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

#[test]
fn a_plugin_that_breaks_the_contract_is_noticed() {
    for (fault, says) in [
        ("build", "can't be built"),
        ("transient", "fault that may pass"),
        ("ends", "it listens"),
    ] {
        let said = breaks(|| {
            let entry = Entry::source::<DemoSourceConfig>("demosource", Kind::Application);
            contract::Running::new(&entry, json!({"every": "1ms", "fault": fault})).keeps();
        });
        assert!(said.contains(says), "{fault}: {said}");
    }
    for (fault, says) in [("build", "can't be built"), ("permanent", "it takes events")] {
        let said = breaks(|| {
            let entry = Entry::sink::<DemoSinkConfig>("demosink");
            contract::Sink::new(&entry, |_| json!({"fault": fault})).keeps();
        });
        assert!(said.contains(says), "{fault}: {said}");
    }
    // What is not in the file is missed.
    let said = breaks(|| {
        let entry = Entry::sink::<DemoSinkConfig>("demosink");
        contract::Sink::new(&entry, |_| json!({})).taken(|_| vec![3]).keeps();
    });
    assert!(said.contains("missing"), "{said}");
}
