//! `auditmon audit-mode install|start|stop|restart|uninstall|status`: a service of systemd, with the configuration that
//! the given flags, variables and file come to.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::given::Given;

/// The service.
pub const UNIT: &str = "auditmon-audit-mode.service";
/// Most of systemctl's words that are shown.
const MAX_SHOWN: usize = 400;

/// What to do with the service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Write configuration and unit, enable and start it.
    Install,
    /// Stop and disable it, remove both.
    Uninstall,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Say whether it runs.
    Status,
}

impl Verb {
    /// The verb of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "install" => Self::Install,
            "uninstall" => Self::Uninstall,
            "start" => Self::Start,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            "status" => Self::Status,
            _ => return None,
        })
    }
}

/// Where the service is.
pub struct Service {
    /// `/`, or what stands for it.
    pub root: PathBuf,
    /// systemd's tool.
    pub systemctl: PathBuf,
    /// The program that it runs.
    pub program: PathBuf,
}

impl Service {
    /// That of this host.
    ///
    /// # Errors
    /// Nobody knows where this program is.
    pub fn of_host() -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("where this program is can't be told: {error}"))?;
        Ok(Self {
            root: PathBuf::from("/"),
            systemctl: PathBuf::from("systemctl"),
            program,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("etc/auditmon/audit-mode.yaml")
    }

    fn unit(&self) -> PathBuf {
        self.root.join("etc/systemd/system").join(UNIT)
    }

    /// Writes configuration and unit, enables and starts it; says what was done.
    ///
    /// # Errors
    /// What could not be done; a sentence.
    pub fn install(&self, yaml: &str) -> Result<String, String> {
        let (config, unit) = (self.config(), self.unit());
        put(&config, yaml.as_bytes(), 0o600)?;
        put(&unit, self.unit_file().as_bytes(), 0o644)?;
        self.ask(&["daemon-reload"])?;
        self.ask(&["enable", UNIT])?;
        // One that runs takes the new configuration, too.
        self.ask(&["restart", UNIT])?;
        Ok(format!(
            "{UNIT} is installed and started; its configuration is {}\n",
            config.display()
        ))
    }

    fn unit_file(&self) -> String {
        format!(
            "# Written by `auditmon audit-mode install`.\n\
             [Unit]\n\
             Description=Auditmon: audits an immudb server\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=exec\n\
             ExecStart={} run -c {}\n\
             ExecReload=/bin/kill -HUP $MAINPID\n\
             Restart=on-failure\n\
             TimeoutStopSec=15\n\
             UMask=0077\n\
             NoNewPrivileges=yes\n\
             ProtectSystem=full\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n",
            word(&self.program),
            word(&self.config())
        )
    }

    /// Stops and disables it and removes what `install` wrote; what is remembered stays.
    ///
    /// # Errors
    /// What could not be done.
    pub fn uninstall(&self) -> Result<String, String> {
        if !self.unit().exists() {
            return Err(format!("{UNIT} is not installed"));
        }
        if self.runs()? {
            self.ask(&["stop", UNIT])?;
        }
        self.ask(&["disable", UNIT])?;
        for path in [self.unit(), self.config()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
        }
        self.ask(&["daemon-reload"])?;
        Ok(format!(
            "{UNIT} is uninstalled; what it remembers stays in the data directory\n"
        ))
    }

    /// Starts it.
    ///
    /// # Errors
    /// What could not be done.
    pub fn start(&self) -> Result<String, String> {
        self.ask(&["start", UNIT])?;
        Ok(format!("{UNIT} is started\n"))
    }

    /// Stops it.
    ///
    /// # Errors
    /// What could not be done.
    pub fn stop(&self) -> Result<String, String> {
        self.ask(&["stop", UNIT])?;
        Ok(format!("{UNIT} is stopped\n"))
    }

    /// Stops and starts it.
    ///
    /// # Errors
    /// It doesn't run, or what could not be done.
    pub fn restart(&self) -> Result<String, String> {
        if !self.runs()? {
            return Err(format!(
                "{UNIT} is not running; start it with `auditmon audit-mode start`"
            ));
        }
        self.ask(&["restart", UNIT])?;
        Ok(format!("{UNIT} is restarted\n"))
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// There is no systemd.
    pub fn runs(&self) -> Result<bool, String> {
        Ok(self.run(&["is-active", "--quiet", UNIT])?.status.success())
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        Command::new(&self.systemctl).args(arguments).output().map_err(|error| {
            format!(
                "{}: {error}; a service needs systemd: without it, run `auditmon audit-mode` in the foreground",
                self.systemctl.display()
            )
        })
    }

    fn ask(&self, arguments: &[&str]) -> Result<(), String> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(MAX_SHOWN).collect();
        Err(format!(
            "systemctl {}: {}",
            arguments.join(" "),
            said.replace('\n', "; ")
        ))
    }
}

