//! `auditmon check`: validates exactly as a start would, and says what would run on this host.

use std::process::ExitCode;

use crate::cli::{Context, Failure, print};

/// Says what would run. Faults were found when the configuration was loaded.
pub fn run(context: &Context) -> Result<ExitCode, Failure> {
    for warning in &context.loaded.warnings {
        eprintln!("auditmon: warning: {warning}");
    }
    let loaded = &context.loaded;
    let mut out = format!(
        "configuration   {}: good\ndata directory  {}\nhost            {}\nlistens on      {}\n",
        context.file_name(),
        context.data_dir.display(),
        loaded.host,
        loaded.settings.http.listen,
    );
    for plugin in &loaded.plugins {
        let state = if plugin.enabled { "on" } else { "off" };
        out += &format!("{:<15} {state:<3} ({})\n", plugin.name, plugin.enabled_by);
    }
    print(&out)?;
    Ok(ExitCode::SUCCESS)
}
