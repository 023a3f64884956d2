//! What an answer's status means for the events that were sent.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

/// Longest `Retry-After` that is believed; the runtime's own limit may be shorter.
const MAX_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a status means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// The receiver has the events.
    Delivered,
    /// The receiver will never take what was sent.
    Refused,
    /// Not now; perhaps these events only.
    Later,
    /// Not now, whatever is sent: the receiver is busy, or a person has to mend address or credentials.
    NothingNow,
    /// An address to go to instead; it is not followed.
    Elsewhere,
    /// The receiver wants no more events, ever.
    Gone,
}

impl Meaning {
    /// Of a status. A client error is for good only where it can be about what the events say.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Delivered,
            300..=399 => Self::Elsewhere,
            410 => Self::Gone,
            408 | 423 | 425 => Self::Later,
            // Address, method, credentials, headers: the same for all events.
            401..=407 | 411 | 414 | 415 | 421 | 426 | 428 | 429 | 431 => Self::NothingNow,
            400..=499 => Self::Refused,
            _ => Self::Later,
        }
    }
}

/// Reads `Retry-After`: seconds, or a date that is compared with `now`.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let after = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number too large for u64 fails.
        value.parse().map_or(MAX_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(after.min(MAX_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the README.
    #[test]
    fn every_status_has_the_meaning_of_the_manual() {
        let of = |meaning| -> Vec<u16> {
            (200..=599)
                .filter(|code| Meaning::of(StatusCode::from_u16(*code).unwrap()) == meaning)
                .collect()
        };
        assert_eq!(of(Meaning::Delivered), (200..=299).collect::<Vec<_>>());
        assert_eq!(of(Meaning::Elsewhere), (300..=399).collect::<Vec<_>>());
        assert_eq!(of(Meaning::Gone), [410]);
        assert_eq!(
            of(Meaning::NothingNow),
            [
                401, 402, 403, 404, 405, 406, 407, 411, 414, 415, 421, 426, 428, 429, 431
            ]
        );
        assert_eq!(
            of(Meaning::Later),
            [408, 423, 425].into_iter().chain(500..=599).collect::<Vec<_>>()
        );
        let refused = of(Meaning::Refused);
        for code in [400, 409, 412, 413, 416, 417, 418, 422, 424, 451, 499] {
            assert!(refused.contains(&code), "{code}");
        }
    }

    #[test]
    fn both_forms_of_retry_after() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 9994 08:49:37 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
