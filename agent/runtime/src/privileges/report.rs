//! The table feature ↔ capability, for `auditmon check`.

use super::identity::{self, Identity};
use super::thread::{self, Held};
use super::{StartError, Wanted};

/// What the agent would run as here, and for each feature that is on whether this process has what it needs: a line
/// each.
///
/// # Errors
/// The user to run as does not exist.
pub fn report(wanted: &Wanted) -> Result<Vec<String>, StartError> {
    let held = Held::now().map_err(|error| StartError::Other(error.to_string()))?;
    lines(wanted, held)
}

fn lines(wanted: &Wanted, held: Held) -> Result<Vec<String>, StartError> {
    let runs = if held.is_ordinary() {
        format!("runs as uid {} without privileges", held.uid)
    } else {
        match identity::resolve(wanted, held)? {
            Identity::Root => "runs as uid 0 without capabilities, confined by Landlock where the kernel has it; \
                               a user `auditmon`, or run_as, would be better"
                .to_owned(),
            other => format!("runs as {other} without capabilities; writes only below its directories (Landlock)"),
        }
    };
    let mut lines = vec![runs];
    for (name, needs) in &wanted.needs {
        for need in &needs.capabilities {
            let state = if held.permitted.contains(thread::bit(need.capability)) {
                "there, kept by the control thread".to_owned()
            } else {
                format!("missing: {}", need.without)
            };
            lines.push(format!("{name}: {}: {}: {state}", need.feature, need.capability));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use auditmon_core::privileged::{Capability, Need, Needs};
    use rustix::thread::CapabilitySet;

    use super::*;

    #[test]
    fn every_feature_is_told_with_what_it_needs() {
        let need = |feature, capability| Need {
            feature,
            capability,
            without: "it fails",
        };
        let needs = Needs {
            capabilities: vec![
                need("flying", Capability::AuditControl),
                need("landing", Capability::NetAdmin),
            ],
            ..Needs::default()
        };
        let wanted = Wanted {
            data_dir: PathBuf::from("/nonexistent"),
            run_as: None,
            needs: vec![("bird", needs)],
        };
        let held = Held {
            uid: 1000,
            permitted: CapabilitySet::AUDIT_CONTROL,
        };
        let lines = lines(&wanted, held).unwrap();
        assert_eq!(
            lines[1..],
            [
                "bird: flying: CAP_AUDIT_CONTROL: there, kept by the control thread",
                "bird: landing: CAP_NET_ADMIN: missing: it fails",
            ]
        );
        let none = Held {
            permitted: CapabilitySet::empty(),
            ..held
        };
        let lines = super::lines(&wanted, none).unwrap();
        assert_eq!(lines[0], "runs as uid 1000 without privileges");
        assert_eq!(lines[1], "bird: flying: CAP_AUDIT_CONTROL: missing: it fails");
    }
}
