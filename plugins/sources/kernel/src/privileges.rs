//! What this source needs privilege for: the one table that the README, the manual, `auditmon check`, units and
//! manifests follow.

use auditmon_core::privileged::{Capability, Need};

/// Feature ↔ capability.
pub const NEEDS: [Need; 4] = [
    Need {
        feature: "status, rules, settings, registration, in the host's PID and user namespace",
        capability: Capability::AuditControl,
        without: "the source fails and says so",
    },
    Need {
        feature: "heartbeats: self test, early notice of a gap at the end",
        capability: Capability::AuditWrite,
        without: "a gap at the end is noticed late; one warning",
    },
    Need {
        feature: "a receive buffer beyond `net.core.rmem_max`",
        capability: Capability::NetAdmin,
        without: "the buffer ends there; one warning",
    },
    Need {
        feature: "rules on paths, and rules files, that only root may reach",
        capability: Capability::DacReadSearch,
        without: "those rules and files are refused",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines `| feature | CAP_… | without |` of a page.
    fn table(page: &str) -> Vec<[&str; 3]> {
        let rows = page.lines().filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            match cells[..] {
                ["", feature, capability, without, ""] => Some([feature, capability, without]),
                _ => None,
            }
        });
        rows.filter(|[_, capability, _]| capability.starts_with("CAP_"))
            .collect()
    }

    #[test]
    fn readme_and_manual_have_the_same_table() {
        let code: Vec<_> = NEEDS
            .iter()
            .map(|need| [need.feature, need.capability.name(), need.without])
            .collect();
        assert_eq!(table(include_str!("../README.md")), code);
        assert_eq!(table(include_str!("../../../../docs/kernel.md")), code);
    }

    #[test]
    fn the_unit_in_the_manual_gives_what_is_needed() {
        let names: Vec<_> = NEEDS.iter().map(|need| need.capability.name()).collect();
        let page = include_str!("../../../../docs/privileges.md");
        for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
            let line = format!("{key}={}", names.join(" "));
            assert!(page.lines().any(|on_page| on_page.trim() == line), "{line}");
        }
    }
}
