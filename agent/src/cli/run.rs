//! `auditmon run`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use auditmon_config::Request;
use auditmon_runtime::agent::{Agent, FirstStart, Setup, StartError, Started};
use auditmon_runtime::prepare::{self, Prepared};
use auditmon_runtime::privileges;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Context, Failure, exit};
use crate::logging;

/// Options of `run`, `check` and `config`.
#[derive(Args, Clone, Default)]
pub struct RunArgs {
    /// Turn a plugin on, whatever the configuration says
    #[arg(long, value_name = "NAME")]
    enable: Vec<String>,
    /// Turn a plugin off, whatever the configuration says
    #[arg(long, value_name = "NAME")]
    disable: Vec<String>,
}

impl RunArgs {
    /// Names of plugins with what the command line says of them.
    pub fn switches(&self) -> Vec<(String, bool)> {
        let on = self.enable.iter().map(|name| (name.clone(), true));
        let off = self.disable.iter().map(|name| (name.clone(), false));
        on.chain(off).collect()
    }
}

fn failure(error: &StartError) -> Failure {
    let code = match error {
        StartError::Config(_) => exit::CONFIG,
        StartError::DataDir { .. } => exit::CANT_CREATE,
        StartError::Held { .. } => exit::HELD,
        StartError::Other(_) => exit::FAILURE,
    };
    Failure {
        code,
        message: error.to_string(),
    }
}

/// What would run.
fn prepare(context: &Context) -> Result<Prepared, Failure> {
    let (loaded, data_dir) = (context.loaded.clone(), context.data_dir.clone());
    prepare::prepare(loaded, data_dir, (context.entries)()).map_err(|error| failure(&error))
}

/// What it would run as, and whether its features have what they need: a line each.
pub fn privileges(context: &Context) -> Result<Vec<String>, Failure> {
    privileges::report(&prepare(context)?.wanted()).map_err(|error| failure(&error))
}

/// Runs the agent until a signal.
pub fn run(context: Context) -> Result<ExitCode, Failure> {
    let set_logging = logging::start(&context.loaded.settings.logging).map_err(|says| Failure {
        code: exit::CONFIG,
        message: context.loaded.fault("logging.level", &says),
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = context.file_name(),
        data_dir = %context.data_dir.display(),
        "auditmon starts"
    );
    let (idle, other): (Vec<_>, Vec<_>) = context.loaded.warnings.iter().partition(|warning| warning.no_effect);
    for warning in other {
        tracing::warn!("{warning}");
    }
    if !idle.is_empty() {
        tracing::warn!("{} keys have no effect; `auditmon check` lists them", idle.len());
    }
    let prepared = prepare(&context)?;
    // Threads inherit what the one that starts them has: first the privileges go, then the runtime comes.
    let privileges = privileges::give_up(&prepared.wanted()).map_err(|error| failure(&error))?;
    let takes_events = context.loaded.plugin("ingest").is_some_and(|plugin| plugin.enabled);
    let setup = Setup {
        prepared,
        privileges,
        version: env!("CARGO_PKG_VERSION"),
        load: Box::new(move |privileges| {
            let read = privileges.reader(context.request.file.as_deref());
            let Some(made) = &context.made else {
                let request = Request {
                    read,
                    ..context.request.clone()
                };
                return auditmon_config::load(&request, &(context.entries)());
            };
            let request = Request {
                read: made.over(read),
                ..context.request.clone()
            };
            made.own(auditmon_config::load(&request, &(context.entries)()))
        }),
        set_logging,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("auditmon")
        .build()
        .map_err(Failure::plain)?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        // Watched from here on: a signal during the start must not end it in the middle.
        let hangup = signal(SignalKind::hangup()).map_err(|error| StartError::Other(error.to_string()))?;
        tokio::spawn(watch_signals(stop.clone()));
        let (agent, info) = Agent::start(setup).await?;
        started(info, takes_events);
        follow(&agent, hangup, &stop).await;
        agent.stop().await;
        Ok(())
    });
    // Threads that still wait for a disk or a database must not hold the end up.
    runtime.shutdown_background();
    result.map_err(|error| failure(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration again on each hang-up, until the end.
async fn follow(agent: &Agent, mut hangup: Signal, stop: &CancellationToken) {
    let reloads = async {
        while hangup.recv().await.is_some() {
            agent.reload("SIGHUP").await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reloads => {}
    }
}

/// The first signal ends the agent in order, a second one at once.
async fn watch_signals(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals can't be watched; the agent ends only by force");
        return;
    };
    let mut first = true;
    loop {
        let (name, code) = tokio::select! {
            _ = interrupt.recv() => ("interrupt", 130),
            _ = terminate.recv() => ("terminate", 143),
        };
        if !first {
            std::process::exit(code);
        }
        first = false;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        stop.cancel();
    }
}

/// Tells the person at the terminal what to do next.
fn started(started: Started, takes_events: bool) {
    let listen = started.listen;
    let states: Vec<_> = started
        .plugins
        .iter()
        .map(|(name, health)| format!("{name} {}", health.state.as_str()))
        .collect();
    tracing::info!("plugins: {}", states.join(", "));
    if let Some(first) = &started.first {
        show_once(first, &started.root_url, takes_events);
    }
    tracing::info!(%listen, "ready");
}

/// The secrets of the first start, and how an event is sent where events are taken.
fn show_once(first: &FirstStart, root: &str, takes_events: bool) {
    let (bold, plain) = if logging::colors(std::io::stderr().is_terminal()) {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    // Secrets are shown once, on the terminal, and are no log line.
    eprint!(
        "\n{bold}First start in this data directory.{plain} This is shown once:\n\n  \
         API key `default`:    {key}\n  \
         Web page (one visit): {root}/open?token={token}\n\n",
        key = first.key,
        token = first.token,
    );
    if takes_events {
        eprint!(
            "Send an event:\n\n  \
             curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n    \
             -d '{{\"event_name\":\"hello\",\"username\":\"me\"}}' {root}/api/v1/events\n\n",
            key = first.key,
        );
    }
}
