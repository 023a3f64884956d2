//! Which events must arrive in the order of the journal.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use auditmon_core::event::EventView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The member whose equal values stay in order.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All events are in order: one request at a time, whatever `workers` says.
    Journal,
    /// What one user did is in order.
    #[default]
    Username,
    /// What was done to one resource is in order.
    Resource,
    /// What one application (API key or plugin) handed in is in order.
    EventSource,
    /// What belongs to one request of an application is in order.
    RequestId,
    /// What came from one address is in order.
    SourceIpAddress,
    /// What one host told is in order.
    Host,
    /// Events of one kind are in order.
    Kind,
}

impl Order {
    /// A number that is the same for events that must stay in order; with [`Order::Journal`] for all.
    pub(crate) fn key(self, canonical: &[u8]) -> u64 {
        if self == Self::Journal {
            return 0;
        }
        // Bytes of an intact journal always parse; others stay in order among themselves.
        let Ok(event) = EventView::parse(canonical) else {
            return 0;
        };
        let value = match self {
            Self::Journal => None,
            Self::Username => Some(event.username),
            Self::Resource => event.resource,
            Self::EventSource => Some(event.event_source),
            Self::RequestId => event.request_id,
            Self::SourceIpAddress => Some(event.source_ip_address),
            Self::Host => Some(event.host),
            Self::Kind => Some(event.kind),
        };
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"019b76da-a800-7000-8000-000000000001","event_time":"2026-01-01T00:00:00.000Z","event_name":"n","username":"u","resource":"r","event_source":"s","source_ip_address":"192.0.2.1","request_id":"q","read_only":false,"kind":"application","host":"h","outcome":"unknown","severity":"info","event_data":null}"#;

    #[test]
    fn equal_values_and_no_others_have_the_same_key() {
        for (order, member, other) in [
            (Order::Username, r#""username":"u""#, r#""username":"v""#),
            (Order::Resource, r#""resource":"r""#, r#""resource":null"#),
            (Order::EventSource, r#""event_source":"s""#, r#""event_source":"t""#),
            (Order::RequestId, r#""request_id":"q""#, r#""request_id":null"#),
            (Order::SourceIpAddress, "192.0.2.1", "192.0.2.2"),
            (Order::Host, r#""host":"h""#, r#""host":"i""#),
            (Order::Kind, "application", "kernel"),
        ] {
            let changed = EVENT.replace(member, other);
            assert_ne!(changed, EVENT);
            assert_ne!(order.key(EVENT.as_bytes()), order.key(changed.as_bytes()), "{order:?}");
            let named = EVENT.replace(r#""event_name":"n""#, r#""event_name":"m""#);
            assert_eq!(order.key(EVENT.as_bytes()), order.key(named.as_bytes()), "{order:?}");
            assert_eq!(
                Order::Journal.key(EVENT.as_bytes()),
                Order::Journal.key(changed.as_bytes())
            );
        }
    }
}
