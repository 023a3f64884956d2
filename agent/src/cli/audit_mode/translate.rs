//! From what was given to our configuration: nothing else makes an audit of immuclient's one of ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use auditmon_source_immudb::Known;

use super::duration;
use super::given::{Given, Value};
use super::keys::Program;
use super::settings::{DEFAULT, Settings};
use super::states;

/// immudb's port.
const PORT: u64 = 3322;
/// What both programs say they audit at unless told otherwise.
const HOST: &str = "127.0.0.1";
/// The state directory's part that is ours.
const STATE: &str = "auditmon";
/// The user that immugw logs in as unless told otherwise.
const GATEWAY_USER: &str = "immugwauditor";

/// What is written beside what was given.
pub struct Around<'a> {
    /// The program.
    pub program: Program,
    /// An interval that stands as a word on the command line.
    pub interval: Option<&'a str>,
    /// How much is logged (`LOG_LEVEL`).
    pub level: Option<String>,
    /// What the replaced auditor trusted.
    pub known: Vec<Known>,
}

impl Around<'_> {
    /// Writes the configuration; faults and warnings are added to `given`.
    pub fn translate(&self, given: &mut Given) -> Settings {
        let mut out = Settings::default();
        if let Some((dir, origin)) = state_dir(given) {
            out.text(0, "data_dir", &dir.join(STATE).to_string_lossy(), &origin);
        }
        let level = self.level(given);
        if let Some(level) = &level {
            out.section(0, "logging");
            out.text(1, "level", level, "environment LOG_LEVEL");
        }
        out.section(0, "http");
        // Several auditors share a host, and whoever replaces one expects no other port to be taken.
        out.text(1, "listen", "127.0.0.1:0", DEFAULT);
        let monitoring = self.monitoring(given, &mut out);
        out.section(0, "sources");
        for other in ["ingest", "kernel"] {
            out.section(1, other);
            out.plain(2, "enabled", false, DEFAULT);
        }
        out.section(1, "immudb");
        out.plain(2, "enabled", true, DEFAULT);
        let (interval, origin) = self.interval(given);
        out.text(2, "interval", &format!("{}s", interval.as_secs()), &origin);
        if let Some(value) = given.get("max-recv-msg-size").cloned()
            && let Some(bytes) = given.number("max-recv-msg-size", 1 << 20..=1 << 30)
        {
            out.plain(2, "max_message", bytes, &value.origin);
        }
        // They are checked unless somebody says that they should not be.
        if let Some(value) = given.get("audit-verify-values").cloned()
            && !given.is_on("audit-verify-values")
        {
            out.plain(2, "value_calls", 0, &value.origin);
        }
        let notified = given.get("audit-notification-url").is_some();
        if notified && !given.is_on("audit-notification-on-change") {
            out.plain(2, "every", true, DEFAULT);
        }
        out.section(2, "compat");
        out.text(3, "program", self.program.name(), DEFAULT);
        match given.get("logfile") {
            Some(file) => {
                let path = absolute(&file.text);
                out.text(3, "log_file", &path.to_string_lossy(), &file.origin);
            }
            None => out.plain(3, "log", true, DEFAULT),
        }
        if let Some(level) = &level {
            out.text(3, "log_level", level, "environment LOG_LEVEL");
        }
        out.text(3, "monitoring", &monitoring, DEFAULT);
        out.section(2, "servers");
        self.server(given, &mut out);
        if notified {
            notification(given, &mut out);
        }
        out
    }

    /// The monitoring server's listener; gives its address.
    fn monitoring(&self, given: &mut Given, out: &mut Settings) -> String {
        const HOSTS: [&str; 2] = ["audit-monitoring-host", "prometheus-host"];
        let usual = match self.program {
            Program::Immuclient => 9477,
            Program::Immugw => 9476,
        };
        let host = given.first(&HOSTS).cloned();
        let ip = host
            .as_ref()
            .map_or(Ok(Ipv4Addr::UNSPECIFIED.into()), |host| listen_host(&host.text));
        let ip = ip.unwrap_or_else(|error| {
            let origin = host.as_ref().map(|host| host.origin.clone()).unwrap_or_default();
            given.fault(&origin, error);
            Ipv4Addr::UNSPECIFIED.into()
        });
        let key = ["audit-monitoring-port", "prometheus-port"]
            .into_iter()
            .find(|key| given.get(key).is_some());
        let port = key.and_then(|key| given.number(key, 1..=65_535)).unwrap_or(usual);
        let port_origin = key.and_then(|key| given.get(key)).map(|value| value.origin.clone());
        let origins: Vec<String> = host.map(|host| host.origin).into_iter().chain(port_origin).collect();
        let origin = if origins.is_empty() {
            DEFAULT.to_owned()
        } else {
            origins.join(", ")
        };
        let address = SocketAddr::new(ip, u16::try_from(port).unwrap_or(0)).to_string();
        out.section(1, "listeners");
        out.section(2, self.program.listener());
        out.text(3, "listen", &address, &origin);
        if !ip.is_loopback() {
            // As upstream has it; what is shown there holds no secret.
            out.plain(3, "insecure", true, DEFAULT);
        }
        address
    }

    /// How much is logged; upstream takes what it doesn't know for `info`.
    fn level(&self, given: &mut Given) -> Option<String> {
        let level = self.level.as_deref().filter(|level| !level.is_empty())?.to_lowercase();
        match level.as_str() {
            "error" | "warn" | "info" | "debug" => Some(level),
            _ => {
                let says = "environment LOG_LEVEL: expected error, warn, info or debug; info is taken";
                given.warnings.push(says.to_owned());
                None
            }
        }
    }

    /// The interval, and where it is from.
    fn interval(&self, given: &mut Given) -> (Duration, String) {
        let usual = Duration::from_secs(match self.program {
            Program::Immuclient => 60,
            Program::Immugw => 300,
        });
        let value = match self.interval {
            Some(word) => Some(Value {
                text: word.to_owned(),
                origin: "INTERVAL".to_owned(),
            }),
            None => given.get("audit-interval").cloned(),
        };
        let Some(value) = value else {
            return (usual, DEFAULT.to_owned());
        };
        let interval = duration::interval(&value.text).unwrap_or_else(|error| {
            given.fault(&value.origin, error);
            usual
        });
        (interval, value.origin)
    }

    fn server(&self, given: &mut Given, out: &mut Settings) {
        let (address, origin) = address(given);
        out.text(3, "- address", &address, &origin);
        self.login(given, out);
        tls(given, out);
        if let Some((file, origin)) = existing(given, "server-signing-pub-key", "the public key, in PEM form") {
            out.list(4, "signing_keys", &[file], &origin);
        }
        if let Some(value) = given.get("audit-databases").cloned() {
            let names = value.text.split(',').map(str::trim).filter(|name| !name.is_empty());
            let names: Vec<String> = names.map(str::to_owned).collect();
            if !names.is_empty() {
                out.list(4, "prefixes", &names, &value.origin);
            }
        }
        states::write(&self.known, out);
    }

    fn login(&self, given: &mut Given, out: &mut Settings) {
        let user = given.get("audit-username").cloned();
        let (plain, file) = (
            given.get("audit-password").cloned(),
            given.get("audit-password-file").cloned(),
        );
        let user = user.or_else(|| {
            // Without a password nobody is logged in: no default user is tried.
            let asked = self.program == Program::Immugw && (plain.is_some() || file.is_some());
            asked.then(|| Value {
                text: GATEWAY_USER.to_owned(),
                origin: DEFAULT.to_owned(),
            })
        });
        match (user, plain, file) {
            (None, None, None) => {}
            (None, Some(password), _) | (None, None, Some(password)) => {
                given.fault(&password.origin, "expected --audit-username beside it");
            }
            (Some(user), None, None) => {
                let says = "expected --audit-password or --audit-password-file beside it; no password is ever guessed";
                given.fault(&user.origin, says);
            }
            (Some(_), Some(plain), Some(file)) => {
                given.fault(
                    &file.origin,
                    format!("expected it alone, but {} is given, too", plain.origin),
                );
            }
            (Some(user), Some(plain), None) => {
                out.text(4, "username", user.text.trim(), &user.origin);
                out.secret(4, "password", &plain.text, &plain.origin);
                open_secret(given, "--audit-password", &plain);
            }
            (Some(user), None, Some(_)) => {
                out.text(4, "username", user.text.trim(), &user.origin);
                if let Some((file, origin)) = existing(given, "audit-password-file", "the user's password") {
                    out.text(4, "password_file", &file, &origin);
                }
            }
        }
    }
}

