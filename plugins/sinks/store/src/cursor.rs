//! Where a page ended: opaque to those who carry it, a key of the table to us.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;

/// By what pages are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// By seq: all events are of one origin.
    Place,
    /// By received time, then origin and seq.
    Received,
}

/// The last event of a page. It stays good while rows come and go, and when a second origin appears: the
/// order that paging began with is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) order: Order,
    pub(crate) ascending: bool,
    pub(crate) received: i64,
    pub(crate) place: i64,
}

impl Cursor {
    pub(crate) fn encode(self) -> String {
        let mut bytes = [0_u8; 18];
        bytes[0] = VERSION;
        bytes[1] = u8::from(self.ascending) | u8::from(self.order == Order::Received) << 1;
        bytes[2..10].copy_from_slice(&self.received.to_be_bytes());
        bytes[10..].copy_from_slice(&self.place.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` if it is not one of ours, or of the other direction.
    pub(crate) fn decode(text: &str, ascending: bool) -> Option<Self> {
        if text.len() != 24 {
            return None;
        }
        let bytes: [u8; 18] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let [version, flags, rest @ ..] = bytes;
        let received = i64::from_be_bytes(rest[..8].try_into().ok()?);
        let place = i64::from_be_bytes(rest[8..].try_into().ok()?);
        if version != VERSION || flags > 3 || received < 0 || place < 0 || (flags & 1 == 1) != ascending {
            return None;
        }
        let order = if flags & 2 == 0 { Order::Place } else { Order::Received };
        Some(Self {
            order,
            ascending,
            received,
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for order in [Order::Place, Order::Received] {
            for ascending in [false, true] {
                let cursor = Cursor {
                    order,
                    ascending,
                    received: 1_767_225_600_000_000_001,
                    place: 1 << 48 | 7,
                };
                assert_eq!(Cursor::decode(&cursor.encode(), ascending), Some(cursor));
                assert_eq!(Cursor::decode(&cursor.encode(), !ascending), None);
            }
        }
        for bad in [
            "",
            "x",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "!!!!!!!!!!!!!!!!!!!!!!!!",
            "____________________////",
        ] {
            assert_eq!(Cursor::decode(bad, false), None, "{bad}");
        }
    }
}
