//! Whom to run as.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::User;
use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitySet;

use super::Wanted;
use super::thread::Held;
use crate::agent::StartError;

/// The user that packages make.
const USUAL: &str = "auditmon";

/// What all threads are after the drop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Identity {
    /// This user and its group, no other groups.
    User {
        uid: Uid,
        gid: Gid,
        /// Empty if the host has no name for it.
        name: String,
    },
    /// Whoever started the agent, who is not root.
    Own,
    /// uid 0: there is nobody else to be.
    Root,
}

impl Identity {
    pub(super) fn is_root(&self) -> bool {
        *self == Self::Root
    }

    /// Whose the data directory has to be; `None` leaves it as it is.
    pub(super) fn owner(&self) -> Option<(Uid, Gid)> {
        match self {
            Self::User { uid, gid, .. } => Some((*uid, *gid)),
            // Without capabilities, root is a stranger to what is not root's.
            Self::Root => Some((Uid::ROOT, Gid::ROOT)),
            Self::Own => None,
        }
    }

    /// The ids to take; `None` leaves them as they are.
    pub(super) fn ids(&self) -> Option<(Uid, Gid)> {
        match self {
            Self::User { uid, gid, .. } => Some((*uid, *gid)),
            Self::Own | Self::Root => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { uid, name, .. } if name.is_empty() => write!(f, "uid {}", uid.as_raw()),
            Self::User { uid, name, .. } => write!(f, "user {name} (uid {})", uid.as_raw()),
            Self::Own => write!(f, "uid {}", rustix::process::geteuid().as_raw()),
            Self::Root => f.write_str("uid 0"),
        }
    }
}

/// Finds out whom to run as: `run_as`, else the data directory's owner if that is not root, else `auditmon`.
pub(super) fn resolve(wanted: &Wanted, held: Held) -> Result<Identity, StartError> {
    if !held.is_root() {
        super::warn_of_other_user(wanted, held);
        return Ok(Identity::Own);
    }
    let identity = match &wanted.run_as {
        Some((run_as, place)) => named(run_as).map_err(|why| StartError::Config(format!("{place}: run_as: {why}")))?,
        None => match owner(&wanted.data_dir) {
            Some(owner) => owner,
            None => usual(),
        },
    };
    let missing = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if identity.is_root() || held.permitted.contains(missing) {
        return Ok(identity);
    }
    // A container's root often has neither.
    match &wanted.run_as {
        Some((_, place)) => Err(StartError::Config(format!(
            "{place}: run_as: becoming {identity} needs CAP_SETUID and CAP_SETGID; start the agent as that user, or with them"
        ))),
        None => {
            tracing::info!("becoming {identity} needs CAP_SETUID and CAP_SETGID; the agent stays uid 0");
            Ok(Identity::Root)
        }
    }
}

/// The uid that a setting means; `None` if the host has no such user.
pub(super) fn uid_of(run_as: &str) -> Option<u32> {
    match run_as.parse() {
        Ok(uid) => Some(uid),
        Err(_) => Some(User::from_name(run_as).ok()??.uid.as_raw()),
    }
}

fn named(run_as: &str) -> Result<Identity, String> {
    if let Ok(uid) = run_as.parse::<u32>() {
        // A uid without a name is one all the same, containers have such; but the last one means "none".
        return match uid {
            u32::MAX => Err(format!("{uid} is no uid")),
            _ => Ok(by_uid(uid, uid)),
        };
    }
    match User::from_name(run_as) {
        Ok(Some(user)) => Ok(of(user)),
        Ok(None) => Err(format!("there is no user `{run_as}` on this host")),
        Err(error) => Err(format!("the user `{run_as}` can't be looked up: {error}")),
    }
}

fn owner(data_dir: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(data_dir).ok()?;
    (meta.uid() != 0).then(|| by_uid(meta.uid(), meta.gid()))
}

fn usual() -> Identity {
    match User::from_name(USUAL) {
        Ok(Some(user)) => of(user),
        Ok(None) => Identity::Root,
        Err(error) => {
            tracing::warn!("the user `{USUAL}` can't be looked up: {error}; the agent stays uid 0");
            Identity::Root
        }
    }
}

/// The user of this uid; `gid` where the host doesn't know it.
fn by_uid(uid: u32, gid: u32) -> Identity {
    if uid == 0 {
        return Identity::Root;
    }
    match User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => of(user),
        _ => Identity::User {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            name: String::new(),
        },
    }
}

fn of(user: User) -> Identity {
    if user.uid.is_root() {
        return Identity::Root;
    }
    Identity::User {
        uid: Uid::from_raw(user.uid.as_raw()),
        gid: Gid::from_raw(user.gid.as_raw()),
        name: user.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(data_dir: &Path, run_as: Option<&str>) -> Wanted {
        Wanted {
            data_dir: data_dir.to_owned(),
            run_as: run_as.map(|run_as| (run_as.to_owned(), "a.yaml:1:1".to_owned())),
            needs: Vec::new(),
        }
    }

    const ROOT: Held = Held {
        uid: 0,
        permitted: CapabilitySet::SETUID.union(CapabilitySet::SETGID),
    };

    #[test]
    fn run_as_counts_before_everything_else() {
        let wanted = |run_as| wanted(Path::new("/"), Some(run_as));
        let nobody = resolve(&wanted("nobody"), ROOT).unwrap();
        assert_eq!(nobody.ids().map(|(uid, _)| uid.as_raw()), Some(65534));
        assert_eq!(nobody.to_string(), "user nobody (uid 65534)");
        let unnamed = resolve(&wanted("4000000"), ROOT).unwrap();
        assert_eq!(unnamed.to_string(), "uid 4000000");
        for root in ["0", "root"] {
            assert_eq!(resolve(&wanted(root), ROOT).unwrap(), Identity::Root);
        }
        for (bad, says) in [
            ("no-such-user", "there is no user `no-such-user` on this host"),
            ("-1", "there is no user `-1` on this host"),
            ("4294967295", "4294967295 is no uid"),
            ("", "there is no user `` on this host"),
        ] {
            let error = resolve(&wanted(bad), ROOT).unwrap_err();
            assert_eq!(error.to_string(), format!("a.yaml:1:1: run_as: {says}"));
        }
    }

    #[test]
    fn roots_place_is_left_only_with_the_means() {
        let none = Held {
            permitted: CapabilitySet::AUDIT_CONTROL,
            ..ROOT
        };
        let error = resolve(&wanted(Path::new("/"), Some("nobody")), none).unwrap_err();
        assert!(error.to_string().contains("CAP_SETUID"), "{error}");
        assert_eq!(
            resolve(&wanted(Path::new("/nonexistent"), None), none).unwrap(),
            Identity::Root
        );
    }

    #[test]
    fn an_ordinary_user_stays_what_it_is() {
        let user = Held {
            uid: 1000,
            permitted: CapabilitySet::AUDIT_CONTROL,
        };
        let identity = resolve(&wanted(Path::new("/"), Some("1")), user).unwrap();
        assert_eq!((identity.ids(), identity.is_root()), (None, false));
    }
}
