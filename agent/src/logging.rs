//! The agent's own log: stderr, lines for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use auditmon_config::{Format, Logging};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging.
///
/// # Errors
/// The level is none.
pub fn start(settings: &Logging) -> Result<(), String> {
    let level = settings.level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level)
        .map_err(|_| format!("logging.level: `{level}` is none of error, warn, info, debug, trace"))?;
    // The database library tells of every slow statement at warn; the store tells its own story.
    let filter = if level.contains("sqlx") {
        filter
    } else {
        filter.add_directive("sqlx=error".parse().map_err(|e| format!("{e}"))?)
    };
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
