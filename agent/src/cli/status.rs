//! `auditmon status`, `auditmon reload`: what the running agent says of itself.

use std::fmt::Write as _;
use std::process::ExitCode;

use auditmon_runtime::admin::Reloaded;
use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::admin;
use crate::cli::{Context, Failure, exit, print, small_runtime};

/// Options of `auditmon status`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  auditmon status\n  auditmon status --json | jq .plugins.store.state\n\n\
    Exit code 0 if every plugin that is on is ok, 1 if one is not, if the journal was put back or rewritten and nobody\n\
    has accepted that, or if no agent runs."
)]
pub struct StatusArgs {
    /// Everything, as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `auditmon status`.
pub fn status(context: &Context, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let status: Value = small_runtime()?
        .block_on(admin::ask_json(&context.data_dir, Method::GET, "/status"))?
        .ok_or_else(|| admin::none_runs(&context.data_dir))?;
    if args.json {
        print(&format!("{status:#}\n"))?;
    } else {
        print(&text(&status))?;
    }
    let well = members(&status["plugins"]).all(|(_, plugin)| matches!(word(plugin, "state"), "ok" | "disabled"));
    Ok(if well && !is_put_back(&status["journal"]) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILURE)
    })
}

/// Runs `auditmon reload`.
pub fn reload(context: &Context) -> Result<ExitCode, Failure> {
    let reloaded: Reloaded = small_runtime()?
        .block_on(admin::ask_json(&context.data_dir, Method::POST, "/reload"))?
        .ok_or_else(|| admin::none_runs(&context.data_dir))?;
    for path in &reloaded.changed {
        print(&format!("changed: {path}\n"))?;
    }
    for path in &reloaded.pending {
        print(&format!("needs a restart of the agent: {path}\n"))?;
    }
    if reloaded.ok {
        if reloaded.changed.is_empty() && reloaded.pending.is_empty() {
            print("nothing has changed\n")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure {
        code: exit::CONFIG,
        message: reloaded.errors.join("\n"),
    })
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

/// Whether the journal is another one than before, and nobody has accepted that.
fn is_put_back(journal: &Value) -> bool {
    journal["unaccepted_rollback"] == true
}

/// For people. Members that this version of the command does not know are left to `--json`.
fn text(status: &Value) -> String {
    let mut out = format!(
        "auditmon {}, pid {}, since {}\n",
        word(status, "version"),
        status["pid"],
        word(status, "since")
    );
    let journal = &status["journal"];
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "journal {}: {} records, {}, {} free{}",
        word(journal, "origin"),
        journal["entries"],
        signed(&journal["checkpoint"]),
        bytes(journal["free_bytes"].as_u64()),
        match journal["paused"].as_str() {
            Some(why) => format!("; PAUSED: {why}"),
            None => String::new(),
        }
    );
    if is_put_back(journal) {
        out.push_str(
            "  it was PUT BACK OR REWRITTEN (events journal.rollback, journal.rewritten), and nobody has accepted that: \
             auditmon journal accept-rollback\n",
        );
    }
    out.push('\n');
    let width = members(&status["plugins"])
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    for (name, plugin) in members(&status["plugins"]) {
        let _ = write!(out, "{name:<width$}  {:<8}", word(plugin, "state"));
        if let Some(sink) = status["sinks"].get(name) {
            let _ = write!(out, "  {} behind", sink["lag_entries"]);
        }
        if let Some(letters) = plugin["dead_letters"].as_u64().filter(|letters| *letters > 0) {
            let _ = write!(out, "  {letters} refused for good (auditmon dlq list {name})");
        }
        if let Some(reason) = plugin["reason"].as_str() {
            let _ = write!(out, "  {}", clean(reason));
        }
        out.push('\n');
    }
    for path in status["pending_restart"].as_array().into_iter().flatten() {
        let _ = write!(out, "\nneeds a restart of the agent: {}", path.as_str().unwrap_or("-"));
    }
    let reload = &status["last_reload"];
    if reload.is_object() {
        let _ = write!(out, "\nlast reload {}: {}", word(reload, "at"), result(reload));
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// How a reload went.
fn result(reload: &Value) -> String {
    match (
        reload["error"].as_str(),
        reload["changed"].as_array().map_or(0, Vec::len),
    ) {
        (Some(error), _) => format!("failed: {}", clean(error)),
        (None, 0) => "ok, nothing changed".to_owned(),
        (None, 1) => "ok, 1 key changed".to_owned(),
        (None, changed) => format!("ok, {changed} keys changed"),
    }
}

/// What the newest checkpoint covers.
fn signed(checkpoint: &Value) -> String {
    match (checkpoint["entries"].as_u64(), checkpoint["age_seconds"].as_u64()) {
        (None, _) => "none signed".to_owned(),
        (Some(entries), None) => format!("{entries} signed"),
        (Some(entries), Some(age)) => format!("{entries} signed {age} s ago"),
    }
}

/// Control characters can't reach the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn bytes(count: Option<u64>) -> String {
    let Some(count) = count else { return "-".to_owned() };
    let (unit, name) = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| count >= *unit)
        .unwrap_or((1, "B"));
    format!("{:.1} {name}", count as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn how_a_reload_went_is_one_line() {
        for (reload, says) in [
            (json!({"changed": ["a"], "error": null}), "ok, 1 key changed"),
            (json!({"changed": ["a", "b"], "error": null}), "ok, 2 keys changed"),
            (
                json!({"changed": ["a"], "error": "f:1:1: x\nf:2:1: y"}),
                "failed: f:1:1: x f:2:1: y",
            ),
        ] {
            assert_eq!(super::result(&reload), says);
        }
    }

    #[test]
    fn a_status_is_readable() {
        let status = json!({
            "version": "0.1.0", "pid": 7, "since": "2026-01-01T00:00:00Z",
            "journal": {"origin": "h/1", "entries": 12, "free_bytes": 3_u64 << 30, "paused": null,
                "checkpoint": {"entries": 11, "age_seconds": 2}},
            "plugins": {
                "kernel": {"state": "failed", "reason": "no\u{1b}[31m capability", "since": "x"},
                "store": {"state": "ok", "reason": null, "since": "x", "dead_letters": 0},
                "webhook.siem": {"state": "ok", "reason": null, "since": "x", "dead_letters": 7},
            },
            "sinks": {"store": {"lag_entries": 0}, "webhook.siem": {"lag_entries": 3}},
            "pending_restart": ["http.listen"],
            "last_reload": {"at": "2026-01-02T00:00:00Z", "ok": true, "changed": [], "error": null},
        });
        let text = super::text(&status);
        let mut put_back = status.clone();
        put_back["journal"]["unaccepted_rollback"] = json!(true);
        assert!(super::text(&put_back).contains("free\n  it was PUT BACK OR REWRITTEN"));
        assert_eq!(
            text,
            "auditmon 0.1.0, pid 7, since 2026-01-01T00:00:00Z\n\
             journal h/1: 12 records, 11 signed 2 s ago, 3.0 GiB free\n\n\
             kernel        failed    no [31m capability\n\
             store         ok        0 behind\n\
             webhook.siem  ok        3 behind  7 refused for good (auditmon dlq list webhook.siem)\n\n\
             needs a restart of the agent: http.listen\n\
             last reload 2026-01-02T00:00:00Z: ok, nothing changed\n"
        );
    }
}
