//! RFC 3339: read strictly, written canonically.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};

/// A time in nanoseconds since 1970-01-01T00:00:00Z; the journal's own unit.
pub type Nanos = u64;

/// Why a text is no time that an event may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TimeError {
    /// Not of RFC 3339's form, or a field out of range (second 60 included).
    #[error("is not an RFC 3339 time such as 2026-01-31T23:59:59.123Z")]
    Form,
    /// More than nine fractional digits.
    #[error("has more than 9 fractional digits")]
    Precision,
    /// Before 1970 or after 2261: outside of what nanoseconds in 63 bits can say.
    #[error("is before 1970 or after 2261")]
    Range,
}

/// The wall clock now.
#[must_use]
pub fn now() -> Nanos {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}

/// Reads an RFC 3339 time with any offset.
///
/// # Errors
/// [`TimeError`]; a leap second (`:60`) is refused, since no clock of ours can place it.
pub fn parse(text: &str) -> Result<Nanos, TimeError> {
    let b = text.as_bytes();
    if b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[13] != b':' || b[16] != b':' {
        return Err(TimeError::Form);
    }
    if !matches!(b[10], b'T' | b't') {
        return Err(TimeError::Form);
    }
    let year = i16::try_from(digits(&b[0..4])?).map_err(|_| TimeError::Form)?;
    let (month, day) = (small(&b[5..7])?, small(&b[8..10])?);
    let (hour, minute, second) = (small(&b[11..13])?, small(&b[14..16])?, small(&b[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(TimeError::Form);
    }
    let mut rest = &b[19..];
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = fraction.iter().take_while(|c| c.is_ascii_digit()).count();
        if len == 0 {
            return Err(TimeError::Form);
        }
        if len > 9 {
            return Err(TimeError::Precision);
        }
        nanos = digits(&fraction[..len])? * 10_u32.pow(9 - len as u32);
        rest = &fraction[len..];
    }
    let offset_seconds = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (h, m) = (i32::from(small(&[*h1, *h2])?), i32::from(small(&[*m1, *m2])?));
            if h > 23 || m > 59 {
                return Err(TimeError::Form);
            }
            (h * 3600 + m * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return Err(TimeError::Form),
    };
    let date = Date::new(year, month, day).map_err(|_| TimeError::Form)?;
    let local = date.at(hour, minute, second, 0);
    let utc = Offset::UTC.to_timestamp(local).map_err(|_| TimeError::Range)?;
    let utc = utc
        .checked_sub(i64::from(offset_seconds).seconds())
        .map_err(|_| TimeError::Range)?;
    let total = utc.as_nanosecond() + i128::from(nanos);
    u64::try_from(total)
        .ok()
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or(TimeError::Range)
}

/// Appends the time in UTC with `Z` and 3, 6 or 9 fractional digits, the fewest that lose nothing.
pub fn write(at: Nanos, out: &mut Vec<u8>) {
    let sub = (at % 1_000_000_000) as u32;
    let places = if sub.is_multiple_of(1_000_000) {
        3
    } else if sub.is_multiple_of(1_000) {
        6
    } else {
        9
    };
    write_places(at, places, out);
}

/// Appends the time in UTC with `Z` and exactly nine fractional digits, the form of `received_time`.
pub fn write_nanos(at: Nanos, out: &mut Vec<u8>) {
    write_places(at, 9, out);
}

/// The canonical text of a time.
#[must_use]
pub fn format(at: Nanos) -> String {
    let mut out = Vec::with_capacity(30);
    write(at, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn write_places(at: Nanos, places: usize, out: &mut Vec<u8>) {
    let seconds = (at / 1_000_000_000) as i64;
    let sub = (at % 1_000_000_000) as u32;
    let t = Offset::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH));
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    put(&mut text[0..4], t.year().unsigned_abs().into());
    put(&mut text[5..7], t.month().unsigned_abs().into());
    put(&mut text[8..10], t.day().unsigned_abs().into());
    put(&mut text[11..13], t.hour().unsigned_abs().into());
    put(&mut text[14..16], t.minute().unsigned_abs().into());
    put(&mut text[17..19], t.second().unsigned_abs().into());
    put(&mut text[20..29], sub);
    text[20 + places] = b'Z';
    out.extend_from_slice(&text[..=20 + places]);
}

fn put(field: &mut [u8], mut value: u32) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn digits(bytes: &[u8]) -> Result<u32, TimeError> {
    bytes.iter().try_fold(0_u32, |n, b| {
        if b.is_ascii_digit() {
            Ok(n * 10 + u32::from(b - b'0'))
        } else {
            Err(TimeError::Form)
        }
    })
}

fn small(bytes: &[u8]) -> Result<i8, TimeError> {
    i8::try_from(digits(bytes)?).map_err(|_| TimeError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_rfc_3339_allows() {
        for (text, canonical) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500Z"),
            ("2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456Z"),
            ("2026-01-01T00:00:01.000000007Z", "2026-01-01T00:00:01.000000007Z"),
            ("2026-01-01t01:30:00+01:30", "2026-01-01T00:00:00.000Z"),
            ("2025-12-31T19:00:00-05:00", "2026-01-01T00:00:00.000Z"),
            ("2024-02-29T12:00:00z", "2024-02-29T12:00:00.000Z"),
        ] {
            assert_eq!(format(parse(text).unwrap()), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Zx",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), Err(TimeError::Form), "{text}");
        }
        assert_eq!(parse("2026-01-01T00:00:00.1234567890Z"), Err(TimeError::Precision));
        assert_eq!(parse("1969-12-31T23:59:59Z"), Err(TimeError::Range));
        assert_eq!(parse("9999-12-31T23:59:59Z"), Err(TimeError::Range));
    }

    proptest! {
        #[test]
        fn writing_and_reading_is_the_identity(at in 0_u64..=i64::MAX as u64) {
            prop_assert_eq!(parse(&format(at)), Ok(at));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