/// The state directory that was given.
pub fn state_dir(given: &Given) -> Option<(PathBuf, String)> {
    let value = given.first(&["dir", "roots-filepath"])?;
    Some((absolute(&value.text), value.origin.clone()))
}

fn absolute(path: &str) -> PathBuf {
    let path = Path::new(path.trim());
    // It fails where there is no working directory; then the path is refused for what it is.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Host and port in one.
fn address(given: &mut Given) -> (String, String) {
    let host = given.get("immudb-address").cloned();
    let port = given.get("immudb-port").cloned();
    let number = match &port {
        // As immuclient has it: what is no port is none.
        Some(value) if value.text.trim().parse::<i64>().is_ok_and(|port| port <= 0) => PORT,
        Some(_) => given.number("immudb-port", 1..=65_535).unwrap_or(PORT),
        None => PORT,
    };
    let mut origins: Vec<&str> = [&host, &port]
        .into_iter()
        .flatten()
        .map(|value| value.origin.as_str())
        .collect();
    if origins.is_empty() {
        origins.push(DEFAULT);
    }
    let origin = origins.join(", ");
    let name = host.as_ref().map_or(HOST, |host| host.text.trim());
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    let address = match plain.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{number}"),
        Ok(IpAddr::V4(ip)) => format!("{ip}:{number}"),
        Err(_) => {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !name.bytes().all(good)
                && let Some(host) = &host
            {
                let found = duration::shown(name);
                given.fault(
                    &host.origin,
                    format!("expected a host's name or address alone, found `{found}`; the port goes to --immudb-port"),
                );
                return (format!("{HOST}:{PORT}"), origin);
            }
            format!("{name}:{number}")
        }
    };
    (address, origin)
}

