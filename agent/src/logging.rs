//! The agent's own log: stderr, lines for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use auditmon_config::{Format, Logging};
use auditmon_runtime::agent::SetLogging;
use auditmon_runtime::request_id;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
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
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => {
            let color = colors(terminal);
            let lines = fmt::format().with_timer(Clock).with_target(false).with_ansi(color);
            let lines = WithRequestId { lines, json: false };
            layer.with_ansi(color).event_format(lines).boxed()
        }
        Format::Json => {
            let lines = fmt::format().json().flatten_event(true).with_current_span(false);
            let lines = WithRequestId {
                lines: lines.with_timer(Clock),
                json: true,
            };
            layer.fmt_fields(JsonFields::new()).event_format(lines).boxed()
        }
    }
}

/// Lines about a request over HTTP, with its id.
struct WithRequestId<F> {
    lines: F,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let Some(id) = request_id::present() else {
            return self.lines.format_event(cx, writer, event);
        };
        let mut line = String::new();
        self.lines.format_event(cx, Writer::new(&mut line), event)?;
        writer.write_str(&with_id(&line, id.to_str().unwrap_or_default(), self.json))
    }
}

/// A line with a request's id as its last member.
fn with_id(line: &str, id: &str, json: bool) -> String {
    let line = line.trim_end_matches('\n');
    match line.strip_suffix('}') {
        Some(members) if json => {
            let mut text = Vec::new();
            auditmon_core::json::write_str(id, &mut text);
            format!("{members},\"request_id\":{}}}\n", String::from_utf8_lossy(&text))
        }
        _ => format!("{line} request_id={id}\n"),
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

#[cfg(test)]
mod tests {
    use super::with_id;

    #[test]
    fn an_id_is_the_last_member_of_a_line() {
        assert_eq!(
            with_id("{\"a\":1}\n", "q\"\\", true),
            "{\"a\":1,\"request_id\":\"q\\\"\\\\\"}\n"
        );
        assert_eq!(with_id("INFO done n=1\n", "q", false), "INFO done n=1 request_id=q\n");
    }
}
