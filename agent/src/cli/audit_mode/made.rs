//! A configuration that no file holds: it is loaded, also again, as if one did.

use std::path::Path;
use std::sync::Arc;

use auditmon_config::{ConfigErrors, Loaded, ReadFile};

use super::settings::{NAME, Settings};

/// What it is made of, and its text.
#[derive(Clone)]
pub struct Made(Arc<(Settings, String)>);

impl Made {
    /// A configuration with these settings.
    pub fn new(settings: Settings) -> Self {
        let yaml = settings.yaml();
        Self(Arc::new((settings, yaml)))
    }

    /// What loading it came to, with what was given in place of lines of a file that nobody has.
    ///
    /// # Errors
    /// The same faults.
    pub fn own(&self, loaded: Result<Loaded, ConfigErrors>) -> Result<Loaded, ConfigErrors> {
        let (settings, _) = &*self.0;
        let mut loaded = loaded.map_err(|errors| ConfigErrors(settings.blame(&errors.0)))?;
        for warning in &mut loaded.warnings {
            if let Some(origin) = settings.origin(&warning.place) {
                warning.place = origin.to_owned();
            }
        }
        Ok(loaded)
    }

    /// Faults, likewise.
    pub fn blame(&self, faults: &str) -> String {
        let faults: Vec<String> = faults.lines().map(str::to_owned).collect();
        self.0.0.blame(&faults).join("\n")
    }

    /// Reads it under its name, and all else as before.
    pub fn over(&self, read: ReadFile) -> ReadFile {
        let made = Arc::clone(&self.0);
        Arc::new(move |path| {
            if path == Path::new(NAME) {
                Ok(made.1.as_bytes().to_vec())
            } else {
                read(path)
            }
        })
    }
}