/// TLS with a certificate of our own, as `--mtls` has it; an empty file name leaves its part out.
fn tls(given: &mut Given, out: &mut Settings) {
    if !given.is_on("mtls") {
        return;
    }
    let origin = given.get("mtls").map(|value| value.origin.clone()).unwrap_or_default();
    out.section(4, "tls");
    let name = given.get("servername").cloned().unwrap_or_else(|| Value {
        text: "localhost".to_owned(),
        origin: DEFAULT.to_owned(),
    });
    out.text(5, "server_name", name.text.trim(), &name.origin);
    for (key, ours, what) in [
        (
            "clientcas",
            "ca_file",
            "the authorities of the server's certificate, in PEM form",
        ),
        ("certificate", "cert_file", "our certificate, in PEM form"),
        ("pkey", "key_file", "our certificate's private key, in PEM form"),
    ] {
        if let Some((file, origin)) = existing(given, key, what) {
            out.text(5, ours, &file, &origin);
        }
    }
    let both = [given.get("certificate"), given.get("pkey")];
    if both.iter().flatten().count() == 1 {
        given.fault(&origin, "expected --certificate and --pkey together");
    }
}

/// Where results are posted to: a webhook with immuclient's body.
fn notification(given: &mut Given, out: &mut Settings) {
    let Some(url) = given.get("audit-notification-url").cloned() else {
        return;
    };
    out.section(0, "sinks");
    out.section(1, "webhook");
    out.section(2, "notification");
    out.secret(3, "url", url.text.trim(), &url.origin);
    if url.text.trim().starts_with("http://") {
        out.plain(3, "insecure", true, DEFAULT);
        let says = "is plain http: the body and the password in it can be read on the way";
        given.warnings.push(format!("{}: {says}", url.origin));
    }
    out.text(3, "format", "immuclient", DEFAULT);
    out.text(3, "body", "event", DEFAULT);
    out.text(3, "request_timeout", "5s", DEFAULT);
    let user = given.get("audit-notification-username").cloned();
    let plain = given.get("audit-notification-password").cloned();
    if user.is_none() && plain.is_none() && given.get("audit-notification-password-file").is_none() {
        return;
    }
    out.section(3, "credentials");
    if let Some(user) = user {
        out.text(4, "username", &user.text, &user.origin);
    }
    match (
        plain,
        existing(given, "audit-notification-password-file", "that password"),
    ) {
        (Some(plain), Some((_, origin))) => {
            given.fault(
                &origin,
                format!("expected it alone, but {} is given, too", plain.origin),
            );
        }
        (Some(plain), None) => {
            out.secret(4, "password", &plain.text, &plain.origin);
            open_secret(given, "--audit-notification-password", &plain);
        }
        (None, Some((file, origin))) => out.text(4, "password_file", &file, &origin),
        (None, None) => {}
    }
}

/// Warns of a password that stands on the command line.
fn open_secret(given: &mut Given, flag: &str, value: &Value) {
    if value.origin == flag {
        let says = "everybody on this host can read it in the list of processes";
        given
            .warnings
            .push(format!("{flag}: {says}; {flag}-file keeps it secret"));
    }
}

/// A file that was given and is there, as an absolute path.
fn existing(given: &mut Given, key: &str, what: &str) -> Option<(String, String)> {
    let value = given.get(key)?.clone();
    let path = absolute(&value.text);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => {
            given.fault(
                &value.origin,
                format!("expected {what}, found a directory: {}", path.display()),
            );
        }
        Ok(_) => {}
        Err(error) => given.fault(
            &value.origin,
            format!("expected {what}, but {}: {error}", path.display()),
        ),
    }
    Some((path.to_string_lossy().into_owned(), value.origin))
}

/// An address to listen on.
fn listen_host(text: &str) -> Result<IpAddr, String> {
    let plain = text.trim().trim_start_matches('[').trim_end_matches(']');
    match plain {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        plain => plain.parse().map_err(|_| {
            format!(
                "expected an address such as 0.0.0.0, found `{}`",
                duration::shown(plain)
            )
        }),
    }
}
