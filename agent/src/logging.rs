//! The agent's own log: stderr, lines for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use auditmon_config::{Format, Logging};
use auditmon_runtime::agent::SetLogging;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

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

/// Whether what goes to a terminal, if it is one, may have colors: <https://no-color.org>.
pub fn colors(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|wish| wish.is_empty())
}

/// How lines look, and where they go.
fn lines(settings: &Logging) -> Lines {
    let terminal = std::io::stderr().is_terminal();
    let format = settings
        .format
        .unwrap_or(if terminal { Format::Text } else { Format::Json });
    let layer = fmt::layer().with_writer(std::io::stderr).with_timer(Clock);
    match format {
        Format::Text => layer.with_target(false).with_ansi(colors(terminal)).boxed(),
        // The span is the request that a line is about.
        Format::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Panics are logged like everything else, and where.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload_as_str().unwrap_or("a panic");
        tracing::error!(
            place,
            thread = std::thread::current().name(),
            "a fault of the program: {said}"
        );
    }));
}

/// Starts logging; gives the way to change it.
///
/// # Errors
/// As [`filter`].
pub fn start(settings: &Logging) -> Result<SetLogging, String> {
    let (lines_layer, set_lines) = reload::Layer::new(lines(settings));
    let (filter_layer, set_filter) = reload::Layer::new(filter(settings)?);
    tracing_subscriber::registry()
        .with(lines_layer)
        .with(filter_layer)
        .init();
    log_panics();
    Ok(Box::new(move |settings| {
        set_filter
            .reload(filter(settings)?)
            .map_err(|error| error.to_string())?;
        set_lines.reload(lines(settings)).map_err(|error| error.to_string())
    }))
}

/// UTC with milliseconds, as events have it.
struct Clock;

impl fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        let millis = auditmon_core::time::now() / 1_000_000;
        w.write_str(&auditmon_core::time::format(millis * 1_000_000))
    }
}
