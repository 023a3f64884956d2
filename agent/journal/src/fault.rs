//! Ways to break the writer that the model test must find.

/// A seeded fault; each leaves out or misorders one thing the format asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code))]
pub enum Fault {
    /// A commit without fdatasync.
    NoSync,
    /// A new segment whose directory isn't synced.
    NoDirSync,
    /// Sources are answered before the sync.
    AnswerBeforeSync,
    /// Recovery doesn't cut a torn tail.
    KeepTail,
    /// A new segment gets its name before the one before is synced.
    RenameEarly,
    /// Writing goes on in a segment whose sync failed.
    ReuseSegment,
    /// A failed sync is repeated and believed.
    RepeatSync,
    /// What waited is refused before the next segment's head is durable.
    RefuseEarly,
    /// A new segment doesn't repeat the states.
    ForgetStates,
    /// Retention removes before its event is on disk.
    RemoveEarly,
    /// A cut tail isn't synced before the first new frame.
    StaleFrames,
    /// A checkpoint is shown before it is stored.
    ShowUnstored,
    /// The tree is extended by records that aren't synced.
    SignUnsynced,
}

/// At most one fault; none without the feature `faults`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    #[cfg(feature = "faults")]
    fault: Option<Fault>,
}

impl Faults {
    #[cfg(feature = "faults")]
    pub(crate) fn set(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    #[cfg(feature = "faults")]
    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    #[cfg(not(feature = "faults"))]
    pub(crate) fn is(&self, _: Fault) -> bool {
        false
    }
}
