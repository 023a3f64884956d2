//! The key that signs checkpoints.

use std::io::{self, IoSlice};
use std::path::PathBuf;

use auditmon_merkle::{Ed25519Signer, Ed25519Verifier, MAX_KEY_TEXT};
use thiserror::Error;

use crate::fs::{Fs, read_small, write_all_at};
use crate::layout::Layout;
use crate::options::Entropy;

const PRIVATE: &str = "log.key";
const PUBLIC: &str = "log.vkey";

/// Why there is no key.
#[derive(Debug, Error)]
pub(crate) enum KeyFault {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    /// What is there is no key.
    #[error("{path}: {reason}", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
}

/// The key, and what it took to get it.
pub(crate) struct Keys {
    /// The current one.
    pub(crate) signers: Vec<Ed25519Signer>,
    /// Whose signatures under earlier checkpoints count.
    pub(crate) known: Vec<Ed25519Verifier>,
    /// It was made now.
    pub(crate) made: bool,
}

/// Reads the key, or makes it; its name is the origin.
pub(crate) fn prepare(fs: &dyn Fs, layout: &Layout, origin: &str, entropy: &mut Entropy) -> Result<Keys, KeyFault> {
    let dir = layout.keys();
    let io = |source| KeyFault::Io {
        path: layout.keys(),
        source,
    };
    fs.create_dir(&dir)
        .and_then(|()| fs.sync_dir(layout.data()))
        .map_err(io)?;
    let public = read_public(fs, layout, PUBLIC);
    let (signer, made) = match read_private(fs, layout, PRIVATE)? {
        Some(signer) => (renamed(&signer, origin)?, false),
        None => (make(fs, layout, origin, entropy)?, true),
    };
    let vkey = signer.verifier().vkey().to_string();
    if public.as_ref().is_none_or(|public| public.vkey().to_string() != vkey) {
        let text = format!("{vkey}\n");
        let result = replace_public(fs, layout, PUBLIC, text.as_bytes());
        result.map_err(io)?;
    }
    let mut known = vec![signer.verifier()];
    known.extend(public.filter(|public| public.vkey().name() == origin));
    Ok(Keys {
        signers: vec![signer],
        known,
        made,
    })
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
fn read_public(fs: &dyn Fs, layout: &Layout, name: &str) -> Option<Ed25519Verifier> {
    let bytes = read_small(fs, &layout.keys().join(name), MAX_KEY_TEXT).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim_end_matches('\n').parse().ok()
}

fn make(fs: &dyn Fs, layout: &Layout, origin: &str, entropy: &mut Entropy) -> Result<Ed25519Signer, KeyFault> {
    let path = layout.keys().join(PRIVATE);
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    entropy(seed.as_mut_slice());
    let signer = Ed25519Signer::from_seed(origin, &seed).map_err(|error| KeyFault::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let text = zeroize::Zeroizing::new(format!("{}\n", signer.private_text().as_str()));
    crate::fs::replace(fs, &layout.keys(), PRIVATE, text.as_bytes()).map_err(|source| KeyFault::Io { path, source })?;
    Ok(signer)
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
