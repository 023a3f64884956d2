//! Keeps a plugin alive: one that ends by itself is built and run again, after a pause.
//!
//! | how it ended | what follows |
//! |---|---|
//! | it was told to | nothing |
//! | a fault that may pass | it is started again, for ever, with pauses from one second to a minute |
//! | a fault of the program: a panic, an end that nobody asked for | the same, but not more than 5 times in 10 minutes |
//! | a fault that stays | it stays down until the configuration is loaded again |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::plugin::PluginError;
use auditmon_core::time::{self, Nanos};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First and longest pause before a plugin is started again; each is a random part of it, at least half.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Who has run for so long begins with the first pause again.
const STABLE: Duration = Duration::from_secs(60);
/// A program that breaks more often than this in [`PERIOD`] is not started any more.
const BREAKS: usize = 5;
const PERIOD: Duration = Duration::from_secs(600);

/// How one life of a plugin ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// A fault that may pass.
    Transient(String),
    /// A fault of the program.
    Broken(String),
    /// A fault that stays.
    Permanent(String),
}

impl From<PluginError> for End {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Transient(reason) => Self::Transient(reason),
            PluginError::Permanent(reason) => Self::Permanent(reason),
        }
    }
}

impl End {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Stopped => "",
            Self::Transient(reason) | Self::Broken(reason) | Self::Permanent(reason) => reason,
        }
    }
}

/// A plugin that can be built and run any number of times.
#[async_trait]
pub(crate) trait Life: Send {
    /// Builds it and runs it to its end.
    async fn live(&mut self) -> End;
    /// It is not at work, and why.
    fn down(&mut self, reason: &str);
    /// It has ended in order, or does not come back.
    fn over(&mut self);
}

/// How often a plugin had to be started again; shared with those who show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

/// See [`Tally`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Starts after the first.
    pub(crate) restarts: u64,
    /// When it is started again, if it waits for that.
    pub(crate) next: Option<Nanos>,
    /// It is not started again by itself.
    pub(crate) given_up: bool,
}

impl Tally {
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

/// When to start again.
#[derive(Debug)]
struct Restarts {
    pause: Duration,
    breaks: VecDeque<Instant>,
}

impl Restarts {
    fn new() -> Self {
        Self {
            pause: PAUSE.0,
            breaks: VecDeque::new(),
        }
    }

