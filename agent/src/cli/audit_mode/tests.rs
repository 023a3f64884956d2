use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser as _;

use super::service::Verb as ServiceVerb;
use super::{AuditModeArgs, Given, Program, Settings, Word, context, imported, translated, word};
use crate::cli::{Cli, Failure, Verb};

/// The options of a command line.
fn args(line: &[&str]) -> AuditModeArgs {
    let words = ["auditmon", "audit-mode"].into_iter().chain(line.iter().copied());
    match Cli::try_parse_from(words) {
        Ok(Cli {
            verb: Some(Verb::AuditMode(args)),
            ..
        }) => *args,
        Ok(_) => panic!("{line:?}"),
        Err(error) => panic!("{line:?}: {error}"),
    }
}

fn made(line: &[&str], variables: &[(&str, &str)], file: Option<&Path>) -> (Given, Settings) {
    let args = args(line);
    let environment: Vec<(OsString, OsString)> = variables.iter().map(|(k, v)| (k.into(), v.into())).collect();
    let Ok(Word::Audit(interval)) = word(args.word.as_deref()) else {
        panic!("{line:?}")
    };
    translated(&args, interval.as_deref(), &environment, file.map(Path::to_owned))
}

fn yaml(line: &[&str], variables: &[(&str, &str)]) -> String {
    let (given, settings) = made(line, variables, None);
    assert_eq!(given.faults, [""; 0], "{line:?}");
    settings.yaml()
}

fn faults(line: &[&str]) -> Vec<String> {
    made(line, &[], None).0.faults
}

/// Whether these lines stand in a configuration, one below the other.
#[track_caller]
fn has(yaml: &str, lines: &str) {
    assert!(yaml.contains(lines), "{lines}\nis not in\n{yaml}");
}

#[test]
fn the_manuals_container_is_audited_with() {
    let variables = [
        ("IMMUCLIENT_IMMUDB_ADDRESS", "127.0.0.1"),
        ("IMMUCLIENT_IMMUDB_PORT", "3322"),
        ("IMMUCLIENT_AUTH", "true"),
        ("IMMUCLIENT_MTLS", "false"),
        ("IMMUCLIENT_AUDIT_USERNAME", "auditor"),
        ("IMMUCLIENT_AUDIT_PASSWORD", "enc:QXVkaXRvcjEyMyE="),
    ];
    let (given, settings) = made(&[], &variables, None);
    assert_eq!(given.faults, [""; 0]);
    assert_eq!(given.warnings.len(), 1, "{:?}", given.warnings);
    assert!(given.warnings[0].starts_with("environment IMMUCLIENT_AUTH: has no use here"));
    let yaml = settings.yaml();
    has(&yaml, "    interval: \"60s\"\n");
    has(
        &yaml,
        "      - address: \"127.0.0.1:3322\"\n        username: \"auditor\"\n        password: \"enc:QXVkaXRvcjEyMyE=\"\n",
    );
    assert!(!settings.shown().contains("QXVkaXRvcjEyMyE"));
}

#[test]
fn what_it_comes_to_is_loaded_as_any_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    for line in [
        &[][..],
        &["1m0s", "-a", "db1", "-p", "3323", "--dir", &state],
        &["--immugw", "-k", "::1", "-j=1", "--audit-interval=10s"],
        &[
            "--audit-notification-url=http://siem.example.com/hook?a=1",
            "--audit-notification-username=u",
            "--audit-notification-password=p",
        ],
        &[
            "--audit-username=a",
            "--audit-password=-x",
            "--audit-databases=a, b,",
            "--max-recv-msg-size=4194304",
        ],
    ] {
        let (given, settings) = made(line, &[("LOG_LEVEL", "DEBUG")], None);
        assert_eq!(given.faults, [""; 0], "{line:?}");
        let data = Some(PathBuf::from("/d"));
        let loaded = context(&settings, Vec::new(), data, crate::entries).unwrap_or_else(|failure| {
            panic!("{line:?}: {}\n{}", failure.message, settings.yaml());
        });
        let on = |name: &str| loaded.loaded.plugin(name).is_some_and(|plugin| plugin.enabled);
        assert!(on("immudb") && on("store") && !on("kernel") && !on("ingest"));
    }
}

