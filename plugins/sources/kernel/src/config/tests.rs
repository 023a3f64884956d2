use super::*;

fn faults(config: &KernelConfig) -> Vec<auditmon_core::plugin::Fault> {
    let mut faults = Faults::default();
    config.check(&mut faults);
    faults.into_vec()
}

/// The control thread of an agent with this configuration.
fn control(config: &KernelConfig) -> Control {
    Control::of_caller(auditmon_core::privileged::files_of(config)).unwrap()
}

fn config(json: serde_json::Value) -> KernelConfig {
    serde_json::from_value(json).unwrap()
}

#[test]
fn without_configuration_programs_that_start() {
    let config = KernelConfig::default();
    assert_eq!(faults(&config), []);
    assert_eq!(config.on_stop(), OnStop::Restore);
    let wanted = config.wanted(&control(&config)).unwrap();
    assert_eq!(wanted.rules[0].to_string(), DEMO[0]);
    assert_eq!(wanted.settings, [(SettingKind::Enabled, 1)]);
    assert!(wanted.warnings.is_empty());
}

#[test]
fn an_empty_section_means_no_rules() {
    let config = config(serde_json::json!({"rules": {"on_stop": "keep"}, "backlog_limit": 1000}));
    let wanted = config.wanted(&control(&config)).unwrap();
    assert!(wanted.rules.is_empty());
    assert_eq!(config.on_stop(), OnStop::Keep);
    assert!(wanted.settings.contains(&(SettingKind::BacklogLimit, 1000)));
}

#[test]
fn faults_name_their_place() {
    let bad = |json, path: &str| {
        let faults = faults(&config(json));
        assert!(faults.len() == 1 && faults[0].path == path, "{faults:?}");
    };
    bad(serde_json::json!({"receive_buffer": "1KiB"}), "receive_buffer");
    bad(serde_json::json!({"buffer": "2GiB"}), "buffer");
    bad(serde_json::json!({"rules": {"list": ["-D", "-e 2"]}}), "rules.list[1]");
    bad(serde_json::json!({"rules": {"list": ["-D\n-D"]}}), "rules.list[0]");
    for json in [
        serde_json::json!({"rules": {"policy": "exclusive"}}),
        serde_json::json!({"reciv_buffer": 1}),
    ] {
        assert!(serde_json::from_value::<KernelConfig>(json).is_err());
    }
}

#[test]
fn rules_files_are_read_with_care() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.rules");
    std::fs::write(&path, "# mine\n-w /etc/shadow -p wa -k shadow\n-e 0\n").unwrap();
    let config = config(serde_json::json!({
        "rules": {"files": [&path, dir.path().join("missing")], "list": ["-z"]}
    }));
    let faults = config.wanted(&control(&config)).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    let only = |path: &Path| {
        let rules = RulesConfig {
            files: vec![path.to_owned()],
            ..RulesConfig::default()
        };
        let config = KernelConfig {
            rules: Some(rules),
            ..KernelConfig::default()
        };
        config.wanted(&control(&config))
    };
    let wanted = only(&path).unwrap();
    assert_eq!(wanted.settings, [(SettingKind::Enabled, 0)]);
    assert_eq!(wanted.rules.len(), 1);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).unwrap();
    assert!(only(&path).unwrap_err()[0].contains("everybody"));
    assert!(only(dir.path()).unwrap_err()[0].contains("regular"));
}