/// What was given and the service doesn't have: a sentence each.
pub fn left_out(given: &Given, environment: &[(OsString, OsString)]) -> Vec<String> {
    let pid = given.get("pidfile").map(|file| {
        let says = "is not taken over: systemd knows the service's process, and no file is written";
        format!("{}: {says}", file.origin)
    });
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    // The data directory goes into the configuration.
    let ours = names.filter(|name| name.starts_with("AUDITMON_") && *name != "AUDITMON_DATA_DIR");
    let ours = ours.map(|name| {
        format!("environment {name}: is not taken over: the service has its configuration and variables of its own")
    });
    pid.into_iter().chain(ours).collect()
}

/// A path as a word of a unit file.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

/// Puts a file in its place whole.
pub fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".{name}.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // New, so that nobody else has it open and no link leads elsewhere.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside);
    let mut file = file.map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    file.set_permissions(permissions).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let dir = fs::File::open(dir).map_err(failed)?;
    dir.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A host whose systemctl writes down what it is asked for.
    fn host() -> (tempfile::TempDir, Service) {
        let dir = tempfile::tempdir().unwrap();
        let systemctl = dir.path().join("systemctl");
        let script = "#!/bin/sh\ncd \"${0%/*}\" || exit 9\necho \"$*\" >> asked\ncase \"$1\" in\n  \
                      is-active) test -e running ;;\n  start|restart) : > running ;;\n  stop) rm -f running ;;\n  \
                      enable) test ! -e refuses || { echo 'Access denied' >&2; exit 1; } ;;\nesac\n";
        fs::write(&systemctl, script).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let service = Service {
            root: dir.path().join("root"),
            systemctl,
            program: PathBuf::from("/opt/a b/auditmon"),
        };
        (dir, service)
    }

    fn asked(dir: &tempfile::TempDir) -> Vec<String> {
        let path = dir.path().join("asked");
        let asked = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        asked.lines().map(|line| line.replace(UNIT, "U")).collect()
    }

    #[test]
    fn from_install_to_uninstall() {
        let (dir, service) = host();
        let said = service.install("sources: {}\n").unwrap();
        assert!(said.contains("etc/auditmon/audit-mode.yaml"), "{said}");
        assert_eq!(asked(&dir), ["daemon-reload", "enable U", "restart U"]);
        let config = service.config();
        assert_eq!(fs::read_to_string(&config).unwrap(), "sources: {}\n");
        assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
        let unit = fs::read_to_string(service.unit()).unwrap();
        let start = format!("\nExecStart=\"/opt/a b/auditmon\" run -c \"{}\"\n", config.display());
        assert!(unit.contains(&start), "{unit}");
        assert!(service.runs().unwrap());

        service.restart().unwrap();
        service.stop().unwrap();
        assert!(!service.runs().unwrap());
        assert!(service.restart().unwrap_err().contains("is not running"));
        service.start().unwrap();
        let _ = asked(&dir);

        // Another time it takes other settings.
        service.install("sources: {immudb: {}}\n").unwrap();
        assert_eq!(fs::read_to_string(&config).unwrap(), "sources: {immudb: {}}\n");
        let _ = asked(&dir);
        service.uninstall().unwrap();
        assert_eq!(
            asked(&dir),
            ["is-active --quiet U", "stop U", "disable U", "daemon-reload"]
        );
        assert!(!config.exists() && !service.unit().exists());
        assert!(service.uninstall().unwrap_err().contains("is not installed"));
    }

    #[test]
    fn what_systemctl_refuses_is_told() {
        let (dir, mut service) = host();
        fs::write(dir.path().join("refuses"), "").unwrap();
        let error = service.install("a: 1\n").unwrap_err();
        assert_eq!(error, format!("systemctl enable {UNIT}: Access denied"));
        service.systemctl = dir.path().join("none");
        assert!(service.start().unwrap_err().contains("needs systemd"));
    }

    #[test]
    fn words_of_a_unit_are_escaped() {
        assert_eq!(word(Path::new("/a\"b\\c%d$e")), "\"/a\\\"b\\\\c%%d$$e\"");
    }
}