#[test]
fn each_key_becomes_one_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, "x").unwrap();
        path.display().to_string()
    };
    let (ca, cert, key, signing, password) = (file("ca"), file("cert"), file("key"), file("signing"), file("pw"));
    for (line, wanted) in [
        (&["2h"][..], "    interval: \"7200s\"\n".to_owned()),
        (&["--audit-interval", "1m30.9s"], "    interval: \"90s\"\n".to_owned()),
        (&["--immugw"], "    interval: \"300s\"\n".to_owned()),
        (
            &["-a", "DB1.example.com"],
            "- address: \"DB1.example.com:3322\"\n".to_owned(),
        ),
        (&["-p", "0"], "- address: \"127.0.0.1:3322\"\n".to_owned()),
        (&["-p=-1"], "- address: \"127.0.0.1:3322\"\n".to_owned()),
        (
            &["--immudb-address=[::1]", "--immudb-port=9"],
            "- address: \"[::1]:9\"\n".to_owned(),
        ),
        (
            &["--dir", "/var/lib/immuclient"],
            "data_dir: \"/var/lib/immuclient/auditmon\"\n".to_owned(),
        ),
        (&["--roots-filepath=/r"], "data_dir: \"/r/auditmon\"\n".to_owned()),
        (
            &["--max-recv-msg-size=4194304"],
            "    max_message: 4194304\n".to_owned(),
        ),
        (&["--audit-verify-values=false"], "    value_calls: 0\n".to_owned()),
        (
            &["--audit-databases", " a ,,b"],
            "        prefixes: [\"a\", \"b\"]\n".to_owned(),
        ),
        (
            &["--server-signing-pub-key", &signing],
            format!("        signing_keys: [\"{signing}\"]\n"),
        ),
        (
            &["--immugw", "--audit-password", "x"],
            "        username: \"immugwauditor\"\n        password: \"x\"\n".to_owned(),
        ),
        (
            &["--audit-username", "a", "--audit-password-file", &password],
            format!("        username: \"a\"\n        password_file: \"{password}\"\n"),
        ),
        (
            &[
                "-m",
                "--clientcas",
                &ca,
                "--certificate",
                &cert,
                "--pkey",
                &key,
                "--servername",
                "s",
            ],
            format!(
                "        tls:\n          server_name: \"s\"\n          ca_file: \"{ca}\"\n          cert_file: \
                 \"{cert}\"\n          key_file: \"{key}\"\n"
            ),
        ),
        (
            &["1m0s"],
            "http:\n  listen: \"127.0.0.1:0\"\n  listeners:\n    immuclient:\n      listen: \"0.0.0.0:9477\"\n      \
             insecure: true\n"
                .to_owned(),
        ),
        (
            &["--immugw"],
            "    immugw:\n      listen: \"0.0.0.0:9476\"\n      insecure: true\n".to_owned(),
        ),
        (
            &[
                "--audit-monitoring-host",
                "localhost",
                "--audit-monitoring-port",
                "9999",
            ],
            "    immuclient:\n      listen: \"127.0.0.1:9999\"\nsources:\n".to_owned(),
        ),
        (&["--prometheus-host=::1"], "      listen: \"[::1]:9477\"\n".to_owned()),
        (
            &["1m0s"],
            "    compat:\n      program: \"immuclient\"\n      log: true\n      monitoring: \"0.0.0.0:9477\"\n"
                .to_owned(),
        ),
        (
            &["--immugw", "--logfile", "/var/log/x/immugw.log"],
            "      program: \"immugw\"\n      log_file: \"/var/log/x/immugw.log\"\n".to_owned(),
        ),
        (
            &["--mtls=true"],
            "        tls:\n          server_name: \"localhost\"\n".to_owned(),
        ),
    ] {
        has(&yaml(line, &[]), &wanted);
    }
    let notified = yaml(
        &[
            "--audit-notification-url=https://h/in",
            "--audit-notification-password=p",
        ],
        &[],
    );
    has(&notified, "    every: true\n");
    has(
        &notified,
        "sinks:\n  webhook:\n    notification:\n      url: \"https://h/in\"\n      format: \"immuclient\"\n      body: \
         \"event\"\n      request_timeout: \"5s\"\n      credentials:\n        password: \"p\"\n",
    );
    let on_change = [
        "--audit-notification-url=https://h/in",
        "--audit-notification-on-change",
    ];
    assert!(!yaml(&on_change, &[]).contains("every"));
    assert!(!yaml(&["--mtls=false"], &[]).contains("tls"));
    assert!(!yaml(&["--audit-databases", " , "], &[]).contains("prefixes"));
    // The word counts before the flag.
    has(&yaml(&["5s", "--audit-interval", "9s"], &[]), "interval: \"5s\"");
    has(&yaml(&[], &[("audit-agent-interval", "10s")]), "interval: \"10s\"");
    has(&yaml(&[], &[("LOG_LEVEL", "warn")]), "logging:\n  level: \"warn\"\n");
}

