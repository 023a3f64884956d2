//! Signing: the tree's head over records that are on disk, stored before anyone sees it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use auditmon_merkle::{Checkpoint, Ed25519Signer, Signer};

use crate::fault::{Fault, Faults};
use crate::fs::replace;
use crate::keys;
use crate::layout::CHECKPOINT;
use crate::options::{Entropy, system_entropy};
use crate::shared::Shared;

mod earlier;
mod newest;
mod thin;
mod thread;

use earlier::Earlier;
pub(crate) use newest::find as find_newest;
use thin::Hours;
pub(crate) use thread::{Alarm, CheckpointThread};

/// How often the earlier ones are thinned out, in ns.
const THIN_EVERY: u64 = 3_600_000_000_000;

/// A checkpoint that is on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedCheckpoint {
    /// Records that it covers: all below this seq.
    pub size: u64,
    /// Root of the tree over them.
    pub root: [u8; 32],
    /// The signed note.
    pub note: String,
    /// When it was signed, ns since the Unix epoch; `None` for one of an earlier run.
    pub signed_ns: Option<u64>,
}

impl SignedCheckpoint {
    /// How long ago it was signed, if that is known.
    pub fn age(&self) -> Option<Duration> {
        let signed = UNIX_EPOCH + Duration::from_nanos(self.signed_ns?);
        Some(signed.elapsed().unwrap_or_default())
    }
}

/// Told each new checkpoint.
pub type OnCheckpoint = Box<dyn Fn(&Arc<SignedCheckpoint>) + Send>;

/// Signs checkpoints and keeps them.
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    earlier: Earlier,
    hours: Hours,
    /// When the earlier ones were thinned out last, ns since the Unix epoch.
    thinned_ns: u64,
    faults: Faults,
    on_checkpoint: Option<OnCheckpoint>,
}

impl Checkpointer {
    /// Goes on behind the checkpoint that `shared` shows as the newest.
    pub(crate) fn new(shared: Arc<Shared>, faults: Faults) -> Self {
        Self {
            earlier: Earlier::default(),
            hours: Hours::default(),
            thinned_ns: 0,
            shared,
            faults,
            on_checkpoint: None,
        }
    }

    pub(crate) fn on_checkpoint(&mut self, told: OnCheckpoint) {
        self.on_checkpoint = Some(told);
    }

    /// Whether there are records that no checkpoint covers.
    pub(crate) fn is_due(&self) -> bool {
        let covered = self.shared.checkpoint().map_or(0, |newest| newest.size);
        let tree = self.shared.tree.lock();
        !tree.is_broken() && tree.size() > covered
    }

    /// Signs what no checkpoint covers yet; false if there is nothing. What
    /// failed is counted, and to be repeated: nobody has seen it.
    ///
    /// # Errors
    /// It could not be stored, or there is no key yet.
    pub(crate) fn sign(&mut self, wall_ns: u64) -> io::Result<bool> {
        let signed = self.sign_and_store(wall_ns);
        if signed.is_err() {
            self.shared.metrics.lock().failed_checkpoints += 1;
        }
        signed
    }

    fn sign_and_store(&mut self, wall_ns: u64) -> io::Result<bool> {
        let former = self.shared.checkpoint();
        let Some(frontier) = self.shared.tree.lock().frontier() else {
            return Ok(false);
        };
        if frontier.size() <= former.as_ref().map_or(0, |former| former.size) {
            return Ok(false);
        }
        let head = frontier.head();
        let keys = self.keys()?;
        let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
        let note = Checkpoint::new(&self.shared.origin, head)
            .and_then(|checkpoint| checkpoint.sign(&signers))
            .map_err(io::Error::other)?;
        let signed = Arc::new(SignedCheckpoint {
            size: head.size,
            root: *head.root.as_bytes(),
            note,
            signed_ns: Some(wall_ns),
        });
        if self.faults.is(Fault::ShowUnstored) {
            self.show(&signed);
        }
        self.store(&signed, former.as_deref())?;
        self.hours.signed(signed.size, wall_ns);
        self.show(&signed);
        if wall_ns.saturating_sub(self.thinned_ns) >= THIN_EVERY {
            self.thinned_ns = wall_ns;
            // What stays too long does no harm, and goes an hour later.
            let _ = self.earlier.thin(&self.shared, &self.hours, wall_ns);
        }
        Ok(true)
    }

    /// The keys; those that a start on a full disk could not make are made now. Not beside checkpoints of an earlier
    /// run, which that start could not compare with the tree: the next one does.
    fn keys(&self) -> io::Result<Vec<Ed25519Signer>> {
        let shared = &self.shared;
        let keys = shared.keys.lock().clone();
        if !keys.is_empty() {
            return Ok(keys);
        }
        let none = |path| matches!(shared.fs.open_read(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        let (newest, earlier) = (shared.layout.checkpoint(), shared.layout.checkpoints());
        if ![&newest, &earlier].into_iter().all(|path| none(path)) {
            return Err(io::Error::other(
                "there was no room for the key; the next start makes it",
            ));
        }
        let mut entropy: Entropy = Box::new(system_entropy);
        let keys =
            keys::prepare(&*shared.fs, &shared.layout, &shared.origin, &mut entropy).map_err(io::Error::other)?;
        *shared.keys.lock() = keys.signers.clone();
        Ok(keys.signers)
    }

    fn store(&mut self, signed: &SignedCheckpoint, former: Option<&SignedCheckpoint>) -> io::Result<()> {
        let fs = &*self.shared.fs;
        match former {
            Some(former) => self.earlier.keep(&self.shared, former)?,
            None => self.earlier.begin(),
        }
        let dir = self.shared.layout.generation_dir();
        replace(fs, &dir, CHECKPOINT, signed.note.as_bytes())
    }

    fn show(&self, signed: &Arc<SignedCheckpoint>) {
        *self.shared.checkpoint.write() = Some(Arc::clone(signed));
        self.shared.metrics.lock().checkpoints += 1;
        if let Some(told) = &self.on_checkpoint {
            told(signed);
        }
    }
}
