//! What is known before anything of the host is changed: plans of what is on, and what they need.

use std::path::PathBuf;
use std::sync::Arc;

use auditmon_config::Loaded;
use auditmon_core::plugin::Entry;
use auditmon_core::privileged::ConfiguredFile;

use crate::agent::StartError;
use crate::files::stamp;
use crate::plan::{self, Plans};
use crate::privileges::Wanted;

/// A configuration that can work; nothing of the host has been changed.
pub struct Prepared {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) data_dir: PathBuf,
    pub(crate) entries: Vec<Entry>,
    pub(crate) plans: Plans,
}

/// Makes the plans of what is on. Looks at and reads the files that they name, as the caller may, and does nothing else.
///
/// # Errors
/// [`StartError::Config`] with all faults.
pub fn prepare(loaded: Loaded, data_dir: PathBuf, entries: Vec<Entry>) -> Result<Prepared, StartError> {
    let loaded = Arc::new(loaded);
    let look = |path: &std::path::Path| std::fs::metadata(path).ok().as_ref().map(stamp);
    let plans = plan::all(&loaded, &entries, &look, &ConfiguredFile::read)
        .map_err(|errors| StartError::Config(errors.join("\n")))?;
    Ok(Prepared {
        loaded,
        data_dir,
        entries,
        plans,
    })
}

impl Prepared {
    /// What it is to run as and with.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted::new(&self.loaded, &self.data_dir, self.plans.needs())
    }
}