#[test]
fn faults_name_the_flag_and_what_would_be_right() {
    for (line, says) in [
        (
            &["500ms"][..],
            "INTERVAL: expected a duration of at least 1s such as 1m0s, found `500ms`",
        ),
        (&["--audit-interval", "x"], "--audit-interval: expected a duration"),
        (&["-p", "65536"], "-p: expected a number from 1 to 65535"),
        (
            &["--immudb-port", "x"],
            "--immudb-port: expected a number from 1 to 65535, found `x`",
        ),
        (&["-a", "db1:3322"], "-a: expected a host's name or address alone"),
        (
            &["-a", "a b"],
            "-a: expected a host's name or address alone, found `a b`",
        ),
        (&["--mtls=perhaps"], "--mtls: expected true or false"),
        (
            &["--audit-monitoring-host", "db1"],
            "--audit-monitoring-host: expected an address such as 0.0.0.0",
        ),
        (
            &["--audit-monitoring-port", "0"],
            "--audit-monitoring-port: expected a number from 1 to 65535",
        ),
        (
            &["--max-recv-msg-size", "1"],
            "--max-recv-msg-size: expected a number from 1048576",
        ),
        (
            &["--audit-username", "a"],
            "--audit-username: expected --audit-password or",
        ),
        (
            &["--audit-password", "T0P5ECRET"],
            "--audit-password: expected --audit-username",
        ),
        (
            &[
                "--audit-username=a",
                "--audit-password=T0P5ECRET",
                "--audit-password-file=/x",
            ],
            "--audit-password-file: expected it alone",
        ),
        (
            &["--server-signing-pub-key", "/no/such"],
            "--server-signing-pub-key: expected the public key",
        ),
        (
            &["-m", "--certificate", "/"],
            "--certificate: expected our certificate, in PEM form, found a directory",
        ),
    ] {
        let found = faults(line);
        assert!(found.iter().any(|fault| fault.contains(says)), "{line:?}: {found:?}");
        assert!(!found.join("").contains("T0P5ECRET"), "{found:?}");
    }
}

#[test]
fn passwords_on_the_command_line_are_warned_of() {
    for flag in ["--audit-password", "--audit-notification-password"] {
        let line = [
            "--audit-username=a",
            "--audit-notification-url=https://h/in",
            flag,
            "T0P5ECRET",
        ];
        let with_a_login = [concat!(
            "--audit-password-file=",
            env!("CARGO_MANIFEST_DIR"),
            "/Cargo.toml"
        )];
        let more: &[&str] = if flag == "--audit-password" { &[] } else { &with_a_login };
        let warnings = made(&[&line[..], more].concat(), &[], None).0.warnings;
        let says =
            format!("{flag}: everybody on this host can read it in the list of processes; {flag}-file keeps it secret");
        assert_eq!(warnings, [says]);
    }
    let variables = [("IMMUCLIENT_AUDIT_NOTIFICATION_PASSWORD", "T0P5ECRET")];
    assert_eq!(
        made(&["--audit-notification-url=https://h/in"], &variables, None)
            .0
            .warnings,
        [""; 0]
    );
}

/// The service goes on where this command looked, and is not told what only this command sees.
#[test]
fn what_a_service_does_not_take_over_is_told() {
    let variables = [
        ("IMMUCLIENT_PIDFILE", "/run/immuclient.pid"),
        ("AUDITMON_DATA_DIR", "/srv/auditmon"),
        ("AUDITMON_LOGGING_LEVEL", "T0P5ECRET"),
        ("HOME", "/root"),
    ];
    let (given, _) = made(&[], &variables, None);
    let environment: Vec<(OsString, OsString)> = variables.iter().map(|(k, v)| (k.into(), v.into())).collect();
    assert_eq!(
        super::service::left_out(&given, &environment),
        [
            "environment IMMUCLIENT_PIDFILE: is not taken over: systemd knows the service's process, and no file is written",
            "environment AUDITMON_LOGGING_LEVEL: is not taken over: the service has its configuration and variables of its own",
        ]
    );
}

