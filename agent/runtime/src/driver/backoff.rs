//! Pauses between attempts.

use std::time::Duration;

use auditmon_core::delivery::Retrying;

/// Exponential pauses with full jitter: each is a random part of a span that doubles, so that many agents that failed
/// together don't come back together.
pub(crate) struct Backoff {
    limits: Retrying,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(limits: Retrying) -> Self {
        Self { limits, attempt: 0 }
    }

    /// The next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// How long to wait now. `asked` is what the other side wants (`Retry-After`); it is followed up to the longest
    /// pause.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        self.pick(asked, rand::random())
    }

    /// `part` of the span, 0 to 1.
    fn pick(&mut self, asked: Option<Duration>, part: f64) -> Duration {
        let longest = self.limits.max.0;
        let span = self.limits.min.0.saturating_mul(1 << self.attempt.min(31)).min(longest);
        self.attempt = self.attempt.saturating_add(1);
        let asked = asked.unwrap_or_default().min(longest);
        span.mul_f64(part.clamp(0.0, 1.0)).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditmon_core::units::Span;

    fn backoff() -> Backoff {
        Backoff::new(Retrying {
            min: Span(Duration::from_millis(200)),
            max: Span(Duration::from_secs(60)),
        })
    }

    #[test]
    fn spans_double_up_to_the_longest() {
        let mut backoff = backoff();
        let spans: Vec<_> = (0..12).map(|_| backoff.pick(None, 1.0).as_millis()).collect();
        assert_eq!(
            spans,
            [
                200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000, 60_000
            ]
        );
        backoff.attempt = u32::MAX;
        assert_eq!(backoff.pick(None, 1.0).as_secs(), 60);
        backoff.reset();
        assert_eq!(backoff.pick(None, 1.0).as_millis(), 200);
    }

    #[test]
    fn a_pause_is_any_part_of_its_span() {
        assert_eq!(backoff().pick(None, 0.0), Duration::ZERO);
        assert_eq!(backoff().pick(None, 0.25).as_millis(), 50);
        let mut seen: Vec<_> = (0..64).map(|_| backoff().pause(None)).collect();
        assert!(seen.iter().all(|pause| pause.as_millis() <= 200));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 32, "they differ");
    }

    #[test]
    fn what_the_other_side_asks_for_is_followed_up_to_the_longest_pause() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(backoff().pick(seconds(5), 1.0).as_secs(), 5);
        assert_eq!(backoff().pick(seconds(3600), 0.0).as_secs(), 60);
        let mut late = backoff();
        late.attempt = 20;
        assert_eq!(late.pick(seconds(5), 1.0).as_secs(), 60, "our own is longer");
    }
}