    /// How long to wait after an end; `None` is for ever.
    fn after(&mut self, end: &End, lived: Duration) -> Option<Duration> {
        match end {
            End::Stopped | End::Permanent(_) => return None,
            End::Transient(_) => {}
            End::Broken(_) => {
                let now = Instant::now();
                while self.breaks.front().is_some_and(|first| now - *first > PERIOD) {
                    self.breaks.pop_front();
                }
                self.breaks.push_back(now);
                if self.breaks.len() > BREAKS {
                    return None;
                }
            }
        }
        if lived >= STABLE {
            self.pause = PAUSE.0;
        }
        let pause = self.pause.mul_f64(rand::random_range(0.5..=1.0));
        self.pause = (self.pause * 2).min(PAUSE.1);
        Some(pause)
    }
}

/// Lets the plugin live until `stop` fires.
pub(crate) async fn supervise(name: &'static str, life: &mut dyn Life, stop: &CancellationToken, tally: &Tally) {
    let mut restarts = Restarts::new();
    let mut said = String::new();
    loop {
        let begin = Instant::now();
        let end = life.live().await;
        let reason = end.reason();
        if end == End::Stopped || stop.is_cancelled() {
            if end != End::Stopped {
                tracing::warn!(plugin = name, "at its end: {reason}");
            }
            break;
        }
        let pause = restarts.after(&end, begin.elapsed());
        life.down(reason);
        tell(name, reason, pause, &mut said);
        match pause {
            Some(pause) => {
                tally.0.lock().next = Some(time::now() + u64::try_from(pause.as_nanos()).unwrap_or(0));
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                let mut counts = tally.0.lock();
                (counts.next, counts.restarts) = (None, counts.restarts + 1);
            }
            None => {
                tally.0.lock().given_up = true;
                stop.cancelled().await;
                break;
            }
        }
    }
    tally.0.lock().next = None;
    life.over();
}

/// One line for each new reason; a fault that repeats must not fill the log.
fn tell(name: &'static str, reason: &str, pause: Option<Duration>, said: &mut String) {
    match pause {
        None => tracing::error!(
            plugin = name,
            "{reason}; it stays down until the configuration is loaded again"
        ),
        Some(pause) => {
            let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            if said == reason {
                tracing::debug!(plugin = name, again_ms, "{reason}");
            } else {
                tracing::warn!(plugin = name, again_ms, "{reason}; it is started again");
                reason.clone_into(said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lives of given lengths and ends; then it runs until stopped.
    struct Script {
        lives: VecDeque<(Duration, End)>,
        stop: CancellationToken,
        begins: Vec<Duration>,
        born: Instant,
        down: Vec<String>,
        over: bool,
    }

    impl Script {
        fn new(lives: impl IntoIterator<Item = (u64, End)>) -> Self {
            Self {
                lives: lives
                    .into_iter()
                    .map(|(ms, end)| (Duration::from_millis(ms), end))
                    .collect(),
                stop: CancellationToken::new(),
                begins: Vec::new(),
                born: Instant::now(),
                down: Vec::new(),
                over: false,
            }
        }

        /// Supervised for so long, then stopped.
        async fn run(&mut self, time: Duration) -> Counts {
            let (stop, tally) = (self.stop.clone(), Tally::default());
            let counts = {
                let supervised = supervise("test", self, &stop, &tally);
                tokio::pin!(supervised);
                tokio::select! {
                    () = &mut supervised => panic!("it ended by itself"),
                    () = tokio::time::sleep(time) => {}
                }
                let counts = tally.counts();
                stop.cancel();
                supervised.await;
                counts
            };
            assert!(self.over);
            assert_eq!(tally.counts().next, None);
            counts
        }

        fn pauses(&self) -> Vec<f64> {
            self.begins
                .windows(2)
                .map(|pair| (pair[1] - pair[0]).as_secs_f64())
                .collect()
        }
    }

    #[async_trait]
    impl Life for Script {
        async fn live(&mut self) -> End {
            self.begins.push(self.born.elapsed());
            match self.lives.pop_front() {
                Some((lived, end)) => {
                    tokio::time::sleep(lived).await;
                    end
                }
                None => {
                    self.stop.cancelled().await;
                    End::Stopped
                }
            }
        }

        fn down(&mut self, reason: &str) {
            self.down.push(reason.to_owned());
        }

        fn over(&mut self) {
            self.over = true;
        }
    }

    fn transient() -> End {
        End::Transient("away".to_owned())
    }

    fn broken() -> End {
        End::Broken("panic".to_owned())
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_minute_and_are_random_within_a_half() {
        let mut script = Script::new((0..10).map(|_| (0, transient())));
        let counts = script.run(HOUR).await;
        let pauses = script.pauses();
        let whole = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0];
        assert_eq!(pauses.len(), whole.len());
        for (pause, whole) in pauses.iter().zip(whole) {
            assert!((whole / 2.0..=whole + 0.01).contains(pause), "{pauses:?}");
        }
        assert!(
            pauses.iter().zip(whole).any(|(pause, whole)| *pause < whole * 0.999),
            "{pauses:?}"
        );
        assert_eq!((counts.restarts, counts.given_up), (10, false));
        assert_eq!(script.down.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_well_for_a_minute_is_started_again_at_once() {
        let lives = (0..6).map(|_| (0, transient())).chain([(61_000, transient())]);
        let mut script = Script::new(lives);
        script.run(HOUR).await;
        let last = *script.pauses().last().unwrap() - 61.0;
        assert!((0.5..=1.01).contains(&last), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_breaks_six_times_in_ten_minutes_is_left_alone() {
        let mut script = Script::new((0..100).map(|_| (0, broken())));
        let counts = script.run(HOUR).await;
        assert_eq!(script.begins.len(), 6);
        assert!(counts.given_up);
        assert_eq!(counts.restarts, 5);

        // Every three minutes is seldom enough.
        let mut script = Script::new((0..20).map(|_| (180_000, broken())));
        let counts = script.run(20 * 200 * Duration::from_secs(1)).await;
        assert_eq!((counts.restarts, counts.given_up), (20, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_stays_is_tried_once() {
        let mut script = Script::new([(0, End::Permanent("no rights".to_owned()))]);
        let counts = script.run(HOUR).await;
        assert_eq!((script.begins.len(), counts.given_up), (1, true));
        assert_eq!(script.down, ["no rights"]);
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_it_does_not_wait_for_its_pause() {
        let mut script = Script::new((0..100).map(|_| (0, transient())));
        let begin = Instant::now();
        script.run(Duration::from_secs(100)).await;
        assert!(begin.elapsed() < Duration::from_secs(101));
        // An end by a fault while it was told to stop is an end.
        let mut script = Script::new([(5_000, transient())]);
        script.stop.cancel();
        let (stop, tally) = (script.stop.clone(), Tally::default());
        supervise("test", &mut script, &stop, &tally).await;
        assert_eq!((script.begins.len(), script.down.len(), script.over), (1, 0, true));
    }
}
