//! Giving up privileges, before the async runtime starts.
//!
//! | started | all threads but the control thread |
//! |---|---|
//! | as root, with a user to run as | are that user, without capabilities; Landlock: writing only below the data directory |
//! | as root, without one | stay uid 0 without capabilities; Landlock: the data directory, and reading what a program needs |
//! | as an ordinary user with capabilities (systemd's `AmbientCapabilities=`) | give them up; Landlock as for a user |
//! | as an ordinary user without | nothing had to be given up |
//!
//! The control thread keeps the capabilities that the enabled plugins named and the process had, is the same user as
//! all others, and is not confined by Landlock: it opens what only root may read. All of this is a thread's own
//! (credentials(7)): threads inherit it from the one that starts them, so it is done while main is the only one.
//!
//! | module | what it holds |
//! |---|---|
//! | `identity` | whom to run as |
//! | `directory` | the data directory: made, handed over |
//! | `landlock` | what the threads may still open |
//! | `thread` | ids and capabilities of the calling thread |
//! | `reading` | how configurations, and secrets that they name as files, are read |
//! | `report` | the table for `auditmon check` |

mod directory;
mod identity;
mod landlock;
mod reading;
mod report;
mod thread;

use std::path::{Path, PathBuf};

use auditmon_config::{Loaded, Settings};
use auditmon_core::privileged::{Capability, ConfiguredFile, Control, Files, Need, Needs, files_of};
use rustix::fs::Access;
use rustix::thread::CapabilitySet;

use crate::agent::StartError;
use identity::Identity;
use landlock::Enforced;

pub use reading::reader;
pub use report::report;

/// What the agent itself may need, whichever plugins are on.
pub const AGENT: [Need; 2] = [
    Need {
        feature: "configured files that only root may read, also at a reload",
        capability: Capability::DacReadSearch,
        without: "they have to be readable for the user that the agent runs as",
    },
    Need {
        feature: "listening on ports below 1024",
        capability: Capability::NetBindService,
        without: "the start ends with the system's refusal",
    },
];

/// What the agent is to run as, and with.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The data directory.
    pub data_dir: PathBuf,
    /// `run_as`, with the place where it stands.
    pub run_as: Option<(String, String)>,
    /// What each part needs: its name, and what it named.
    pub needs: Vec<(&'static str, Needs)>,
}

