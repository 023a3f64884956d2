//! The plugins that only tests need, a line each.

use auditmon_core::event::Kind;
use auditmon_core::plugin::Entry;

/// All plugins of this binary.
pub fn entries() -> Vec<Entry> {
    let mut entries = auditmon::entries();
    entries.extend([
        Entry::source::<auditmon_demo::DemoSourceConfig>("demosource", Kind::Application).off_by_default(),
        Entry::sink::<auditmon_demo::DemoSinkConfig>("demosink").off_by_default(),
        Entry::sinks::<auditmon_demo::DemoSinkConfig>("demosinks"),
    ]);
    entries
}
