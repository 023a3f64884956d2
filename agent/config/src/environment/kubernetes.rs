//! Variables that Kubernetes puts into every container for each Service of the namespace. For one called `auditmon`, or
//! `auditmon-…`, they begin as ours do.
//!
//! Shapes: Kubernetes documentation, "Accessing the Service" (environment variables), which keeps those of Docker links.

use super::PREFIX;

/// Whether a variable is of these shapes. A known name of ours is taken for ours unless its value gives it away.
pub(super) fn injected(name: &str, value: &str, known: bool) -> bool {
    let word = &name[PREFIX.len() - 1..];
    let is_link = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    if is_link && (word.ends_with("_PORT") || is_docker_port(word)) {
        return true;
    }
    if known {
        return false;
    }
    word.ends_with("_SERVICE_HOST")
        || word.ends_with("_SERVICE_PORT")
        || word.contains("_SERVICE_PORT_")
        || is_docker_port(word)
}

/// `…_PORT_7984_TCP`, perhaps with `_PROTO`, `_PORT` or `_ADDR`.
fn is_docker_port(word: &str) -> bool {
    let Some((_, rest)) = word.split_once("_PORT_") else {
        return false;
    };
    let mut parts = rest.split('_');
    let number = parts.next().is_some_and(|n| n.parse::<u16>().is_ok());
    let protocol = parts.next().is_some_and(|p| matches!(p, "TCP" | "UDP" | "SCTP"));
    let last = parts.next().is_none_or(|p| matches!(p, "PROTO" | "PORT" | "ADDR"));
    number && protocol && last && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::injected;

    #[test]
    fn what_kubernetes_injects_is_told_from_ours() {
        for (name, value) in [
            ("AUDITMON_SERVICE_HOST", "10.0.0.7"),
            ("AUDITMON_SERVICE_PORT", "7984"),
            ("AUDITMON_SERVICE_PORT_HTTP", "7984"),
            ("AUDITMON_PORT", "tcp://10.0.0.7:7984"),
            ("AUDITMON_PORT_7984_TCP", "tcp://10.0.0.7:7984"),
            ("AUDITMON_PORT_7984_TCP_PROTO", "tcp"),
            ("AUDITMON_PORT_7984_TCP_PORT", "7984"),
            ("AUDITMON_PORT_7984_TCP_ADDR", "10.0.0.7"),
            ("AUDITMON_WEB_SERVICE_HOST", "10.0.0.7"),
            ("AUDITMON_WEB_PORT_80_TCP_ADDR", "10.0.0.7"),
        ] {
            assert!(injected(name, value, false), "{name}");
        }
        // A Service `auditmon-server` and a key of the Go service have one name; the value tells.
        assert!(injected("AUDITMON_SERVER_PORT", "tcp://10.0.0.7:80", true));
        assert!(!injected("AUDITMON_SERVER_PORT", "8080", true));
        for name in [
            "AUDITMON_HTTP_LISTEN",
            "AUDITMON_PORT",
            "AUDITMON_PORT_HTTP",
            "AUDITMON_SERVICES",
        ] {
            assert!(!injected(name, "x", false), "{name}");
        }
    }
}
