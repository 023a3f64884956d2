//! Times and durations as Go writes them. All times are UTC.

use std::time::Duration;

use auditmon_core::time::{self, Nanos};

/// `2026-11-20T22:34:57.12753Z`: as RFC 3339, without zeros at the end of the fraction.
pub(crate) fn rfc3339(at: Nanos) -> String {
    format!("{}Z", trimmed(at))
}

/// `2026-11-20 22:34:58.057227728 +0000 UTC`.
pub(crate) fn instant(at: Nanos) -> String {
    format!("{} +0000 UTC", trimmed(at).replace('T', " "))
}

/// `2026/11/20 22:34:58`, before each log line.
pub(crate) fn stamp(at: Nanos) -> String {
    let text = time::format(at);
    text.get(..19).unwrap_or(&text).replace('-', "/").replace('T', " ")
}

fn trimmed(at: Nanos) -> String {
    let text = time::format(at);
    let text = text.trim_end_matches('Z');
    // There always is a fraction.
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1m0s`, `1h0m0.25s`, `69.982421ms`, `0s`.
pub(crate) fn duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000, 6)),
        _ => {
            let minute = 60_000_000_000;
            let seconds = decimal(nanos % minute, 1_000_000_000, 9);
            let minutes = nanos / minute;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A number of units with as many digits behind the point as are needed, at most `places`.
fn decimal(nanos: u128, unit: u128, places: usize) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:0places$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_recorded() {
        let at = |text| time::parse(text).unwrap();
        let recorded = at("2026-11-20T22:34:57.127533421Z");
        assert_eq!(rfc3339(recorded), "2026-11-20T22:34:57.127533421Z");
        assert_eq!(
            rfc3339(at("2026-11-20T22:34:39.124806250Z")),
            "2026-11-20T22:34:39.12480625Z"
        );
        assert_eq!(rfc3339(at("2026-11-20T22:34:30.000Z")), "2026-11-20T22:34:30Z");
        assert_eq!(
            instant(at("2026-11-20T22:34:55.62422256Z")),
            "2026-11-20 22:34:55.62422256 +0000 UTC"
        );
        assert_eq!(stamp(recorded), "2026/11/20 22:34:57");
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (69_982_421, "69.982421ms"),
            (77_166_420, "77.16642ms"),
            (1_000_000_000, "1s"),
            (2_050_000_000, "2.05s"),
            (60_000_000_000, "1m0s"),
            (300_000_000_000, "5m0s"),
            (3_600_250_000_000, "1h0m0.25s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }
}