#[test]
fn other_words_are_refused_as_upstream_does() {
    for text in ["begin", "-", "1"] {
        let Err(Failure { code, message }) = word(Some(text)) else {
            panic!("{text}")
        };
        let says = format!("ERROR: {text} is not matching with any valid arguments.");
        assert!(code == 1 && message.starts_with(&says), "{message}");
    }
}

#[test]
fn a_state_directory_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = include_str!("../../../../tests/fixtures/immuclient/p14-state-dir-1.11.1.json");
    let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
    let file = &recorded["directories"][1]["files"][0];
    let path = dir.path().join(file["path"].as_str().unwrap());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, file["content_text"].as_str().unwrap()).unwrap();
    // Whatever this process' umask is.
    let (server, auditor) = (path.parent().unwrap(), dir.path().join("auditor"));
    for (path, mode) in [(path.as_path(), 0o644), (server, 0o755), (auditor.as_path(), 0o755)] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let place = dir.path().display().to_string();
    for (line, variables) in [
        (vec![], vec![("TMPDIR", place.as_str())]),
        (vec!["--dir", place.as_str()], vec![]),
        (vec!["--immugw", "--dir", place.as_str()], vec![]),
    ] {
        let (given, settings) = made(&line, &variables, None);
        assert_eq!((given.faults.len(), given.warnings.len()), (0, 0), "{given:?}");
        let yaml = settings.yaml();
        has(
            &yaml,
            "        known:\n          - database: \"defaultdb\"\n            tx: 9\n            hash: \"3f7bfea2",
        );
        assert_eq!(yaml.matches("server_id: \"dc0clu1ksduflchqfku0\"").count(), 3);
        if let Err(failure) = context(&settings, Vec::new(), Some("/d".into()), crate::entries) {
            panic!("{}", failure.message);
        }
    }
}

#[test]
fn words_name_what_to_do_with_the_service() {
    for (text, verb) in [
        ("install", ServiceVerb::Install),
        ("uninstall", ServiceVerb::Uninstall),
        ("start", ServiceVerb::Start),
        ("stop", ServiceVerb::Stop),
        ("restart", ServiceVerb::Restart),
        ("status", ServiceVerb::Status),
    ] {
        assert!(
            matches!(word(Some(text)), Ok(Word::Service(found)) if found == verb),
            "{text}"
        );
    }
    assert!(matches!(word(Some("help")), Ok(Word::Help)));
}

/// As the installers of both wrote them.
#[test]
fn both_files_become_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let immuclient = include_str!("../../../../tests/fixtures/immuclient/immuclient.toml");
    let immugw = "dir = \"/var/lib/immudb\"\nimmudb-address = \"db1\"\naudit = true\naudit-interval = \"10m\"\n\
                  audit-username = \"immugwauditor\"\naudit-password = \"enc:eA==\"\n";
    for (program, text, wanted) in [
        (
            Program::Immuclient,
            immuclient,
            [
                "data_dir: \"/var/lib/immuclient/auditmon\"\n",
                "log_file: \"/var/log/immuclient/immuclient.log\"\n",
                "password: \"immudb\"\n",
            ],
        ),
        (
            Program::Immugw,
            immugw,
            [
                "interval: \"600s\"\n",
                "- address: \"db1:3322\"\n",
                "password: \"enc:eA==\"\n",
            ],
        ),
    ] {
        let file = dir.path().join(format!("{}.toml", program.name()));
        std::fs::write(&file, text).unwrap();
        let Ok(settings) = imported(program, file, None) else {
            panic!("{text}")
        };
        for line in wanted {
            has(&settings.yaml(), line);
        }
    }
    let file = dir.path().join("immuclient.toml");
    std::fs::write(&file, "immudb-port = \"x\"\n").unwrap();
    let Err(failure) = imported(Program::Immuclient, file, None) else {
        panic!("taken")
    };
    assert!(
        failure
            .message
            .contains("immuclient.toml:1: immudb-port: expected a number"),
        "{}",
        failure.message
    );
}
