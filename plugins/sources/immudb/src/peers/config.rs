//! Settings of `sources.immudb.peers`.

use std::net::IpAddr;
use std::path::PathBuf;

use auditmon_core::plugin::Faults;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// Most peers.
pub(crate) const MAX_PEERS: usize = 64;

/// Another agent that audits some of the same servers. Each of the two names the other.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerConfig {
    /// Where its listener is, such as `https://host-b.example.com:7984`.
    pub address: String,
    /// Its journal's verifier key, as `auditmon keys log` prints it there.
    pub log_key: String,
    /// The authorities that its certificate may come from, in PEM form, instead of the host's.
    #[schemars(extend("x-file" = "read"))]
    pub ca_file: Option<PathBuf>,
}

impl PeerConfig {
    /// Who it is.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        Identity::parse(&self.log_key)
    }

    /// Where its listener is.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn url(&self) -> Result<Url, String> {
        let wrong = |what: &str| format!("expected an address such as https://host-b.example.com:7984, {what}");
        let url = Url::parse(self.address.trim()).map_err(|error| wrong(&format!("found none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("found one of another kind"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("found more than host, port and path"));
        }
        Ok(url)
    }

    pub(crate) fn validate(&self, at: &str, faults: &mut Faults) {
        if let Err(error) = self.url() {
            faults.add(format!("{at}.address"), error);
        }
        if let Err(error) = self.identity() {
            faults.add(format!("{at}.log_key"), error);
        }
        if let Some(file) = self.ca_file.as_ref().filter(|file| !file.is_absolute()) {
            let text = format!("has to be an absolute path, here {}", file.display());
            faults.add(format!("{at}.ca_file"), text);
        }
    }

    pub(crate) fn warn(&self, at: &str, warnings: &mut Faults) {
        let open = self.url().is_ok_and(|url| url.scheme() == "http" && !is_local(&url));
        if open {
            let text = "is plain http: who listens on the way learns the states, and can pretend to be this agent";
            warnings.add(format!("{at}.address"), text);
        }
    }
}

/// Whether it is this host, as far as the name tells.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    plain
        .parse::<IpAddr>()
        .map_or(plain == "localhost", |address| address.is_loopback())
}
