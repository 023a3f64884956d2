//! `/metrics` and its manual say the same: each name, its type, its labels, and which values these may have.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/tests/it/fake.rs"]
mod fake;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/naive.rs"]
mod naive;
#[allow(dead_code, missing_docs)]
#[path = "../../../plugins/sources/immudb/verify/tests/it/proto.rs"]
mod proto;

use std::collections::{BTreeMap, BTreeSet};

use auditmon_e2e::{Agent, PATIENCE, event, eventually, is_root, request};

use crate::fake::{Fake, PASSWORD, USER};

const MANUAL: &str = include_str!("../../../docs/metrics.md");
/// Whoever may not audit: the kernel source shows its metrics all the same, and leaves the host alone.
const NOBODY: u32 = 65534;
/// A journal's verifier key.
const PEER: &str = "audit.example.com/store/host-a+df629cdd+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

/// What the manual or the page says of a name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// Cells of the tables' rows, without the marks of code.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut inside = false;
    let mut found = Vec::new();
    for line in MANUAL.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if cells(line).first().is_some_and(|cell| cell == heading) {
            inside = true;
        } else if inside && !line.starts_with("|---") {
            found.push(cells(line));
        }
    }
    found
}

/// The words in back quotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn listed() -> BTreeMap<String, Family> {
    let mut all = BTreeMap::new();
    for row in rows("metric") {
        for name in quoted(&row[0]) {
            let family = Family {
                kind: row[1].clone(),
                labels: quoted(&row[2]),
            };
            assert_eq!(all.insert(name.clone(), family), None, "{name} stands twice");
        }
    }
    all
}

/// One line of the page: name without a histogram's ending, labels without a histogram's own.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
}

/// The page as a scraper reads it, with the help of each name.
fn page(text: &str) -> (BTreeMap<String, Family>, BTreeMap<String, String>, Vec<Sample>) {
    let (mut families, mut helps, mut samples) = (BTreeMap::<String, Family>::new(), BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            helps.insert(name.to_owned(), help.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|base| families.contains_key(*base)));
            let name = base.unwrap_or(name).to_owned();
            let pairs = rest.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
            let labels: BTreeMap<_, _> = pairs
                .map(|pair| pair.split_once("=\"").unwrap())
                .filter(|(label, _)| *label != "le")
                .map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()))
                .collect();
            let family = families
                .get_mut(&name)
                .unwrap_or_else(|| panic!("no TYPE before {line}"));
            family.labels.extend(labels.keys().cloned());
            samples.push(Sample { name, labels });
        }
    }
    (families, helps, samples)
}

/// An agent with every plugin at work or at least built, after one of everything has happened; and its page.
fn everything() -> (Agent, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let immudb = runtime.block_on(Fake::start());
    immudb.change(|world| world.grow("defaultdb", 3, 0));
    let builder = Agent::builder()
        .config(&format!(
            "sinks:\n  stdout: {{enabled: true}}\n  webhook: {{siem: {{url: \"http://127.0.0.1:1/hook\", \
             when_behind: skip}}}}\nsources:\n  immudb:\n    enabled: true\n    peers: [{{address: \
             \"http://127.0.0.1:1\", log_key: \"{PEER}\"}}]\n    servers: [{{name: db1, \
             address: \"{}\", username: {USER}, password: \"{PASSWORD}\"}}]\n",
            immudb.address
        ))
        .kernel();
    let builder = if is_root("metrics::everything, the kernel source") {
        builder.uid(NOBODY)
    } else {
        builder
    };
    let agent = builder.start();
    let body = format!(
        r#"[{},{{"event_name":"mallory-name","username":"mallory-user","outcome":"failure","severity":"critical"}},{{}}]"#,
        event("plain")
    );
    let _ = agent.post(body).expect(201);
    let _ = agent.await_events("?event_name=plain", 1);
    // What strangers can send.
    let _ = request("GET", "/mallory/path?mallory=query").send(agent.listen());
    let _ = request("MALLORY", "/api/v1/events").send(agent.listen());
    let _ = request("GET", "/api/v1/events").key("mallory-key").send(agent.listen());
    let _ = agent.get("/api/v1/events/mallory-id");
    let _ = agent.get("/").status;
    let text = eventually("the last event is counted", PATIENCE, || {
        let text = agent.get("/metrics").text();
        let counted = r#"auditmon_events_total{kind="application",outcome="failure",severity="critical"} 1"#;
        let audited = r#"auditmon_immudb_audit_result{db="defaultdb",server="db1"} 1"#;
        (text.contains(counted) && text.contains(audited)).then_some(text)
    });
    (agent, text)
}

