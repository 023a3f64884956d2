//! What a reload takes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use auditmon_config::{Class, PluginChange, changes};
use common::Trial;

/// `PATH CLASS` of the agent's keys, then `NAME: …` of plugins.
fn between(old: Trial, new: Trial) -> Vec<String> {
    let changes = changes(&old.good(), &new.good());
    let class = |class: Class| match class {
        Class::Live => "live",
        Class::RestartPlugin => "plugin",
        Class::RestartAgent => "agent",
    };
    let mut out: Vec<String> = changes
        .agent
        .iter()
        .map(|key| format!("{} {}", key.path, class(key.class)))
        .collect();
    for (name, change) in &changes.plugins {
        out.push(match change {
            PluginChange::Start => format!("{name}: start"),
            PluginChange::Stop => format!("{name}: stop"),
            PluginChange::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|k| format!("{} {}", k.path, class(k.class))).collect();
                format!("{name}: {} → {}", keys.join(", "), class(change.class().unwrap()))
            }
        });
    }
    assert_eq!(out.is_empty(), changes.is_empty());
    out
}

#[test]
fn keys_of_the_agent_have_their_classes() {
    let new = "\
host: h
labels: {a: b}
http: {protect: [metrics], memory: 32MiB, tls: {cert_file: /c, key_file: /k}}
journal: {keep: {age: 1h}}
logging: {level: debug}
";
    assert_eq!(
        between(Trial::of(""), Trial::of(new)),
        [
            "host agent",
            "http.memory agent",
            "http.protect live",
            "http.tls.cert_file live",
            "http.tls.key_file live",
            "journal.keep.age agent",
            "labels agent",
            "logging.level live",
        ]
    );
}

#[test]
fn what_is_only_said_otherwise_is_no_change() {
    let old = "http: {listen: 127.0.0.1:7984}\nsinks: {store: {retention: 1d}}";
    let new = "# remark\nsettings: {retention_days: 1}\nsources: {ingest: {max_body: 16MiB}}";
    assert_eq!(between(Trial::of(old), Trial::of(new)), [""; 0]);
}

#[test]
fn plugins_start_stop_and_change() {
    let old = "\
sources: {ingest: {linger: 1ms}, kernel: {enabled: false}}
sinks: {webhook: {a: {url: \"https://a\"}, b: {url: \"https://b\"}, off: {url: \"https://o\", enabled: false}}}
";
    let new = "\
sources: {ingest: {linger: 2ms}, kernel: {rules: {list: [-D]}}}
sinks:
  store: {batch: {events: 7}, retention: 5d}
  webhook: {b: {enabled: false, url: \"https://x\"}, c: {url: \"https://c\"}, off: {url: \"https://p\", enabled: false}}
";
    assert_eq!(
        between(Trial::of(old), Trial::of(new)),
        [
            "ingest: sources.ingest.linger live → live",
            "kernel: start",
            "store: sinks.store.batch.events plugin, sinks.store.retention plugin → plugin",
            "webhook.a: stop",
            "webhook.b: stop",
            "webhook.c: start",
        ]
    );
    // Live and other keys together take the more.
    let more = "sources: {ingest: {linger: 2ms, max_events: 5}}";
    assert_eq!(
        between(Trial::of(""), Trial::of(more)),
        ["ingest: sources.ingest.linger live, sources.ingest.max_events plugin → plugin"]
    );
    // A section that comes or goes differs in each of its keys.
    let rules = "sources: {kernel: {rules: {}}}";
    assert_eq!(
        between(Trial::of(""), Trial::of(rules)),
        ["kernel: sources.kernel.rules plugin → plugin"]
    );
}

#[test]
fn a_secret_changes_with_its_file() {
    let trial =
        |content: &str| Trial::of("sinks: {webhook: {a: {url: \"https://a\", token_file: /t}}}").file("/t", content);
    assert_eq!(between(trial("x"), trial("x\n")), [""; 0]);
    assert_eq!(
        between(trial("x"), trial("y")),
        ["webhook.a: sinks.webhook.a.token plugin → plugin"]
    );
}
