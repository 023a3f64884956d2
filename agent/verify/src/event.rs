//! Canonical bytes of an event, and what they say against the clear half of the leaf.

use std::borrow::Cow;

use auditmon_journal::format::{Kind, Prefix, source_hash};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// How canonical bytes begin.
const BEGIN: &[u8] = b"{\"event_id\":\"";

/// The members that the prefix repeats. All others must be there, each once and no further one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "members that only have to be there")]
struct Head<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    event_time: IgnoredAny,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    username: IgnoredAny,
    resource: IgnoredAny,
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    source_ip_address: IgnoredAny,
    request_id: IgnoredAny,
    read_only: IgnoredAny,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    host: IgnoredAny,
    outcome: IgnoredAny,
    severity: IgnoredAny,
    event_data: IgnoredAny,
}

/// All members of an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Members<'a> {
    #[serde(borrow)]
    pub(crate) event_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) event_time: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) event_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) username: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) event_source: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) source_ip_address: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) request_id: Option<Cow<'a, str>>,
    pub(crate) read_only: bool,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) host: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) severity: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) event_data: &'a RawValue,
}

/// Reads all members; `None` if it is no event in canonical form.
pub(crate) fn members(canonical: &[u8]) -> Option<Members<'_>> {
    if !canonical.starts_with(BEGIN) {
        return None;
    }
    serde_json::from_slice(canonical).ok()
}

/// The word of a kind; `None` for states, which are no events.
pub(crate) fn kind_word(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Application => "application",
        Kind::Kernel => "kernel",
        Kind::Immudb => "immudb",
        Kind::Agent => "agent",
        Kind::State => return None,
    })
}

/// The kind of a word.
pub(crate) fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "application" => Kind::Application,
        "kernel" => Kind::Kernel,
        "immudb" => Kind::Immudb,
        "agent" => Kind::Agent,
        _ => return None,
    })
}

/// A UUID as canonical bytes have it.
pub fn uuid_text(id: &[u8; 16]) -> String {
    let hex = hex::encode(id);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

/// Reads a UUID in that form, upper case too.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let lower = text.to_ascii_lowercase();
    let id: [u8; 16] = hex::decode(lower.replace('-', "")).ok()?.try_into().ok()?;
    (uuid_text(&id) == lower).then_some(id)
}

/// Whether a UUID's text is this id; makes no text of its own, for it is asked for every record.
fn is_uuid(text: &str, id: &[u8; 16]) -> bool {
    let mut nibbles = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => nibbles
                .next()
                .is_some_and(|nibble| b"0123456789abcdef"[usize::from(nibble)] == byte),
        })
}

/// Whether the id is a UUIDv7 of the time it was received.
pub(crate) fn id_has_time(id: &[u8; 16], received_ns: u64) -> bool {
    let [a, b, c, d, e, f, ..] = *id;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]) == received_ns / 1_000_000
}

/// What a payload and its prefix contradict each other in; `None` if they agree.
pub(crate) fn disagrees(prefix: &Prefix, canonical: &[u8]) -> Option<&'static str> {
    let head: Head<'_> = match serde_json::from_slice(canonical) {
        Ok(head) if canonical.starts_with(BEGIN) => head,
        _ => return Some("the payload is no event in canonical form"),
    };
    if !is_uuid(&head.event_id, &prefix.event_id) {
        return Some("the id in the payload is not that of the record");
    }
    if !id_has_time(&prefix.event_id, prefix.received_ns) {
        return Some("the id's time is not that of receipt");
    }
    if kind_word(prefix.kind) != Some(&*head.kind) {
        return Some("the kind in the payload is not that of the record");
    }
    if source_hash(&head.event_source) != prefix.source {
        return Some("the source in the payload is not that of the record");
    }
    None
}

/// What the journal says about what is missing in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Declaration {
    /// Payloads of these records were removed by retention.
    Expired(u64, u64),
    /// Payloads of these records were erased.
    Erased(Vec<(u64, u64)>),
    /// The store will never get these records of this generation.
    Gap(Vec<(u64, u64)>),
}

#[derive(Deserialize)]
struct Data {
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    seq: Option<u64>,
    #[serde(default)]
    seqs: Vec<u64>,
    #[serde(default)]
    ranges: Vec<(u64, u64)>,
    sink: Option<String>,
    former_origin: Option<String>,
}

/// What an event of the agent's own declares, if it does.
pub(crate) fn declares(prefix: &Prefix, canonical: &[u8]) -> Option<Declaration> {
    if prefix.kind != Kind::Agent || prefix.source != source_hash("agent") {
        return None;
    }
    let members = members(canonical)?;
    let data = || serde_json::from_str::<Data>(members.event_data.get()).ok();
    match &*members.event_name {
        "journal.retention" => {
            let data = data()?;
            Some(Declaration::Expired(data.first_seq?, data.last_seq?))
        }
        "journal.erasure" => {
            let data = data()?;
            let range = data.first_seq.zip(data.last_seq);
            let single = data.seq.into_iter().chain(data.seqs).map(|seq| (seq, seq));
            Some(Declaration::Erased(single.chain(data.ranges).chain(range).collect()))
        }
        "sink.gap" => {
            let data = data()?;
            let own = data.sink.as_deref() == Some("store") && data.former_origin.is_none();
            own.then_some(Declaration::Gap(data.ranges))
        }
        _ => None,
    }
}

/// Whether an event of the agent's own says that it started.
pub(crate) fn is_start(prefix: &Prefix, canonical: &[u8]) -> bool {
    prefix.kind == Kind::Agent
        && prefix.source == source_hash("agent")
        && members(canonical).is_some_and(|members| members.event_name == "agent.start")
}

/// Nanoseconds since 1970 of a time in canonical form: RFC 3339 in UTC with 3, 6 or 9 fractional digits.
pub(crate) fn time_ns(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = bytes.get(range)?;
        part.iter().all(u8::is_ascii_digit).then_some(())?;
        Some(part.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let fraction = bytes.len().checked_sub(21)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
    if !matches!(fraction, 3 | 6 | 9)
        || bytes.last() != Some(&b'Z')
        || separators.iter().any(|(at, byte)| bytes[*at] != *byte)
    {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 of the proleptic Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let nanos = digits(20..20 + fraction)? * 10_i64.pow(9 - fraction as u32);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nanoseconds_since_1970() {
        for (text, ns) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1_000_000)),
            ("2000-02-29T12:00:00.000001Z", Some(951_825_600_000_001_000)),
            ("2026-01-01T00:00:00.123456789Z", Some(1_767_225_600_123_456_789)),
            ("2026-01-01T00:00:00Z", None),
            ("2026-01-01T00:00:00.12Z", None),
            ("2026-01-01 00:00:00.123Z", None),
            ("2026-13-01T00:00:00.123Z", None),
            ("", None),
        ] {
            assert_eq!(time_ns(text), ns, "{text}");
        }
    }

    #[test]
    fn ids_have_one_form() {
        let id = *b"0123456789abcdef";
        let text = uuid_text(&id);
        assert_eq!(text, "30313233-3435-3637-3839-616263646566");
        assert_eq!(parse_uuid(&text), Some(id));
        assert!(is_uuid(&text, &id));
        assert!(!is_uuid(&text.replace('6', "7"), &id));
        assert!(!is_uuid("", &id));
        for bad in [
            "",
            "30313233343536373839616263646566",
            "3031323-33435-3637-3839-616263646566",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }
}
