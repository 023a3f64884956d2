//! What is known before anything of the host is touched: plans of what is on, and what they need.

use auditmon_core::health::HealthBoard;

use crate::agent::{Setup, StartError};
use crate::plan::{self, Planned};
use crate::privileges::Wanted;

/// A configuration that can work; nothing of the host has been touched.
pub struct Prepared {
    pub(crate) setup: Setup,
    pub(crate) health: HealthBoard,
    pub(crate) plans: Vec<Planned>,
}

/// Makes the plans of what is on; no I/O.
///
/// # Errors
/// [`StartError::Config`] with all faults.
pub fn prepare(setup: Setup) -> Result<Prepared, StartError> {
    let health = HealthBoard::default();
    let plans = plan::all(&setup.loaded, &setup.entries, &health)?;
    Ok(Prepared { setup, health, plans })
}

impl Prepared {
    /// What it is to run as and with.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let needs = self.plans.iter().map(Planned::needs).collect();
        Wanted::new(&self.setup.loaded, &self.setup.data_dir, needs)
    }
}
