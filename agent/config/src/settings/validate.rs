//! Settings that have the right types and still can't work.

use std::net::SocketAddr;
use std::time::Duration;

use auditmon_core::plugin::Faults;

use super::{Http, Journal, Listener, Settings, Tls};

/// Levels of log lines.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl Settings {
    /// Finds impossible settings; pure. Paths are full ones.
    pub fn validate(&self, faults: &mut Faults) {
        if self.data_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            faults.add("data_dir", "expected a directory, found nothing");
        }
        if let Some(host) = &self.host
            && (host.is_empty()
                || host.len() > 253
                || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '+'))
        {
            faults.add(
                "host",
                format!("expected a host name of 1 to 253 characters without blanks, `/` or `+`, found {host:?}"),
            );
        }
        if let Some(user) = &self.run_as
            && (user.is_empty() || user.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':'))
        {
            faults.add("run_as", format!("expected a user's name or number, found {user:?}"));
        }
        self.http.validate(faults);
        self.journal.validate(faults);
        if let Some(level) = &self.logging.level
            && let Err(says) = check_level(level)
        {
            faults.add("logging.level", says);
        }
    }
}

impl Http {
    /// Most connections of all listeners together.
    #[must_use]
    pub fn all_connections(&self) -> usize {
        let further = self.listeners.values().map(|listener| listener.max_connections);
        further.fold(self.max_connections, usize::saturating_add)
    }

    /// Whether strangers could read what goes over the listener: plain HTTP beyond loopback.
    #[must_use]
    pub fn is_open(&self) -> bool {
        is_open(self.listen, &self.tls)
    }

    fn validate(&self, faults: &mut Faults) {
        validate_address("http", self.listen, self.insecure, &self.tls, faults);
        let mut taken = vec![(self.listen, "http.listen".to_owned())];
        for (name, listener) in &self.listeners {
            let path = format!("http.listeners.{name}");
            listener.validate(&path, name, faults);
            let Some(listen) = listener.listen else { continue };
            let key = format!("{path}.listen");
            let same = |(other, _): &&(SocketAddr, String)| *other == listen && listen.port() != 0;
            match taken.iter().find(same) {
                Some((_, other)) => faults.add(key, format!("expected another address than `{other}`, found the same")),
                None => taken.push((listen, key)),
            }
        }
        if let Some(url) = &self.root_url
            && !is_root_url(url)
        {
            faults.add(
                "http.root_url",
                format!("expected an address such as https://audit.example.org/auditmon, found {url:?}"),
            );
        }
        if self.memory.0 < 1 << 20 {
            faults.add("http.memory", format!("expected at least 1MiB, found {}", self.memory));
        }
        for (name, span) in [
            ("head_timeout", self.head_timeout),
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
        ] {
            if span.0.is_zero() {
                faults.add(format!("http.{name}"), format!("expected more than 0s, found {span}"));
            }
        }
    }
}

impl Listener {
    /// Whether strangers could read what goes over it: plain HTTP beyond loopback.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.listen.is_some_and(|listen| is_open(listen, &self.tls))
    }

    fn validate(&self, path: &str, name: &str, faults: &mut Faults) {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if !(1..=40).contains(&name.len()) || !name.bytes().all(good) {
            let shown = crate::nearest::shown(name);
            faults.add(
                path,
                format!("expected a name of 1–40 of a–z, 0–9, `-` and `_`, found `{shown}`"),
            );
            return;
        }
        match self.listen {
            Some(listen) => validate_address(path, listen, self.insecure, &self.tls, faults),
            None => faults.add(
                path,
                "expected `listen` with an address and a port, such as 127.0.0.1:9100",
            ),
        }
    }
}

fn is_open(listen: SocketAddr, tls: &Tls) -> bool {
    tls.files().is_none() && !is_loopback(listen)
}

