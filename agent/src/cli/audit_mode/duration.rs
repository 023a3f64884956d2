//! Durations as Go writes them: `1m0s`, `1.5h`, `300ms`.

use std::time::Duration;

/// Units in nanoseconds; Go takes both signs for micro.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Longest interval: what Go can say is 292 years, and nobody audits once in a hundred.
const MOST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Reads a duration that is not negative.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        // Without digits on one side of the point at least it is no number.
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 {
            return None;
        }
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut nanos = whole.checked_mul(*unit)?;
        let (mut scale, mut part) = (*unit, 0);
        for digit in fraction.bytes() {
            scale /= 10;
            part += u128::from(digit - b'0') * scale;
        }
        nanos += part;
        total = total.checked_add(nanos)?;
        rest = behind;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let duration = Duration::new(seconds, u32::try_from(total % 1_000_000_000).ok()?);
    (duration <= MOST).then_some(duration)
}

/// An interval in whole seconds, as immuclient cuts it.
///
/// # Errors
/// What would be right.
pub fn interval(text: &str) -> Result<Duration, String> {
    let wrong = |found: &str| format!("expected a duration of at least 1s such as 1m0s, found {found}");
    let duration = parse(text.trim()).ok_or_else(|| wrong(&format!("`{}`", shown(text))))?;
    let whole = Duration::from_secs(duration.as_secs());
    if whole.is_zero() {
        return Err(wrong(&format!("`{}`", shown(text))));
    }
    Ok(whole)
}

/// The beginning of a word of the user's.
pub fn shown(text: &str) -> String {
    text.chars()
        .take(40)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, millis) in [
            ("1m0s", 60_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            (".5s", 500),
            ("2.s", 2_000),
            ("+10s", 10_000),
            ("1h0m0.25s", 3_600_250),
            ("0", 0),
            ("1500000us", 1_500),
            ("1500000µs", 1_500),
            ("2000000000ns", 2_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "1",
            "s",
            "1x",
            "-1s",
            "1s ",
            "1..5s",
            ".s",
            "1d",
            "9999999999999999999h",
            "200000000h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_are_cut_to_seconds_and_have_one_at_least() {
        assert_eq!(interval("1900ms"), Ok(Duration::from_secs(1)));
        for text in ["0", "999ms", "xx", "start"] {
            let error = interval(text).unwrap_err();
            assert!(error.contains("such as 1m0s") && error.contains(text), "{error}");
        }
    }
}