#[test]
fn the_manual_lists_what_is_shown_and_nothing_else() {
    let (agent, text) = everything();
    let (shown, _, samples) = page(&text);
    let listed = listed();
    let names = |families: &BTreeMap<String, Family>| families.keys().cloned().collect::<BTreeSet<_>>();
    let difference = |a: &BTreeMap<String, Family>, b: &BTreeMap<String, Family>| -> Vec<String> {
        names(a).difference(&names(b)).cloned().collect()
    };
    assert_eq!(
        difference(&shown, &listed),
        [""; 0],
        "shown, and not in docs/metrics.md"
    );
    assert_eq!(
        difference(&listed, &shown),
        [""; 0],
        "in docs/metrics.md, and not shown"
    );
    for (name, family) in &listed {
        assert_eq!(family, &shown[name], "{name}: the manual, and the page");
    }

    // Values of labels: a closed set, or names of a known kind.
    let plugins: BTreeSet<String> = agent.get("/healthz").json()["plugins"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let is_plugin = |value: &str| plugins.contains(value) || value == "auditmon";
    let is_key = |value: &str| value == "default";
    let is_server = |value: &str| value == "db1";
    let is_database = |value: &str| value == "defaultdb";
    let mut rules: BTreeMap<(String, String), String> = BTreeMap::new();
    for row in rows("label") {
        for label in quoted(&row[0]) {
            let metrics = if row[1] == "all" {
                BTreeSet::from(["all".to_owned()])
            } else {
                quoted(&row[1])
            };
            for metric in metrics {
                rules.insert((label.clone(), metric), row[2].clone());
            }
        }
    }
    let mut used = BTreeSet::new();
    for sample in &samples {
        for (label, value) in &sample.labels {
            let place = [sample.name.as_str(), "all"]
                .into_iter()
                .map(|metric| (label.clone(), metric.to_owned()))
                .find(|place| rules.contains_key(place))
                .unwrap_or_else(|| panic!("{}: no rule for the values of `{label}`", sample.name));
            let rule = &rules[&place];
            let good = match rule.as_str() {
                "names of plugins" => is_plugin(value),
                "names of plugins, and `auditmon`, the agent itself" => is_plugin(value),
                "names of plugins and API keys" => is_plugin(value) || is_key(value) || value == "agent",
                "names of API keys" => is_key(value),
                "configured names or addresses of immudb servers" => is_server(value),
                "names of databases that are audited, at most 10,000 a server" => is_database(value),
                "journals of `sources.immudb.peers`" => PEER.split('+').next() == Some(value),
                "templates of routes, and `other`" => value == "other" || value.starts_with('/'),
                "status codes" => value.len() == 3 && value.parse::<u16>().is_ok(),
                "one, this build's" => true,
                set => {
                    let words = quoted(set);
                    assert!(!words.is_empty(), "an unknown rule: {set}");
                    words.contains(value)
                }
            };
            assert!(good, "{}: {label}=\"{value}\" is not of: {rule}", sample.name);
            used.insert(place);
        }
    }
    let unused: Vec<_> = rules.keys().filter(|place| !used.contains(*place)).collect();
    assert!(unused.is_empty(), "rules for labels that are not: {unused:?}");
    assert!(!text.contains("mallory"), "a client's word became a label");
}

#[test]
fn names_follow_the_rules() {
    let (_agent, text) = everything();
    let (shown, helps, samples) = page(&text);
    for (name, family) in &shown {
        let prefix = name.starts_with("auditmon_") || name.starts_with("process_");
        assert!(prefix, "{name}: prefix");
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(plain && !name.contains("__"), "{name}: form");
        assert_eq!(
            name.ends_with("_total"),
            family.kind == "counter",
            "{name}: _total stands on counters and nowhere else"
        );
        assert!(
            ["counter", "gauge", "histogram"].contains(&family.kind.as_str()),
            "{name}: {}",
            family.kind
        );
        if family.kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name}: unit");
        }
        let words: Vec<&str> = name.split('_').collect();
        // Base units only; kinds of metrics and endings of histograms are no part of a name.
        for bad in [
            "ms",
            "millis",
            "milliseconds",
            "micros",
            "microseconds",
            "us",
            "ns",
            "nanoseconds",
            "minutes",
            "hours",
            "days",
            "kb",
            "mb",
            "kib",
            "mib",
            "kilobytes",
            "megabytes",
            "kibibytes",
            "mebibytes",
            "percent",
            "ratio100",
            "counter",
            "gauge",
            "histogram",
            "bucket",
            "sum",
            "count",
        ] {
            assert!(!words.contains(&bad), "{name}: `{bad}`");
        }
        for label in &family.labels {
            let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain && !label.starts_with('_'), "{name}: label {label}");
        }
        let help = helps.get(name).map_or("", String::as_str);
        assert!(help.len() > 4 && help != name, "{name}: help `{help}`");
    }
    // Begun at 0: what nothing has happened to is there.
    for (name, labels) in [
        (
            "auditmon_events_total",
            [("kind", "immudb"), ("outcome", "unknown"), ("severity", "error")].as_slice(),
        ),
        (
            "auditmon_events_total",
            &[("kind", "kernel"), ("outcome", "other"), ("severity", "other")],
        ),
        (
            "auditmon_sink_events_total",
            &[("sink", "webhook.siem"), ("result", "dead_letter")],
        ),
        ("auditmon_plugin_restarts_total", &[("plugin", "web")]),
    ] {
        let wanted: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let there = samples.iter().any(|s| s.name == name && s.labels == wanted);
        assert!(there, "{name} {wanted:?}");
    }
    // No part of the agent makes many series.
    for name in shown.keys() {
        let series: BTreeSet<_> = samples.iter().filter(|s| s.name == *name).map(|s| &s.labels).collect();
        assert!(series.len() <= 100, "{name} has {} series", series.len());
    }
}

