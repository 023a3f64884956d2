//! Whose signatures count.

use std::path::Path;

use auditmon_merkle::{Ed25519Signer, Ed25519Verifier, Verifier as _};

use crate::files::{Generation, read_text};
use crate::report::{CouldNot, Fault, Report};

/// Where the directory keeps the public key.
pub(crate) const VKEY: &str = "keys/log.vkey";
const PRIVATE: &str = "keys/log.key";
/// Public keys of before, a line each.
const FORMER: &str = "keys/log.old.vkey";

/// The journal's public key, under the name of each generation.
pub(crate) struct Keys {
    public: Option<[u8; 32]>,
    /// That of the directory, where one was given that it calls a former one.
    later: Option<[u8; 32]>,
    /// Those of before it was rotated, by the directory.
    former: Vec<[u8; 32]>,
    /// It came from outside the directory.
    given: bool,
}

impl Keys {
    /// The key to check with: the one given, else that of the directory. It is given the name of a generation before
    /// that has an event, so also of those that were never begun.
    pub(crate) fn load(
        data_dir: &Path,
        (generations, unbegun): (&[Generation], &[Generation]),
        given: Option<&Ed25519Verifier>,
        report: &mut Report,
    ) -> Result<Self, CouldNot> {
        let read = |name: &str| read_text(&data_dir.join(name));
        let own = match read(VKEY).map_err(|error| CouldNot::new(VKEY, error))? {
            None => None,
            Some(text) => match text.strip_suffix('\n').unwrap_or(&text).parse::<Ed25519Verifier>() {
                Ok(key) => Some(key),
                Err(error) => {
                    report.fault(Fault::of(VKEY, format!("not the key that the agent wrote: {error}")));
                    None
                }
            },
        };
        let is_ours = |key: &Ed25519Verifier| {
            let mut all = generations.iter().chain(unbegun);
            all.any(|generation| generation.origin == key.name())
        };
        if let Some(own) = own.as_ref().filter(|own| !is_ours(own)) {
            report.fault(Fault::of(VKEY, format!("the key of another journal, `{}`", own.name())));
        }
        let mut former = Vec::new();
        for line in read(FORMER)
            .map_err(|error| CouldNot::new(FORMER, error))?
            .unwrap_or_default()
            .lines()
        {
            match line.parse::<Ed25519Verifier>() {
                Ok(key) if is_ours(&key) => former.extend(material(&key)),
                Ok(key) => report.fault(Fault::of(FORMER, format!("a key of another journal, `{}`", key.name()))),
                Err(error) => report.fault(Fault::of(FORMER, format!("not the keys that the agent wrote: {error}"))),
            }
        }
        if let Some(given) = given.filter(|given| !is_ours(given)) {
            let origin = generations.last().map_or("", |last| &last.origin);
            report.fault(Fault::of(
                "journal/origin",
                format!(
                    "this journal is `{origin}`, the key given is that of `{}`",
                    given.name()
                ),
            ));
        }
        if let (Some(own), Some(given)) = (&own, given)
            && material(own) != material(given)
            && !former.iter().any(|key| material(given) == Some(*key))
        {
            report.fault(Fault::of(VKEY, "not the key given: it was exchanged"));
        }
        // Only its owner can read it, and nobody else needs to.
        if let Ok(Some(text)) = read(PRIVATE) {
            let signer = Ed25519Signer::parse(text.strip_suffix('\n').unwrap_or(&text));
            let public = signer.as_ref().ok().and_then(|key| material(&key.verifier()));
            if public.is_none() || own.as_ref().is_some_and(|own| material(own) != public) {
                report.fault(Fault::of(PRIVATE, "not the key that the agent signs with"));
            }
        }
        let used = given.or(own.as_ref());
        let public = used.and_then(material);
        Ok(Self {
            public,
            later: own
                .as_ref()
                .and_then(material)
                .filter(|_| public.is_some_and(|public| former.contains(&public))),
            former,
            given: given.is_some(),
        })
    }

    /// The key of a generation; its name is the origin.
    pub(crate) fn verifier(&self, origin: &str) -> Option<Ed25519Verifier> {
        Ed25519Verifier::new(origin, self.public.as_ref()?).ok()
    }

    /// That of the directory, where one was given that it calls a former one. It proves nothing: it only says why
    /// signatures don't fit.
    pub(crate) fn later(&self, origin: &str) -> Option<Ed25519Verifier> {
        Ed25519Verifier::new(origin, self.later.as_ref()?).ok()
    }

    /// Those of a directory, whoever's.
    pub(crate) fn of_directory(data_dir: &Path) -> Result<Self, CouldNot> {
        let text = |name: &str| read_text(&data_dir.join(name)).map_err(|error| CouldNot::new(name, error));
        let own = text(VKEY)?.ok_or_else(|| CouldNot::new(VKEY, "missing: nothing is signed in this directory"))?;
        let own: Ed25519Verifier = own.trim_end().parse().map_err(|error| CouldNot::new(VKEY, error))?;
        let former = text(FORMER)?.unwrap_or_default();
        let former = former.lines().filter_map(|line| line.parse::<Ed25519Verifier>().ok());
        Ok(Self {
            public: material(&own),
            later: None,
            former: former.filter_map(|key| material(&key)).collect(),
            given: false,
        })
    }

    /// Keys that have signed older checkpoints of a generation. They came with the directory: who could write there could
    /// put his own, so they say nothing of what the journal's key has not signed later.
    pub(crate) fn former(&self, origin: &str) -> Vec<Ed25519Verifier> {
        let other = self.former.iter().filter(|key| Some(**key) != self.public);
        other.filter_map(|key| Ed25519Verifier::new(origin, key).ok()).collect()
    }

    /// Whether the key came from outside the directory.
    pub(crate) fn given(&self) -> bool {
        self.given
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.public.is_some()
    }
}

pub(crate) fn material(key: &Ed25519Verifier) -> Option<[u8; 32]> {
    key.vkey().material().try_into().ok()
}
