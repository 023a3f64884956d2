//! `auditmon events`: reads the store's file, beside a running agent too.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use auditmon_core::event::EventView;
use auditmon_core::reader::{EventReader, MAX_LIMIT, Query, Stored};
use clap::Args;

mod follow;

use crate::cli::{Context, Failure, exit, print, small_runtime};

/// Events shown on a terminal unless told.
const TERMINAL_LIMIT: u64 = 50;

/// Options of `auditmon events`: the parameters of `GET /api/v1/events`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  auditmon events --username alice --after 2026-01-01T00:00:00Z\n  auditmon events --kind kernel --event_name execve --limit 10\n  auditmon events --outcome failure --json\n  auditmon events --follow --kind kernel"
)]
pub struct EventsArgs {
    #[command(flatten)]
    filters: Filters,
    /// Most events [default: 50 on a terminal, all otherwise]
    #[arg(long)]
    limit: Option<u64>,
    /// `desc` (newest first) or `asc`
    #[arg(long)]
    order: Option<String>,
    /// Show further events as they are accepted; `--limit` stored ones come first [default: none]
    #[arg(long, short, conflicts_with_all = ["order", "cursor"])]
    follow: bool,
    /// One event a line, as JSON; the default when stdout is no terminal
    #[arg(long)]
    json: bool,
}

macro_rules! filters {
    ($($name:ident: $help:literal),+ $(,)?) => {
        /// Members with their exact values.
        #[derive(Args)]
        struct Filters {
            $(#[doc = $help] #[arg(long = stringify!($name), value_name = "TEXT")] $name: Option<String>),+
        }

        impl Filters {
            fn pairs(self) -> Vec<(&'static str, String)> {
                let mut pairs = Vec::new();
                $(if let Some(value) = self.$name { pairs.push((stringify!($name), value)); })+
                pairs
            }
        }
    };
}

filters! {
    event_id: "UUID",
    event_time: "RFC 3339",
    event_name: "What happened",
    username: "Who did it",
    resource: "To what",
    event_source: "API key or plugin",
    source_ip_address: "IP address or `-`",
    request_id: "The application's correlation id",
    read_only: "true or false",
    kind: "application, kernel, immudb, agent",
    host: "Host of the agent",
    outcome: "success, failure, unknown",
    severity: "info, notice, warning, error, critical",
    after: "event_time at or after, RFC 3339",
    before: "event_time before, RFC 3339",
    cursor: "Where an earlier page ended",
}

/// Runs `auditmon events`.
pub fn run(context: &Context, args: EventsArgs) -> Result<ExitCode, Failure> {
    let json = args.json || !std::io::stdout().is_terminal();
    let (limit, follow) = (args.limit, args.follow);
    let mut pairs = args.filters.pairs();
    pairs.extend(args.order.map(|order| ("order", order)));
    let usage = |says| Failure {
        code: exit::USAGE,
        message: says,
    };
    let mut query = Query::parse(pairs.clone()).map_err(usage)?;
    small_runtime()?.block_on(async {
        if follow {
            let from = match limit {
                None | Some(0) => None,
                Some(limit) => newest(context, query, limit, json).await?,
            };
            return follow::run(&context.data_dir, &pairs, from, json).await;
        }
        let terminal = std::io::stdout().is_terminal();
        let mut left = limit.unwrap_or(if terminal { TERMINAL_LIMIT } else { u64::MAX });
        let reader = reader(context)?;
        while left > 0 {
            query.limit = u32::try_from(left).unwrap_or(u32::MAX).min(MAX_LIMIT);
            let page = reader.query(&query).await.map_err(Failure::plain)?;
            left -= page.events.len() as u64;
            print(&shown(&page.events, json))?;
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn reader(context: &Context) -> Result<std::sync::Arc<dyn EventReader>, Failure> {
    let store = context.loaded.plugin("store");
    let section = store.map(|store| store.section.clone()).unwrap_or_default();
    auditmon_sink_store::open_reader(section, &context.data_dir).map_err(Failure::plain)
}

/// Shows the newest stored events, oldest first, and gives the place behind them.
async fn newest(context: &Context, mut query: Query, limit: u64, json: bool) -> Result<Option<u64>, Failure> {
    query.limit = u32::try_from(limit).unwrap_or(u32::MAX).min(MAX_LIMIT);
    let mut events = reader(context)?.query(&query).await.map_err(Failure::plain)?.events;
    events.reverse();
    print(&shown(&events, json))?;
    Ok(events.last().map(|event| event.seq + 1))
}

fn shown(events: &[Stored], json: bool) -> String {
    let mut out = Vec::new();
    for event in events {
        if json {
            event.write(&mut out);
            out.push(b'\n');
        } else {
            line(event, &mut out);
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// An event on one line, for people; control characters can't reach the terminal.
fn line(event: &Stored, out: &mut Vec<u8>) {
    if let Ok(view) = EventView::parse(&event.canonical) {
        put(&view, out);
    }
}

fn put(view: &EventView<'_>, out: &mut Vec<u8>) {
    let resource = view.resource.as_deref().unwrap_or("-");
    let text = format!(
        "{:<24} {:<11} {:<24} {:<16} {:<8} {resource}",
        view.event_time,
        view.kind,
        view.event_name,
        view.username,
        view.outcome.as_str()
    );
    out.extend(
        text.chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect::<String>()
            .into_bytes(),
    );
    out.push(b'\n');
}
