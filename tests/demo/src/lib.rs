//! A source and a sink that fail as they are told. See the README.

mod sink;
mod source;

use std::path::PathBuf;

use auditmon_core::plugin::PluginError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use sink::DemoSinkConfig;
pub use source::DemoSourceConfig;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It can't be built, for good.
    Build,
    /// It can't be built now.
    Busy,
    /// It ends with a fault that may pass.
    Transient,
    /// It ends with a fault that stays.
    Permanent,
    /// It breaks.
    Panic,
    /// It ends by itself.
    Ends,
    /// It never ends.
    Hang,
    /// It never ends and blocks its thread.
    Block,
    /// A sink answers for an event that it was not given.
    Foreign,
    /// A sink refuses every tenth event for good.
    Tenth,
}

/// Which fault, and as long as which file exists.
#[derive(Clone, Debug)]
struct Trouble {
    fault: Fault,
    file: Option<PathBuf>,
}

impl Trouble {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault && self.file.as_ref().is_none_or(|file| file.exists())
    }

    fn at_build(&self) -> Result<(), PluginError> {
        if self.is(Fault::Build) {
            return Err(PluginError::permanent("demo: can't be built"));
        }
        if self.is(Fault::Busy) {
            return Err(PluginError::transient("demo: can't be built now"));
        }
        Ok(())
    }

    /// Strikes, if it is one that strikes at work. `Some` is an end.
    async fn at_work(&self) -> Option<Result<(), PluginError>> {
        if self.is(Fault::Transient) {
            return Some(Err(PluginError::transient("demo: a fault that may pass")));
        }
        if self.is(Fault::Permanent) {
            return Some(Err(PluginError::permanent("demo: a fault that stays")));
        }
        if self.is(Fault::Ends) {
            return Some(Ok(()));
        }
        assert!(!self.is(Fault::Panic), "demo: it was told to");
        if self.is(Fault::Hang) {
            std::future::pending::<()>().await;
        }
        if self.is(Fault::Block) {
            loop {
                std::thread::park();
            }
        }
        None
    }
}
