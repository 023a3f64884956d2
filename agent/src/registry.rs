//! The plugins, a line each.

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;

/// All plugins of this binary.
pub fn entries() -> Vec<Entry> {
    vec![
        Entry::source::<auditmon_source_ingest::IngestConfig>("ingest", Kind::Application),
        Entry::source::<auditmon_source_kernel::KernelConfig>("kernel", Kind::Kernel),
        Entry::source::<auditmon_source_immudb::ImmudbConfig>("immudb", Kind::Immudb).off_by_default(),
        Entry::sink::<auditmon_sink_store::StoreConfig>("store"),
        Entry::sink::<auditmon_sink_prometheus::PrometheusConfig>("prometheus"),
        Entry::sink::<auditmon_sink_stdout::StdoutConfig>("stdout").off_by_default(),
        Entry::sinks::<auditmon_sink_webhook::WebhookConfig>("webhook"),
        Entry::service::<auditmon_service_web::WebConfig>("web"),
    ]
}

#[cfg(test)]
mod tests {
    use auditmon_core::keys::RESERVED;

    #[test]
    fn names_are_unique_reserved_and_plain() {
        let mut seen = std::collections::HashSet::new();
        for entry in super::entries() {
            assert!(seen.insert(entry.name), "{} stands twice", entry.name);
            assert!(
                RESERVED.contains(&entry.name),
                "{} could be the name of an API key",
                entry.name
            );
            assert!(
                !auditmon_config::OWN_ROUTES.contains(&entry.name),
                "{}: listeners would serve the agent's own routes by this name",
                entry.name
            );
            assert!(entry.name.bytes().all(|b| b.is_ascii_lowercase()), "{}", entry.name);
        }
    }
}
