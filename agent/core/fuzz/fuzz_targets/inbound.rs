//! Any text: refused with reasons, or an event whose canonical bytes read back.
#![no_main]

use auditmon_core::batch::push_agent_event;
use auditmon_core::event::EventView;
use auditmon_core::inbound::Inbound;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = 1_767_225_600_000_000_000;
    match Inbound::parse(text, "fuzz", now) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok(event) => {
            let mut records = Default::default();
            if push_agent_event(&mut records, "host", event.draft(now)).is_err() {
                return;
            }
            let (record, _) = auditmon_core::journal::parse_record(records.as_bytes()).expect("a record");
            EventView::parse(record.payload().expect("a payload")).expect("canonical bytes");
        }
    }
});
