//! `auditmon check`: validates exactly as a start would, and says what would run on this host.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use auditmon_config::Tls;
use rustix::process::{Resource, getrlimit};

use crate::cli::{Context, Failure, exit, print, run};
use crate::logging;

/// Descriptors that the agent keeps for itself beside connections.
const OWN_FILES: u64 = 256;

/// Says what would run. Most faults were found when the configuration was loaded.
pub fn check(context: &Context) -> Result<ExitCode, Failure> {
    let loaded = &context.loaded;
    logging::filter(&loaded.settings.logging).map_err(|says| Failure {
        code: exit::CONFIG,
        message: loaded.fault("logging.level", &says),
    })?;
    warn(context);
    for warning in surroundings(context) {
        eprintln!("auditmon: warning: {warning}");
    }
    let privileges = run::privileges(context)?;
    print(&report(context, &privileges))?;
    Ok(ExitCode::SUCCESS)
}

/// What loading found surprising, to stderr.
pub fn warn(context: &Context) {
    for warning in &context.loaded.warnings {
        eprintln!("auditmon: warning: {warning}");
    }
}

fn report(context: &Context, privileges: &[String]) -> String {
    let loaded = &context.loaded;
    let http = &loaded.settings.http;
    let mut out = String::new();
    let mut row = |name: &str, text: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{name:<15} {text}");
    };
    row("configuration", &format!("{}: good", context.file_name()));
    if !loaded.overlays.is_empty() {
        row("hosts entries", &loaded.overlays.join(", "));
    }
    row("data directory", &context.data_dir.display().to_string());
    row("host", &loaded.host);
    if !loaded.settings.labels.is_empty() {
        let labels: Vec<String> = loaded.settings.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        row("labels", &labels.join(", "));
    }
    let address = |tls: &Tls, listen: SocketAddr| {
        let scheme = if tls.files().is_some() { "https" } else { "http" };
        format!("{scheme}://{listen}")
    };
    row("listens on", &address(&http.tls, http.listen));
    for (name, listener) in &http.listeners {
        let at = listener.listen.map(|listen| address(&listener.tls, listen));
        let serves = listener.serve.join(", ");
        row("", format!("{}  {name}: {serves}", at.unwrap_or_default()).trim_end());
    }
    let width = loaded.plugins.iter().map(|plugin| plugin.name.len()).max().unwrap_or(0);
    let mut title = "plugins";
    for plugin in &loaded.plugins {
        let state = if plugin.enabled { "on" } else { "off" };
        row(
            title,
            &format!("{:<width$}  {state:<3}  {}", plugin.name, plugin.enabled_by),
        );
        title = "";
    }
    title = "privileges";
    for line in privileges {
        row(title, line);
        title = "";
    }
    out
}

/// What surprises of the file and of this process' limits.
fn surroundings(context: &Context) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = &context.loaded.file
        && let Ok(meta) = std::fs::metadata(file)
        && meta.is_file()
    {
        let name = file.display();
        if meta.mode() & 0o022 != 0 {
            warnings.push(format!(
                "{name}: others may write to it, and so decide what this agent does; chmod go-w"
            ));
        }
        let secrets = context.loaded.secrets_in_file();
        if meta.mode() & 0o007 != 0 && !secrets.is_empty() {
            warnings.push(format!(
                "{name}: everybody may read it, and it holds secrets ({}); chmod o-r, or give them as files",
                secrets.join(", ")
            ));
        }
    }
    let wanted = context.loaded.settings.http.all_connections() as u64;
    if let Some(limit) = getrlimit(Resource::Nofile).maximum
        && limit < wanted.saturating_add(OWN_FILES)
    {
        warnings.push(format!(
            "http.max_connections: {wanted} connections need {} open files, the limit here is {limit}; fewer will be taken",
            wanted.saturating_add(OWN_FILES)
        ));
    }
    warnings
}
