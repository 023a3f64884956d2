//! The event that is sent: 410 bytes of JSON, as an application would send it.

/// Bytes of an event.
pub const LENGTH: usize = 410;

/// An event with this name, padded to [`LENGTH`].
pub fn event(name: &str) -> String {
    let head = format!(
        "{{\"event_time\":\"2026-01-02T03:04:05.678Z\",\"event_name\":\"{name}\",\"username\":\"alice@example.com\",\
         \"resource\":\"accounts/4711\",\"source_ip_address\":\"192.0.2.17\",\"request_id\":\"0b0c9a3e-5d27-4f3c-9a56-0e3d\",\
         \"read_only\":false,\"event_data\":{{\"method\":\"PUT\",\"path\":\"/api/accounts/4711\",\"status\":200,\"agent\":\""
    );
    let tail = "\"}}";
    let pad = LENGTH.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(pad))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_event_has_its_length_and_is_json() {
        let event = super::event("bench.something");
        assert_eq!(event.len(), super::LENGTH);
        serde_json::from_str::<serde_json::Value>(&event).expect("JSON");
    }
}
