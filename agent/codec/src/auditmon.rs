//! Auditmon JSON: the canonical bytes with origin, seq and received time at the end, as `GET /api/v1/events` shows it.

use auditmon_core::event::write_output;

use crate::Item;

/// Appends the event.
pub(crate) fn write(item: &Item<'_>, out: &mut Vec<u8>) {
    write_output(item.canonical, item.origin, item.seq, item.received, out);
}
