//! The store: every event in SQLite, exactly once, and the reader that the API and the page ask.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | `sinks.store` |
//! | `database` | the file: schema, the one writing connection, what errors mean |
//! | `sink` | rows and position in one transaction |
//! | `rows` | events as arguments of one constant INSERT |
//! | `retention` | deleting by age and size, a little at a time |
//! | `reader` | queries, with a time limit |
//! | `remembered` | positions, before the journal is opened |
//! | `plan` | which index answers a query |
//! | `cursor` | where a page ended |
//! | `metrics` | what `/metrics` shows |

#![forbid(unsafe_code)]

pub mod config;

mod cursor;
mod database;
mod erasure;
mod metrics;
mod plan;
mod reader;
mod remembered;
mod retention;
mod rows;
mod sink;

pub use config::StoreConfig;

#[cfg(test)]
mod tests;

/// Reads a store that another process may be writing: what the command line asks.
///
/// # Errors
/// A section that is none, or no database file at its place: a sentence that says what would be right.
pub fn open_reader(
    section: auditmon_core::plugin::Section,
    data_dir: &std::path::Path,
) -> Result<std::sync::Arc<dyn auditmon_core::reader::EventReader>, String> {
    let file = database_file(section, data_dir)?;
    if !file.exists() {
        return Err(format!(
            "{}: there is no store yet; it is made by the first start of the agent",
            file.display()
        ));
    }
    Ok(std::sync::Arc::new(reader::Reader::new(&file)))
}

/// Where the store's database is by the configuration's section, whether it is there or not.
///
/// # Errors
/// A section that is none.
pub fn database_file(
    section: auditmon_core::plugin::Section,
    data_dir: &std::path::Path,
) -> Result<std::path::PathBuf, String> {
    let mut section = if section.is_null() {
        serde_json::json!({})
    } else {
        section
    };
    // How events are handed over is the runtime's business.
    auditmon_core::delivery::Delivery::take(&mut section);
    let config: StoreConfig = serde_json::from_value(section).map_err(|error| format!("sinks.store: {error}"))?;
    Ok(config.path(data_dir))
}