impl Wanted {
    /// What a configuration needs, with its plugins' needs.
    #[must_use]
    pub fn new(loaded: &Loaded, data_dir: &Path, plugins: Vec<(&'static str, Needs)>) -> Self {
        let settings = &loaded.settings;
        let run_as = settings.run_as.clone();
        let mut needs = vec![("auditmon", Self::of_agent(settings, loaded.file.as_deref()))];
        needs.extend(
            plugins
                .into_iter()
                .map(|(name, needs)| (name, Self::with_reading(needs))),
        );
        Self {
            data_dir: data_dir.to_owned(),
            run_as: run_as.map(|user| (user, loaded.place("run_as", ""))),
            needs,
        }
    }

    /// What the agent needs besides its plugins, as its settings say.
    fn of_agent(settings: &Settings, file: Option<&Path>) -> Needs {
        let mut needs = Needs {
            files: files_of(settings),
            ..Needs::default()
        };
        if let Some(file) = file {
            needs.file(file);
        }
        let mut needs = Self::with_reading(needs);
        let [_, ports] = AGENT;
        let http = &settings.http;
        let further = http.listeners.values().filter_map(|listener| listener.listen);
        let mut listens = further.chain([http.listen]).map(|address| address.port());
        if listens.any(|port| (1..first_free_port()).contains(&port)) {
            needs.capabilities.push(ports);
        }
        needs
    }

    /// Whoever names files may find them closed to all but root.
    fn with_reading(mut needs: Needs) -> Needs {
        let [files, _] = AGENT;
        let is_named = |need: &Need| need.capability == files.capability;
        if !needs.files.is_empty() && !needs.capabilities.iter().any(is_named) {
            needs.capabilities.push(files);
        }
        needs
    }

    /// Every file that the configuration names.
    #[must_use]
    pub fn files(&self) -> Vec<ConfiguredFile> {
        let all = self.needs.iter().flat_map(|(_, needs)| &needs.files);
        all.cloned().collect()
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let all = self.needs.iter().flat_map(|(_, needs)| &needs.directories);
        all.map(PathBuf::as_path)
    }

    fn capabilities(&self) -> CapabilitySet {
        let all = self.needs.iter().flat_map(|(_, needs)| &needs.capabilities);
        all.map(|need| thread::bit(need.capability)).collect()
    }
}

/// Ports from here on are open to everybody.
fn first_free_port() -> u16 {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

/// What is left after the drop.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// The way to the control thread.
    pub control: Control,
    /// Which files it opens; replaced at a reload.
    pub files: Files,
    /// What the control thread kept.
    kept: CapabilitySet,
    /// What the process could have kept.
    held: CapabilitySet,
    /// Below which directories the threads may write; `None` is wherever the user may.
    writable: Option<Vec<PathBuf>>,
}

impl Privileges {
    /// What a new configuration needs and this process has given up, a line each: that part takes a restart of the
    /// agent.
    #[must_use]
    pub fn lacks(&self, wanted: &Wanted) -> Vec<String> {
        let gone = self.held.difference(self.kept);
        let mut lines = Vec::new();
        for (name, needs) in &wanted.needs {
            for need in &needs.capabilities {
                if gone.contains(thread::bit(need.capability)) {
                    lines.push(format!(
                        "{name}: {}: {} was given up when the agent started",
                        need.feature, need.capability
                    ));
                }
            }
            for path in &needs.directories {
                let may = |writable: &Vec<PathBuf>| writable.iter().any(|above| path.starts_with(above));
                if !self.writable.as_ref().is_none_or(may) {
                    let path = path.display();
                    lines.push(format!(
                        "{name}: {path}: writing there was given up when the agent started"
                    ));
                }
            }
        }
        lines
    }
}

/// Gives up what the agent does not need. Call it while the process has one thread; all later ones inherit.
///
/// # Errors
/// The user does not exist, the data directory can't be handed over, or the system refuses; the agent must not run
/// then.
pub fn give_up(wanted: &Wanted) -> Result<Privileges, StartError> {
    let failed = |error: std::io::Error| StartError::Other(format!("privileges can't be given up: {error}"));
    let held = thread::Held::now().map_err(failed)?;
    rustix::thread::set_no_new_privs(true).map_err(|errno| failed(errno.into()))?;
    if held.is_ordinary() {
        warn_of_other_user(wanted, held);
        let (control, files) = start(wanted, || Ok(()))?;
        return Ok(Privileges {
            control,
            files,
            kept: held.permitted,
            held: held.permitted,
            writable: None,
        });
    }
    alone().map_err(failed)?;
    let identity = identity::resolve(wanted, held)?;
    directory::prepare(&wanted.data_dir, &identity)?;
    for path in wanted.directories() {
        // Whoever needs it fails by itself, and the others go on.
        if let Err(error) = directory::make(path, &identity) {
            tracing::warn!("{}: {error}", path.display());
        }
    }
    let confinement = landlock::Confinement::new(wanted, identity.is_root())
        .map_err(|error| StartError::Other(format!("Landlock can't be set up: {error}")))?;

    let keep = wanted.capabilities() & held.permitted;
    let ids = identity.ids();
    let (control, files) = start(wanted, move || thread::reduce(ids, keep))?;
    let enforced = confinement
        .restrict()
        .map_err(|error| StartError::Other(format!("Landlock can't be set up: {error}")))?;
    thread::reduce(ids, CapabilitySet::empty()).map_err(failed)?;
    reach(wanted, &identity)?;
    tell(&identity, enforced, keep);
    let writable = std::iter::once(wanted.data_dir.as_path()).chain(wanted.directories());
    Ok(Privileges {
        control,
        files,
        kept: keep,
        held: held.permitted,
        writable: (enforced != Enforced::No).then(|| writable.map(Path::to_owned).collect()),
    })
}

#[cfg(test)]
impl Privileges {
    /// Those of the caller: nothing is given up.
    pub(crate) fn of_caller(wanted: &Wanted) -> Self {
        let (control, files) = start(wanted, || Ok(())).unwrap();
        let held = thread::Held::now().unwrap();
        Self {
            control,
            files,
            kept: held.permitted,
            held: held.permitted,
            writable: None,
        }
    }
}

fn start(
    wanted: &Wanted,
    prepare: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<(Control, Files), StartError> {
    let (control, files) = Control::start(prepare)
        .map_err(|error| StartError::Other(format!("the control thread can't be started: {error}")))?;
    files.replace(wanted.files());
    Ok((control, files))
}

/// Threads that run already would keep what they have.
fn alone() -> std::io::Result<()> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads) if threads > 1 => Err(std::io::Error::other(format!("{threads} threads run already"))),
        // Without /proc nobody can tell.
        _ => Ok(()),
    }
}

fn warn_of_other_user(wanted: &Wanted, held: thread::Held) {
    if let Some((run_as, place)) = &wanted.run_as
        && identity::uid_of(run_as) != Some(held.uid)
    {
        tracing::warn!("{place}: run_as is followed only by an agent that root starts; it stays what it is");
    }
}

