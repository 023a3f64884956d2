//! Precedence, overlays, environment, secrets, old names: what works.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use auditmon_config::{Loaded, effective, variables};
use common::{Trial, entries, warnings};
use serde_json::json;

fn port(loaded: &Loaded) -> u16 {
    loaded.settings.http.listen.port()
}

/// What `auditmon config --origin` says of a key.
fn origin(loaded: &Loaded, key: &str) -> String {
    let text = effective(loaded, Path::new("/d"), true);
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{key}: ")));
    let line = line.unwrap_or_else(|| panic!("{key}:\n{text}"));
    line.split("  # ").nth(1).unwrap().to_owned()
}

const FLEET: &str = "\
http: {listen: 127.0.0.1:1}
labels: {role: web, rack: a}
hosts:
  - match: {name: \"web-*\"}
    set: {http: {listen: 127.0.0.1:2, protect: [metrics]}, labels: {rack: b}}
  - match: {labels: {role: w?b}}
    set: {http: {protect: []}, sources: {kernel: {enabled: false}}}
  - match: {name: db-1}
    set: {http: {listen: 127.0.0.1:9}}
";

#[test]
fn each_layer_wins_over_those_below() {
    let defaults = Trial::of("").good();
    assert_eq!(port(&defaults), 7984);
    assert_eq!(origin(&defaults, "listen"), "default");
    let file = Trial::of("http: {listen: 127.0.0.1:1}").good();
    assert_eq!(
        (port(&file), origin(&file, "listen").as_str()),
        (1, "auditmon.yaml:1:8")
    );
    let overlay = Trial::of(FLEET).good();
    assert_eq!(port(&overlay), 2);
    assert_eq!(
        origin(&overlay, "listen"),
        "auditmon.yaml:5:18 (hosts[0].set.http.listen)"
    );
    let variable = Trial::of(FLEET).env("AUDITMON_HTTP_LISTEN", "127.0.0.1:3").good();
    assert_eq!(port(&variable), 3);
    assert_eq!(origin(&variable, "listen"), "environment AUDITMON_HTTP_LISTEN");
    let on = |loaded: &Loaded| loaded.plugin("kernel").unwrap().enabled;
    assert!(on(&defaults) && !on(&overlay));
    let variable = Trial::of(FLEET).env("AUDITMON_SOURCES_KERNEL_ENABLED", "true");
    assert!(on(&variable.clone().good()));
    let option = variable.switch("kernel", false).good();
    assert!(!on(&option));
    assert_eq!(
        option.plugin("kernel").unwrap().enabled_by,
        "command line --disable kernel"
    );
    let mut directory = Trial::of("data_dir: /a").env("AUDITMON_DATA_DIR", "/b");
    directory.data_dir = Some(PathBuf::from("/c"));
    let directory = directory.good();
    assert_eq!(directory.settings.data_dir, Some(PathBuf::from("/c")));
    assert_eq!(origin(&directory, "data_dir"), "command line --data-dir");
}

#[test]
fn entries_for_hosts_apply_in_order() {
    let loaded = Trial::of(FLEET).good();
    assert_eq!(loaded.overlays, ["auditmon.yaml:4:5", "auditmon.yaml:6:5"]);
    // Maps merge, lists replace.
    assert_eq!(loaded.settings.labels["role"], "web");
    assert_eq!(loaded.settings.labels["rack"], "b");
    assert_eq!(loaded.settings.http.protect, [""; 0]);
    // The name that is looked for may be set; labels come from the environment, too.
    let other = Trial::of(FLEET)
        .env("AUDITMON_HOST", "db-1")
        .env("AUDITMON_LABELS", "role=db,site=b");
    let other = other.good();
    assert_eq!(port(&other), 9);
    assert_eq!(
        (other.host.as_str(), other.settings.labels["site"].as_str()),
        ("db-1", "b")
    );
    assert_eq!(other.settings.labels["rack"], "a");
    assert!(other.plugin("kernel").unwrap().enabled);
}

#[test]
fn variables_are_typed_by_their_keys() {
    let loaded = Trial::of("host: a")
        .env("AUDITMON_HOST", "5")
        .env("AUDITMON_HTTP_MAX_CONNECTIONS", "17")
        .env("AUDITMON_HTTP_PROTECT", "[metrics]")
        .env("AUDITMON_HTTP_MEMORY", "1048576")
        .env("AUDITMON_JOURNAL", "{keep: {age: 1h}, hot: 1MiB}")
        .env("AUDITMON_SINKS_STORE_RETENTION", "7d")
        .env("AUDITMON_SERVICES_WEB_ENABLED", "true")
        .env("AUDITMON_SOURCES_KERNEL", "servers:\n  - address: db-1\n")
        .env("AUDITMON_JOURNAL_MAX_SIZE", "")
        .good();
    let settings = &loaded.settings;
    assert_eq!(settings.host.as_deref(), Some("5"));
    assert_eq!(settings.http.max_connections, 17);
    assert_eq!(settings.http.protect, ["metrics"]);
    assert_eq!(settings.http.memory.0, 1 << 20);
    assert_eq!((settings.journal.hot.0, settings.journal.max_size), (1 << 20, None));
    assert_eq!(loaded.plugin("store").unwrap().section, json!({"retention": "7d"}));
    assert_eq!(
        loaded.plugin("kernel").unwrap().section["servers"],
        json!([{"address": "db-1"}])
    );
    assert!(loaded.plugin("web").unwrap().enabled);
    let null = Trial::of("run_as: a").env("AUDITMON_RUN_AS", "null").good();
    assert_eq!(null.settings.run_as, None);
    let values = loaded.values(loaded.plugin("store").unwrap());
    assert_eq!(
        (&values["retention"], &values["batch"]["events"], values.get("enabled")),
        (&json!("7d"), &json!(1000), None)
    );
    assert_eq!(origin(&null, "run_as"), "environment AUDITMON_RUN_AS");
}

#[test]
fn variables_reach_instances() {
    let yaml = "sinks: {webhook: {si-em: {url: \"https://a\"}, si: {url: \"https://b\"}}}";
    let loaded = Trial::of(yaml)
        .env("AUDITMON_SINKS_WEBHOOK_SI_EM_URL", "https://c")
        .env("AUDITMON_SINKS_WEBHOOK_SI_TOKEN", "t")
        .env("AUDITMON_SINKS_WEBHOOK_NEW_ONE_URL", "https://d")
        .env("AUDITMON_SINKS_WEBHOOK_X_BATCH_EVENTS", "7")
        .env("AUDITMON_SINKS_WEBHOOK_X", "{url: \"https://x\"}")
        .good();
    let section = |name: &str| loaded.plugin(name).unwrap().section.clone();
    assert_eq!(section("webhook.si-em"), json!({"url": "https://c"}));
    assert_eq!(section("webhook.si"), json!({"url": "https://b", "token": "t"}));
    // A name that isn't known ends where the first known key begins.
    assert_eq!(section("webhook.new_one"), json!({"url": "https://d"}));
    assert_eq!(
        section("webhook.x"),
        json!({"url": "https://x", "batch": {"events": 7}})
    );
    let names: Vec<_> = loaded.plugins.iter().map(|plugin| plugin.name).collect();
    assert_eq!(
        names,
        [
            "store",
            "webhook.new_one",
            "webhook.si",
            "webhook.si-em",
            "webhook.x",
            "ingest",
            "kernel",
            "web"
        ]
    );
    let off = Trial::of(yaml).switch("webhook.si", false).good();
    assert!(!off.plugin("webhook.si").unwrap().enabled && off.plugin("webhook.si-em").unwrap().enabled);
}

#[test]
fn values_of_a_plugin_that_nobody_turned_on_are_a_warning() {
    let warned = |yaml: &str| warnings(&Trial::of(yaml).good());
    assert_eq!(
        warned("services: {web: {title: a}}"),
        ["auditmon.yaml:1:18: services.web.title: `services.web` is off; `services.web.enabled: true` turns it on"]
    );
    assert_eq!(warned("services: {web: {enabled: false, title: a}}"), [""; 0]);
    assert_eq!(warned("services: {web: {enabled: true, title: a}}"), [""; 0]);
    assert_eq!(warned("services: {web: {}}"), [""; 0]);
    assert_eq!(
        warnings(&Trial::of("services: {web: {title: a}}").switch("web", false).good()),
        [""; 0]
    );
}

#[test]
fn unknown_variables_are_a_warning_and_those_of_others_are_none() {
    let loaded = Trial::of("host: a")
        .env("AUDITMON_HTTP_LISEN", "x")
        .env("AUDITMON_SINKS_WEBHOOK_URL", "https://a")
        .env("AUDITMON_CONFIG", "/a.yaml")
        .env("AUDITMON_HOSTS", "[]")
        .env("AUDITMON_QQQQ", "hunter2")
        // Kubernetes, for Services `auditmon` and `auditmon-server`.
        .env("AUDITMON_PORT", "tcp://10.0.0.7:7984")
        .env("AUDITMON_SERVICE_HOST", "10.0.0.7")
        .env("AUDITMON_SERVER_PORT", "tcp://10.0.0.7:80")
        .env("AUDITMON_SERVER_PORT_80_TCP_ADDR", "10.0.0.7")
        // Tests.
        .env("AUDITMON_LONG", "1")
        .env("AUDITMON_TEST_UPDATE", "1")
        .env("SERVER_PORT", "80")
        .good();
    assert_eq!(port(&loaded), 7984);
    assert_eq!(
        warnings(&loaded),
        [
            "environment AUDITMON_CONFIG: unknown variable: the configuration file is named by -c or --config",
            "environment AUDITMON_HOSTS: unknown variable: `hosts` stands in the configuration file only",
            "environment AUDITMON_HTTP_LISEN: unknown variable, it has no effect, did you mean `AUDITMON_HTTP_LISTEN`?",
            "environment AUDITMON_QQQQ: unknown variable, it has no effect",
            "environment AUDITMON_SINKS_WEBHOOK_URL: unknown variable, it has no effect, did you mean \
             `AUDITMON_SINKS_WEBHOOK_NAME_URL`?",
        ]
    );
}

#[test]
fn no_variable_stands_for_two_keys() {
    let (known, twice) = variables(&entries());
    assert_eq!(twice, [""; 0]);
    assert_eq!(known["AUDITMON_HTTP_MAX_CONNECTIONS"], "http.max_connections");
    assert_eq!(
        known["AUDITMON_SINKS_WEBHOOK_NAME_TOKEN_FILE"],
        "sinks.webhook.NAME.token_file"
    );
    assert_eq!(known["AUDITMON_DATABASE_FILE"], "database.file");
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let yaml = "\
sinks:
  webhook:
    siem: {url: \"https://a\", token_file: /run/token}
    open: {url: \"https://b\", token: hunter2, headers: {x: hunter2}}
sources:
  kernel:
    servers: [{address: db-1, password_file: /run/password}]
";
    let trial = Trial::of(yaml)
        .file("/run/token", "hunter2\n")
        .file("/run/password", "hunter2");
    let loaded = trial.clone().good();
    assert_eq!(
        loaded.plugin("webhook.siem").unwrap().section,
        json!({"url": "https://a", "token": "hunter2"})
    );
    assert_eq!(
        loaded.plugin("kernel").unwrap().section["servers"][0],
        json!({"address": "db-1", "password": "hunter2"})
    );
    let shown = effective(&loaded, Path::new("/d"), true);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("      # token: ********  # auditmon.yaml:3:30, file /run/token"),
        "{shown}"
    );
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(
        loaded.secrets_in_file(),
        ["sinks.webhook.open.headers", "sinks.webhook.open.token"]
    );
    let mut opened: Vec<_> = loaded.opened.iter().map(|path| path.to_str().unwrap()).collect();
    opened.sort_unstable();
    assert_eq!(opened, ["/run/password", "/run/token", "auditmon.yaml"]);
    // The higher layer has the say, whichever way it says it.
    let plain = trial.clone().env("AUDITMON_SINKS_WEBHOOK_SIEM_TOKEN", "other").good();
    assert_eq!(plain.plugin("webhook.siem").unwrap().section["token"], "other");
    let file = trial
        .env("AUDITMON_SINKS_WEBHOOK_OPEN_TOKEN_FILE", "/run/token2")
        .file("/run/token2", "third");
    assert_eq!(file.good().plugin("webhook.open").unwrap().section["token"], "third");
}

#[test]
fn files_of_other_hosts_need_not_be_here() {
    let yaml = "\
hosts:
  - match: {name: other}
    set: {sinks: {webhook: {siem: {url: \"https://a\", token_file: /nowhere}}}}
";
    assert!(Trial::of(yaml).load().is_ok());
    assert!(Trial::of(yaml).env("AUDITMON_HOST", "other").load().is_err());
}

#[test]
fn old_names_are_new_ones() {
    let yaml = "database: {backend: SQLite3, file: /d/a.db}\nsettings: {retention_days: 30}\nserver: {port: 80}\n";
    let loaded = Trial::of(yaml).good();
    assert_eq!(
        loaded.plugin("store").unwrap().section,
        json!({"backend": "sqlite", "file": "/d/a.db.v2", "retention": "30d"})
    );
    assert_eq!(loaded.settings.http.listen, SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!(origin(&loaded, "backend"), "auditmon.yaml:1:12 (database.backend)");
    assert_eq!(
        warnings(&loaded),
        [
            "auditmon.yaml:1:30: database.file: this database is left as it is; events are stored beside it, in \
             /d/a.db.v2",
            "auditmon.yaml:3:10: server.port: only the port is taken over, which makes 127.0.0.1:80; `http.listen` \
             sets the address, too",
        ]
    );
    // Only the port changes: the address is that of the layers below.
    let port = Trial::of("http: {listen: \"127.0.0.2:1\"}").env("AUDITMON_SERVER_PORT", "80");
    assert_eq!(port.good().settings.http.listen, SocketAddr::from(([127, 0, 0, 2], 80)));
    let beside = Trial::of("sinks: {store: {keep: 1d}}").good();
    assert_eq!(beside.plugin("store").unwrap().section, json!({"retention": "1d"}));
    // An old name in one layer and the new one in another are no contradiction.
    let layers = Trial::of(yaml).env("AUDITMON_SINKS_STORE_RETENTION", "1d").good();
    assert_eq!(layers.plugin("store").unwrap().section["retention"], "1d");
}

#[test]
fn what_surprises_is_said() {
    let yaml = "\
http: {listen: \"0.0.0.0:7984\", insecure: true}
sources:
  ingest: {compress: true, max_events: 1}
  kernel: {servers: [{address: 127.0.0.1}]}
";
    assert_eq!(
        warnings(&Trial::of(yaml).good()),
        [
            "auditmon.yaml:1:8: http.listen: `0.0.0.0:7984` is reachable from other machines without TLS: keys and \
             events can be read on the way",
            "auditmon.yaml:3:12: sources.ingest.compress: has no effect yet: nothing is compressed",
            "auditmon.yaml:3:28: sources.ingest.max_events: one event a request is slow",
            "auditmon.yaml:4:23: sources.kernel.servers[0].address: is this host: who can change it can change what \
             audits it",
        ]
    );
    let tls = "http: {listen: \"0.0.0.0:1\", tls: {cert_file: /c, key_file: /k}}";
    assert_eq!(warnings(&Trial::of(tls).good()), [""; 0]);
    // What is off surprises nobody.
    let off = Trial::of("sources: {ingest: {max_events: 1}}").switch("ingest", false);
    assert_eq!(warnings(&off.good()), [""; 0]);
}

#[test]
fn an_absent_section_is_not_an_empty_one() {
    let section = |yaml: &str| Trial::of(yaml).good().plugin("kernel").unwrap().section.clone();
    assert_eq!(section("sources: {kernel: }"), json!({}));
    assert_eq!(section("sources: {kernel: {rules: }}"), json!({"rules": null}));
    assert_eq!(section("sources: {kernel: {rules: {}}}"), json!({"rules": {}}));
    let overlay = "sources: {kernel: {rules: {list: [-D]}}}\nhosts: [{match: {name: \"*\"}, set: {sources: {kernel: {rules: null}}}}]";
    assert_eq!(section(overlay), json!({"rules": null}));
}

#[test]
fn what_is_in_effect_loads_again() {
    let yaml = format!(
        "{FLEET}sinks: {{webhook: {{a: {{url: \"https://a\", format: {{template: \"x: #y\"}}}}}}}}\nlogging: {{level: \"info,auditmon=debug\"}}"
    );
    let first = Trial::of(&yaml).good();
    let text = effective(&first, Path::new("/d"), false);
    let second = Trial::of(&text).good();
    assert_eq!(effective(&second, Path::new("/d"), false), text);
    assert_eq!(second.settings.labels, first.settings.labels);
    let with_origins = effective(&first, Path::new("/d"), true);
    let third = Trial::of(&with_origins).good();
    assert_eq!(effective(&third, Path::new("/d"), false), text);
}

#[test]
fn a_file_that_cant_be_read_is_named() {
    let mut request = auditmon_config::Request::new("h");
    request.file = Some(PathBuf::from("/nonexistent/a.yaml"));
    let error = auditmon_config::load(&request, &entries()).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/a.yaml: the configuration file can't be read"),
        "{error}"
    );
    let error = Trial::of("").file("auditmon.yaml", "").load();
    assert!(error.is_ok(), "an empty file has all defaults");
    let mut trial = Trial::of("host: a\nlabels: {x: ");
    trial.yaml.push('y');
    let request = auditmon_config::Request {
        file: Some(PathBuf::from("auditmon.yaml")),
        read: std::sync::Arc::new(|_| Ok(b"host: a\nlabels: \xff\n".to_vec())),
        ..auditmon_config::Request::new("h")
    };
    let error = auditmon_config::load(&request, &entries()).unwrap_err().to_string();
    assert_eq!(error, "auditmon.yaml:2:9: configuration: expected UTF-8");
}