/// OpenMetrics as the specification wants it, with the families as Prometheus' text names them.
fn openmetrics(text: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut kinds, mut series, mut now) = (BTreeMap::new(), BTreeSet::new(), (String::new(), String::new()));
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            now = (name.to_owned(), kind.to_owned());
            let counter = if kind == "counter" { "_total" } else { "" };
            assert!(!name.ends_with("_total"), "{line}");
            let before = kinds.insert(format!("{name}{counter}"), kind.to_owned());
            assert_eq!(before, None, "{name} has two families");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert_eq!(rest.split(' ').next(), Some(now.0.as_str()), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let ends: &[&str] = match now.1.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                kind => panic!("{kind}"),
            };
            let of_family = name.strip_prefix(&now.0).is_some_and(|end| ends.contains(&end));
            assert!(of_family, "{line} stands below {}", now.0);
            let (labels, value) = line.rsplit_once(' ').unwrap();
            let _: f64 = value.parse().unwrap();
            series.insert(labels.to_owned());
        }
    }
    (kinds, series)
}

#[test]
fn who_asks_for_openmetrics_gets_the_same_series_so() {
    let (agent, text) = everything();
    let ask = |accept: &str| {
        let request = request("GET", "/metrics").header("accept", accept);
        request.send(agent.listen()).expect(200)
    };
    // What Prometheus sends.
    let answer = ask(
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    let (kinds, series) = openmetrics(&answer.text());
    let (shown, _, _) = page(&text);
    let shown: BTreeMap<_, _> = shown.into_iter().map(|(name, family)| (name, family.kind)).collect();
    assert_eq!(kinds, shown);
    // Bounds alone are written otherwise, and what happened meanwhile can only have added some.
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("le=\""))
    {
        let labels = line.rsplit_once(' ').unwrap().0;
        assert!(series.contains(labels), "{labels}");
    }
    for accept in [
        "text/plain",
        "*/*",
        "application/openmetrics-text;q=0.1,text/plain;q=0.2",
    ] {
        let answer = ask(accept);
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
        assert!(!answer.text().contains("# EOF"));
    }
}