/// Looks, as what the agent is now, whether it gets at its directories.
fn reach(wanted: &Wanted, identity: &Identity) -> Result<(), StartError> {
    let reachable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    reachable(&wanted.data_dir).map_err(|error| StartError::DataDir {
        path: wanted.data_dir.clone(),
        why: format!("{error} as {identity}: a directory above may be closed to it; `run_as: root` keeps uid 0"),
    })?;
    for path in wanted.directories() {
        if path.exists()
            && let Err(error) = reachable(path)
        {
            tracing::warn!(
                "{}: {error} as {identity}; give it the directory by chown",
                path.display()
            );
        }
    }
    Ok(())
}

fn tell(identity: &Identity, enforced: Enforced, keep: CapabilitySet) {
    let kept: Vec<_> = thread::names(keep).collect();
    let control = kept.join(" ");
    if enforced == Enforced::No && identity.is_root() {
        tracing::warn!(
            control,
            "this kernel has no Landlock: the agent stays uid 0 and can open root's files; make a user `auditmon`, or set run_as"
        );
        return;
    }
    let landlock = match enforced {
        Enforced::Fully => "yes",
        Enforced::Partly => "in part: the kernel is older than 6.10",
        Enforced::No => "no: the kernel has none",
    };
    tracing::info!(landlock, control, "privileges given up; running as {identity}");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_manual_has_the_same_table() {
        let page = include_str!("../../../docs/privileges.md");
        for need in AGENT {
            let row = format!("| {} | {} | {} |", need.feature, need.capability, need.without);
            assert!(page.lines().any(|line| line == row), "{row}");
        }
    }

    #[test]
    fn what_was_given_up_is_told_when_a_new_configuration_needs_it() {
        let (control, files) = Control::start(|| Ok(())).unwrap();
        let mut privileges = Privileges {
            control,
            files,
            kept: CapabilitySet::DAC_READ_SEARCH,
            held: CapabilitySet::DAC_READ_SEARCH | CapabilitySet::NET_BIND_SERVICE,
            writable: Some(vec!["/data".into(), "/srv/a".into()]),
        };
        let mut needs = Needs {
            capabilities: AGENT.to_vec(),
            ..Needs::default()
        };
        for path in ["/data/below", "/srv/a", "/srv/ab"] {
            needs.directory(path);
        }
        let wanted = Wanted {
            data_dir: "/data".into(),
            run_as: None,
            needs: vec![("it", needs)],
        };
        assert_eq!(
            privileges.lacks(&wanted),
            [
                "it: listening on ports below 1024: CAP_NET_BIND_SERVICE was given up when the agent started",
                "it: /srv/ab: writing there was given up when the agent started",
            ]
        );
        // What was never there a restart would not bring.
        privileges.held = CapabilitySet::empty();
        privileges.writable = None;
        assert_eq!(privileges.lacks(&wanted), [""; 0]);
    }

    #[test]
    fn nothing_is_kept_that_nothing_needs() {
        let capabilities = |port, file| {
            let mut settings = Settings::default();
            settings.http.listen = SocketAddr::from(([127, 0, 0, 1], port));
            let needs = Wanted::of_agent(&settings, file);
            let names = needs.capabilities.iter().map(|need| need.capability.name());
            names.collect::<Vec<_>>()
        };
        let file = Some(Path::new("/etc/auditmon/auditmon.yaml"));
        // The kernel chooses port 0 among the free ones.
        for port in [0, 7984] {
            assert_eq!(capabilities(port, None), [""; 0]);
            assert_eq!(capabilities(port, file), ["CAP_DAC_READ_SEARCH"]);
        }
        if first_free_port() > 443 {
            assert_eq!(capabilities(443, file), ["CAP_DAC_READ_SEARCH", "CAP_NET_BIND_SERVICE"]);
            let mut settings = Settings::default();
            let listener = auditmon_config::Listener {
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 443))),
                ..Default::default()
            };
            settings.http.listeners.insert("ops".to_owned(), listener);
            assert_eq!(Wanted::of_agent(&settings, None).capabilities.len(), 1);
        }
    }

    #[test]
    fn who_names_files_needs_to_read_them_and_says_so_once() {
        let mut needs = Needs::default();
        assert_eq!(Wanted::with_reading(needs.clone()), needs);
        needs.secret("/etc/auditmon/token");
        let [reading, _] = AGENT;
        assert_eq!(Wanted::with_reading(needs.clone()).capabilities, [reading]);
        // A part that has a reason of its own for the same capability.
        let own = Need {
            feature: "rules",
            ..reading
        };
        needs.capabilities.push(own);
        assert_eq!(Wanted::with_reading(needs).capabilities, [own]);
    }
}
