//! Settings that have the right types and still can't work.

use std::net::SocketAddr;
use std::time::Duration;

use auditmon_core::plugin::Faults;

use super::{Http, Journal, Settings};

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
    /// Whether strangers could read what goes over the listener: plain HTTP beyond loopback.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tls.files().is_none() && !is_loopback(self.listen)
    }

    fn validate(&self, faults: &mut Faults) {
        let tls = &self.tls;
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => faults.add(
                "http.tls.cert_file",
                "expected `http.tls.key_file` beside it: a certificate is of no use without its key",
            ),
            (None, Some(_)) => faults.add(
                "http.tls.key_file",
                "expected `http.tls.cert_file` beside it: a key is of no use without its certificate",
            ),
            (None, None) if tls.client_ca_file.is_some() => faults.add(
                "http.tls.client_ca_file",
                "expected `http.tls.cert_file` and `http.tls.key_file` beside it: clients are asked for certificates over TLS only",
            ),
            _ => {}
        }
        let half = tls.cert_file.is_some() || tls.key_file.is_some();
        if self.is_open() && !half && !self.insecure {
            faults.add(
                "http.listen",
                format!(
                    "`{}` is reachable from other machines without TLS: expected `http.tls` with certificate and key, \
                     an address such as 127.0.0.1:{}, or `http.insecure: true` to allow it",
                    self.listen,
                    self.listen.port()
                ),
            );
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
    !host.is_empty() && !host.starts_with(':') && rest.bytes().all(good)
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
