//! The key that signs checkpoints.

use std::io::{self, IoSlice};
use std::path::PathBuf;

use auditmon_merkle::{Ed25519Signer, Ed25519Verifier, MAX_KEY_TEXT, Signer as _};
use thiserror::Error;

use crate::fs::{Fs, is_full, read_small, write_all_at};
use crate::layout::Layout;
use crate::options::Entropy;

const PRIVATE: &str = "log.key";
/// The next one, while it takes the place of the current one.
const NEXT: &str = "log.key.new";
const PUBLIC: &str = "log.vkey";
/// The one before, while both sign.
const FORMER: &str = "log.old.key";
/// All before, a line each, the newest last: they signed checkpoints that are still here.
const FORMER_PUBLIC: &str = "log.old.vkey";
/// More than the lines of any number of keys that somebody makes.
const MAX_FORMER: usize = 64 << 10;

/// Why there is no key, or it can't be changed.
#[derive(Debug, Error)]
pub enum KeyFault {
    /// An operation on a file failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there is no key, or not the keys that are needed.
    #[error("{path}: {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The keys, and what it took to get them.
pub(crate) struct Keys {
    /// The current one, then the former one while both sign.
    pub(crate) signers: Vec<Ed25519Signer>,
    /// Whose signatures under earlier checkpoints count.
    pub(crate) known: Vec<Ed25519Verifier>,
    /// It was made now.
    pub(crate) made: bool,
}

/// Reads the keys, or makes the first; their name is the origin.
pub(crate) fn prepare(fs: &dyn Fs, layout: &Layout, origin: &str, entropy: &mut Entropy) -> Result<Keys, KeyFault> {
    prepare_with(fs, layout, origin, entropy, false)
}

/// The same on a `full` disk, where the public half of a key that is there needn't be written.
pub(crate) fn prepare_full(
    fs: &dyn Fs,
    layout: &Layout,
    origin: &str,
    entropy: &mut Entropy,
) -> Result<Keys, KeyFault> {
    prepare_with(fs, layout, origin, entropy, true)
}

fn prepare_with(
    fs: &dyn Fs,
    layout: &Layout,
    origin: &str,
    entropy: &mut Entropy,
    full: bool,
) -> Result<Keys, KeyFault> {
    let dir = layout.keys();
    let io = |source| KeyFault::Io {
        path: layout.keys(),
        source,
    };
    fs.create_dir(&dir)
        .and_then(|()| fs.sync_dir(layout.data()))
        .map_err(io)?;
    let public = read_public(fs, layout);
    let before = read_private(fs, layout, FORMER)?;
    let (signer, mut made) = match read_private(fs, layout, PRIVATE)? {
        Some(signer) => {
            forget_next(fs, layout).map_err(io)?;
            (renamed(&signer, origin)?, false)
        }
        None => match next(fs, layout, before.is_some()).map_err(io)? {
            Some(signer) => (renamed(&signer, origin)?, false),
            None => (make(fs, layout, origin, entropy)?, true),
        },
    };
    // Of a key that was lost the public half is left; a start before may have come no further than to make another.
    let lost = public.as_ref().filter(|there| !is_half_of(there, &signer));
    if let Some(lost) = lost {
        made |= before.is_none();
        keep_former(fs, layout, lost).map_err(io)?;
    }
    match show(fs, layout, &signer, public.as_ref()) {
        // Its name is of another generation, or it is missing: it is written when there is room. The key is good.
        Err(error) if full && is_full(&error) && lost.is_none() => {}
        shown => shown.map_err(io)?,
    }
    let mut known = vec![signer.verifier()];
    let former_public = former(fs, layout).into_iter().chain(public);
    known.extend(former_public.filter(|key| key.vkey().name() == origin));
    let mut signers = vec![signer];
    if let Some(before) = before {
        let former = renamed(&before, origin)?;
        // A crash within a rotation leaves the same key twice.
        if former.verifier() != signers[0].verifier() {
            known.push(former.verifier());
            signers.push(former);
        }
    }
    Ok(Keys { signers, known, made })
}

/// Makes a new key, which signs from now on together with the former one.
pub(crate) fn rotate(fs: &dyn Fs, layout: &Layout, signers: &[Ed25519Signer]) -> Result<Vec<Ed25519Signer>, KeyFault> {
    let io = |source| KeyFault::Io {
        path: layout.keys(),
        source,
    };
    if signers.is_empty() {
        return Err(none_yet(layout));
    }
    let [former] = signers else {
        return Err(KeyFault::Unreadable {
            path: layout.keys().join(FORMER),
            reason: "the former key still signs as well; end that first with --finish".to_owned(),
        });
    };
    // The former one first: at no time is a key lost.
    write_private(fs, layout, FORMER, former)?;
    keep_former(fs, layout, &former.verifier()).map_err(io)?;
    let mut entropy: Entropy = Box::new(crate::options::system_entropy);
    let new = generate(layout, former.name(), &mut entropy)?;
    if let Err(error) = exchange(fs, layout, &new) {
        // As far as that is possible: both are as they were.
        if write_private(fs, layout, PRIVATE, former).is_ok() {
            let _ = show(fs, layout, former, None);
        }
        return Err(io(error));
    }
    Ok(vec![new, former.clone()])
}

fn none_yet(layout: &Layout) -> KeyFault {
    KeyFault::Unreadable {
        path: layout.keys().join(PRIVATE),
        reason: "there was no room to make it; it is made as soon as there is".to_owned(),
    }
}

/// Puts a key and its public half in the place of those that are there. Never are both there and not of each other:
/// in between no private one is, and [`next`] finds the new one.
fn exchange(fs: &dyn Fs, layout: &Layout, new: &Ed25519Signer) -> io::Result<()> {
    let dir = layout.keys();
    let text = zeroize::Zeroizing::new(format!("{}\n", new.private_text().as_str()));
    let file = fs.create(&dir.join(NEXT))?;
    write_all_at(&*file, &mut [IoSlice::new(text.as_bytes())], 0)?;
    file.sync()?;
    fs.sync_dir(&dir)?;
    fs.remove(&dir.join(PRIVATE))?;
    fs.sync_dir(&dir)?;
    show(fs, layout, new, None)?;
    fs.rename(&dir.join(NEXT), &dir.join(PRIVATE))?;
    fs.sync_dir(&dir)
}

/// The key that a rotation that was broken off was about to put in the place of the current one, which is gone.
fn next(fs: &dyn Fs, layout: &Layout, rotating: bool) -> io::Result<Option<Ed25519Signer>> {
    let found = match rotating {
        true => read_private(fs, layout, NEXT).ok().flatten(),
        false => None,
    };
    if found.is_some() {
        let dir = layout.keys();
        fs.rename(&dir.join(NEXT), &dir.join(PRIVATE))?;
        fs.sync_dir(&dir)?;
    }
    Ok(found)
}

/// Removes the key of a rotation that was broken off before it took the current one away: it must never be taken for
/// one that signed.
fn forget_next(fs: &dyn Fs, layout: &Layout) -> io::Result<()> {
    match fs.remove(&layout.keys().join(NEXT)) {
        Ok(()) => fs.sync_dir(&layout.keys()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the former key; its public half stays, for checkpoints that only it signed.
pub(crate) fn finish(fs: &dyn Fs, layout: &Layout, signers: &[Ed25519Signer]) -> Result<Vec<Ed25519Signer>, KeyFault> {
    if signers.is_empty() {
        return Err(none_yet(layout));
    }
    let path = layout.keys().join(FORMER);
    let [current, _] = signers else {
        return Err(KeyFault::Unreadable {
            path,
            reason: "no former key signs; there is nothing to finish".to_owned(),
        });
    };
    fs.remove(&path)
        .and_then(|()| fs.sync_dir(&layout.keys()))
        .map_err(|source| KeyFault::Io { path, source })?;
    Ok(vec![current.clone()])
}

/// Whether it is the public half of a key, under whatever name.
fn is_half_of(public: &Ed25519Verifier, signer: &Ed25519Signer) -> bool {
    public.vkey().material() == signer.verifier().vkey().material()
}

/// Writes the public half where it isn't there.
fn show(fs: &dyn Fs, layout: &Layout, signer: &Ed25519Signer, there: Option<&Ed25519Verifier>) -> io::Result<()> {
    let vkey = signer.verifier().vkey();
    if there.is_some_and(|there| there.vkey() == vkey) {
        return Ok(());
    }
    replace_public(fs, layout, PUBLIC, format!("{vkey}\n").as_bytes())
}

/// Adds the public half of a key that signs no more, or soon no more.
fn keep_former(fs: &dyn Fs, layout: &Layout, key: &Ed25519Verifier) -> io::Result<()> {
    let mut all = former(fs, layout);
    if all.iter().any(|there| there.vkey() == key.vkey()) {
        return Ok(());
    }
    all.push(key.clone());
    let text: String = all.iter().map(|key| format!("{}\n", key.vkey())).collect();
    replace_public(fs, layout, FORMER_PUBLIC, text.as_bytes())
}

/// Public halves of all keys before, as far as their lines are keys.
pub(crate) fn former(fs: &dyn Fs, layout: &Layout) -> Vec<Ed25519Verifier> {
    let bytes = read_small(fs, &layout.keys().join(FORMER_PUBLIC), MAX_FORMER).unwrap_or_default();
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn renamed(signer: &Ed25519Signer, origin: &str) -> Result<Ed25519Signer, KeyFault> {
    signer.renamed(origin).map_err(|error| KeyFault::Unreadable {
        path: PathBuf::from(origin),
        reason: error.to_string(),
    })
}

fn read_private(fs: &dyn Fs, layout: &Layout, name: &str) -> Result<Option<Ed25519Signer>, KeyFault> {
    let path = layout.keys().join(name);
    let bytes = match read_small(fs, &path, MAX_KEY_TEXT) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyFault::Io { path, source }),
    };
    let unreadable = |reason: String| KeyFault::Unreadable {
        path: path.clone(),
        reason,
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable("not a private key".to_owned()))?;
    let signer = Ed25519Signer::parse(text.trim_end_matches('\n')).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(signer))
}

/// What can't be read is made anew.
fn read_public(fs: &dyn Fs, layout: &Layout) -> Option<Ed25519Verifier> {
    let bytes = read_small(fs, &layout.keys().join(PUBLIC), MAX_KEY_TEXT).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim_end_matches('\n').parse().ok()
}

fn make(fs: &dyn Fs, layout: &Layout, origin: &str, entropy: &mut Entropy) -> Result<Ed25519Signer, KeyFault> {
    let signer = generate(layout, origin, entropy)?;
    write_private(fs, layout, PRIVATE, &signer)?;
    Ok(signer)
}

fn generate(layout: &Layout, origin: &str, entropy: &mut Entropy) -> Result<Ed25519Signer, KeyFault> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    entropy(seed.as_mut_slice());
    Ed25519Signer::from_seed(origin, &seed).map_err(|error| KeyFault::Unreadable {
        path: layout.keys().join(PRIVATE),
        reason: error.to_string(),
    })
}

fn write_private(fs: &dyn Fs, layout: &Layout, name: &str, signer: &Ed25519Signer) -> Result<(), KeyFault> {
    let text = zeroize::Zeroizing::new(format!("{}\n", signer.private_text().as_str()));
    crate::fs::replace(fs, &layout.keys(), name, text.as_bytes()).map_err(|source| KeyFault::Io {
        path: layout.keys().join(name),
        source,
    })
}

/// Replaces a file that everybody may read, so that a crash leaves the old or the new one.
fn replace_public(fs: &dyn Fs, layout: &Layout, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = layout.keys();
    let beside = dir.join(format!("{name}.new"));
    let file = fs.create_public(&beside)?;
    write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    fs.rename(&beside, &dir.join(name))?;
    fs.sync_dir(&dir)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fs::{FsFile, RealFs};

    /// A process that ends after so many operations.
    #[derive(Clone)]
    struct Dying(Arc<AtomicUsize>);

    impl Dying {
        fn step(&self) -> io::Result<()> {
            let left = self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map(drop).map_err(|_| io::Error::other("it ended"))
        }
    }

    impl Fs for Dying {
        fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            RealFs.open(path)
        }
        fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            RealFs.open_read(path)
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
            self.step().and_then(|()| RealFs.create(path))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.step().and_then(|()| RealFs.rename(from, to))
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.step().and_then(|()| RealFs.remove(path))
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealFs.list(dir)
        }
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            RealFs.create_dir(dir)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.step().and_then(|()| RealFs.sync_dir(dir))
        }
        fn free(&self, path: &Path) -> io::Result<u64> {
            RealFs.free(path)
        }
    }

    /// Of a key that was lost the public half is kept, however often it takes to make another, and that is told.
    #[test]
    fn another_key_may_be_broken_off_anywhere() {
        for steps in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path(), 1);
            let mut entropy: Entropy = Box::new(crate::options::system_entropy);
            let lost = prepare(&RealFs, &layout, "host/1", &mut entropy).unwrap().known;
            std::fs::remove_file(layout.keys().join(PRIVATE)).unwrap();
            let dying = Dying(Arc::new(AtomicUsize::new(steps)));
            let ended = prepare(&dying, &layout, "host/1", &mut entropy).is_ok();
            // The public half of the new one is the last that is written.
            let shown = read_public(&RealFs, &layout).is_some_and(|public| public != lost[0]);
            let keys = prepare(&RealFs, &layout, "host/1", &mut entropy).unwrap();
            assert!(keys.known.contains(&lost[0]), "after {steps} steps");
            assert_eq!(former(&RealFs, &layout), [lost[0].clone()], "after {steps} steps");
            assert_eq!(read_public(&RealFs, &layout), Some(keys.signers[0].verifier()));
            assert_eq!(keys.made, !shown, "after {steps} steps");
            if ended {
                assert!(shown && steps > 8, "{steps}");
                return;
            }
        }
    }

    #[test]
    fn a_rotation_may_be_broken_off_anywhere() {
        for steps in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path(), 1);
            let mut entropy: Entropy = Box::new(crate::options::system_entropy);
            let mut prepare = || prepare(&RealFs, &layout, "host/1", &mut entropy).unwrap();
            let former = prepare().signers;
            let dying = Dying(Arc::new(AtomicUsize::new(steps)));
            let rotated = rotate(&dying, &layout, &former);
            // What the keys of the directory say of each other, at that moment.
            let (private, public) = (read_private(&RealFs, &layout, PRIVATE), read_public(&RealFs, &layout));
            let (private, public) = (private.unwrap(), public.unwrap());
            assert!(
                private.is_none_or(|key| key.verifier() == public),
                "after {steps} steps"
            );
            let before = former[0].verifier();
            let olds = super::former(&RealFs, &layout);
            assert!(public == before || olds.contains(&before), "after {steps} steps");
            // The next start has both, or the one from before.
            let keys = prepare();
            assert!(!keys.made && keys.known.contains(&before), "after {steps} steps");
            assert!(
                keys.signers.iter().any(|key| key.verifier() == before),
                "after {steps} steps"
            );
            assert_eq!(read_public(&RealFs, &layout), Some(keys.signers[0].verifier()));
            assert!(!layout.keys().join(NEXT).exists(), "after {steps} steps");
            if let Ok(rotated) = rotated {
                assert_eq!(keys.signers[0].verifier(), rotated[0].verifier());
                assert!(steps > 8, "{steps}");
                return;
            }
        }
    }
}
