//! What sinks that keep their position themselves remember of the journal, asked before it is opened: by that a journal
//! is noticed that was put back to an older copy as a whole.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditmon_config::Loaded;
use auditmon_core::plugin::Entry;
use auditmon_journal::Position;

use crate::plan::{Plans, Recipe};
use crate::prepare::prepare;

/// How long a sink may take; one that can't be asked delays no start for longer.
const PATIENCE: Duration = Duration::from_secs(6);

/// Positions by the names of sinks.
pub type Remembered = Vec<(String, Position)>;

/// The same for commands that open the journal in an agent's place.
pub async fn by(loaded: &Loaded, data_dir: &Path, entries: Vec<Entry>) -> Remembered {
    match prepare(loaded.clone(), data_dir.to_owned(), entries) {
        Ok(prepared) => ask(&prepared.plans, data_dir).await,
        Err(_) => Vec::new(),
    }
}

pub(crate) async fn ask(plans: &Plans, data_dir: &Path) -> Remembered {
    let mut all = Vec::new();
    for planned in &plans.on {
        let Recipe::Sink(sink) = &planned.recipe else { continue };
        let asked = tokio::time::timeout(PATIENCE, Arc::clone(&sink.plan).remembered(data_dir)).await;
        match asked {
            Ok(Ok(positions)) => all.extend(
                positions
                    .into_iter()
                    .map(|position| (planned.name.to_owned(), position)),
            ),
            Ok(Err(error)) => unknown(planned.name, &error),
            Err(_) => unknown(planned.name, &"no answer in time"),
        }
    }
    all
}

/// The sink itself says so again when it starts; nothing is delivered to it then.
fn unknown(sink: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(
        sink,
        "what the sink remembers of the journal can't be read before the journal is opened: {why}"
    );
}
