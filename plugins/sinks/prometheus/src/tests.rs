use std::collections::BTreeMap;
use std::sync::Arc;

use auditmon_core::event::Draft;
use auditmon_journal::format::Prefix;
use auditmon_journal::{Batch as RawBatch, Records};
use auditmon_testkit::TestJournal;

use super::*;

/// The series that are not 0, as `kind outcome severity`.
fn counted(registry: &Registry) -> BTreeMap<String, u64> {
    let all = series(registry);
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn series(registry: &Registry) -> BTreeMap<String, u64> {
    let families = registry.gather();
    assert_eq!(families.len(), 1);
    assert_eq!(families[0].name(), "auditmon_events_total");
    let metrics = families[0].get_metric().iter();
    metrics
        .map(|metric| {
            let label = |name: &str| metric.get_label().iter().find(|l| l.name() == name).unwrap().value();
            let name = format!("{} {} {}", label("kind"), label("outcome"), label("severity"));
            (name, metric.get_counter().get_value() as u64)
        })
        .collect()
}

fn sink(registry: &Registry) -> Prometheus {
    let counts = Counts::new(registry).unwrap();
    Prometheus { counts }
}

#[test]
fn all_series_are_there_at_zero() {
    let registry = Registry::new();
    let _sink = sink(&registry);
    let all = series(&registry);
    assert_eq!(all.len(), 4 * (3 * 5 + 1));
    assert!(all.values().all(|count| *count == 0));
    for name in [
        "application success info",
        "immudb unknown critical",
        "kernel other other",
    ] {
        assert!(all.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn each_event_counts_once_at_its_place() {
    let (journal, registry) = (TestJournal::new(), Registry::new());
    let mut sink = sink(&registry);
    assert!(matches!(sink.start("h/00").await.unwrap(), Start::Live));
    let mut wanted = BTreeMap::new();
    for kind in KINDS {
        for (at, outcome) in Outcome::ALL.iter().enumerate() {
            for severity in Severity::ALL {
                let draft = || Draft {
                    outcome: *outcome,
                    severity: *severity,
                    ..Draft::new("event", "alice")
                };
                journal.add(kind, (0..=at).map(|_| draft()).collect()).await;
                let name = format!("{} {} {}", kind_str(kind), outcome.as_str(), severity.as_str());
                wanted.insert(name, at as u64 + 1);
            }
        }
    }
    journal.add_state(b"key", b"value").await;
    assert!(sink.write(&journal.events(0)).await.unwrap().is_all());
    assert_eq!(counted(&registry), wanted);
}

#[tokio::test]
async fn what_is_not_understood_is_other() {
    let registry = Registry::new();
    let mut sink = sink(&registry);
    let prefix = Prefix {
        event_id: [7; 16],
        received_ns: 1,
        kind: Kind::Kernel,
        source: [0; 8],
    };
    let mut records = Records::new();
    let said = br#"{"outcome":"postponed","user":"mallory"}"#;
    records
        .push(&prefix, [0; 16], |out| out.extend_from_slice(said))
        .unwrap();
    let mut events = Events::new(Arc::from("h/00"));
    events.push(RawBatch::from_records(0, &records));
    sink.write(&events).await.unwrap();
    assert_eq!(
        counted(&registry),
        BTreeMap::from([("kernel other other".to_owned(), 1)])
    );
}
