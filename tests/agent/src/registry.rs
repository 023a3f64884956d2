//! The plugins that only tests need, a line each.

use auditmon_core::plugin::Entry;

/// All plugins of this binary.
pub fn entries() -> Vec<Entry> {
    let mut entries = auditmon::entries();
    entries.extend([
        // Those of tests.
    ]);
    entries
}
