//! The agent's own log: stderr, lines for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use auditmon_config::{Format, Logging};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Which lines are written.
///
/// # Errors
/// The level is none; what would be right.
pub fn filter(settings: &Logging) -> Result<EnvFilter, String> {
    let level = settings.level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level)
        .map_err(|_| "expected a level, or directives such as `info,auditmon_journal=debug`".to_owned())?;
    // The database library tells of every slow statement at warn; the store tells its own story.
    if level.contains("sqlx") {
        Ok(filter)
    } else {
        Ok(filter.add_directive("sqlx=error".parse().map_err(|e| format!("{e}"))?))
    }
}

/// Starts logging.
///
/// # Errors
/// As [`filter`].
pub fn start(settings: &Logging) -> Result<(), String> {
    let filter = filter(settings)?;
    let terminal = std::io::stderr().is_terminal();
    let format = settings
        .format
        .unwrap_or(if terminal { Format::Text } else { Format::Json });
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => {
            let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            builder.with_target(false).with_ansi(color).with_timer(Clock).init();
        }
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_timer(Clock)
            .init(),
    }
    Ok(())
}

/// UTC with milliseconds, as events have it.
struct Clock;

impl fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        let millis = auditmon_core::time::now() / 1_000_000;
        w.write_str(&auditmon_core::time::format(millis * 1_000_000))
    }
}