/// The address of a listener and what protects it; `path` is that of its section.
fn validate_address(path: &str, listen: SocketAddr, insecure: bool, tls: &Tls, faults: &mut Faults) {
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => faults.add(
            format!("{path}.tls.cert_file"),
            format!("expected `{path}.tls.key_file` beside it: a certificate is of no use without its key"),
        ),
        (None, Some(_)) => faults.add(
            format!("{path}.tls.key_file"),
            format!("expected `{path}.tls.cert_file` beside it: a key is of no use without its certificate"),
        ),
        (None, None) if tls.client_ca_file.is_some() => faults.add(
            format!("{path}.tls.client_ca_file"),
            format!(
                "expected `{path}.tls.cert_file` and `{path}.tls.key_file` beside it: clients are asked for \
                 certificates over TLS only"
            ),
        ),
        _ => {}
    }
    let half = tls.cert_file.is_some() || tls.key_file.is_some();
    if is_open(listen, tls) && !half && !insecure {
        faults.add(
            format!("{path}.listen"),
            format!(
                "`{listen}` is reachable from other machines without TLS: expected `{path}.tls` with certificate and \
                 key, an address such as 127.0.0.1:{}, or `{path}.insecure: true` to allow it",
                listen.port()
            ),
        );
    }
}

fn is_loopback(listen: SocketAddr) -> bool {
    listen.ip().to_canonical().is_loopback()
}

/// Scheme, host, perhaps port and path; nothing that could carry a secret or confuse a link.
fn is_root_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return false;
    };
    let host = rest.split('/').next().unwrap_or_default();
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b);
    let path = rest.trim_end_matches('/');
    // A link that begins with two slashes leads to another host.
    !host.is_empty() && !host.starts_with(':') && rest.bytes().all(good) && !path.contains("//")
}

impl Journal {
    fn validate(&self, faults: &mut Faults) {
        let segment = self.segment_size;
        if !(64 << 10..=1 << 30).contains(&segment.0) {
            faults.add(
                "journal.segment_size",
                format!("expected 64KiB to 1GiB, found {segment}"),
            );
        }
        if let Some(max) = self.max_size
            && max.0 < segment.0.saturating_mul(4)
        {
            faults.add(
                "journal.max_size",
                format!("expected at least four segments of {segment}, found {max}"),
            );
        }
        let interval = self.checkpoint_interval;
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&interval.0) {
            faults.add(
                "journal.checkpoint_interval",
                format!("expected 100ms to 1m, found {interval}"),
            );
        }
        if self.hot.0 > 1 << 30 {
            faults.add("journal.hot", format!("expected at most 1GiB, found {}", self.hot));
        }
    }
}

/// A level, or directives: `level`, `target`, `target=level`, with commas.
fn check_level(text: &str) -> Result<(), String> {
    let right = "expected `error`, `warn`, `info`, `debug` or `trace`, or directives such as \
                 `info,auditmon_journal=debug`";
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    if text.trim().is_empty() {
        return Err(format!("{right}, found nothing"));
    }
    for part in text.split(',') {
        let part = part.trim();
        let good = match part.rsplit_once('=') {
            Some((target, level)) => !target.is_empty() && is_level(level),
            // A word alone is a level, unless it names a module of ours.
            None => is_level(part) || part.starts_with("auditmon") || part.contains("::"),
        };
        if !good {
            let near = crate::nearest::phrase(part.rsplit('=').next().unwrap_or(part), LEVELS);
            return Err(format!("{right}, found `{}`{near}", crate::nearest::shown(part)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_root_url;

    #[test]
    fn a_root_url_makes_good_links() {
        for good in [
            "https://a",
            "http://[::1]:7984/x/y/",
            "https://audit.example.org/auditmon",
        ] {
            assert!(is_root_url(good), "{good}");
        }
        // The second would make links to the host `evil`.
        for bad in [
            "a/b",
            "https://a//evil",
            "https://a/x//y",
            "https://u@a",
            "https://a?x",
            "https://",
        ] {
            assert!(!is_root_url(bad), "{bad}");
        }
    }
}
