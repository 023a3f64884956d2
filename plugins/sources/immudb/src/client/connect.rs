//! The connection to a server.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use auditmon_core::privileged::Control;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint as Target, Identity};

use crate::address::Endpoint;
use crate::config::TlsConfig;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// After so much silence the system asks whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How to connect; reads the files of certificates through the control thread, and waits for it.
///
/// # Errors
/// Which file, and what is wrong with it.
pub(crate) fn target(
    endpoint: &Endpoint,
    tls: Option<&TlsConfig>,
    timeout: Duration,
    control: &Control,
) -> Result<Target, String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let target = Target::from_shared(format!("{scheme}://{endpoint}")).map_err(|error| error.to_string())?;
    // No pings: a server of immudb's kind closes a connection that is pinged more than once in 5 minutes.
    let target = target
        .connect_timeout(CONNECT.min(timeout))
        .tcp_keepalive(Some(KEEPALIVE))
        .tcp_nodelay(true);
    let Some(tls) = tls else { return Ok(target) };
    let name = tls.server_name.as_deref().unwrap_or(endpoint.host());
    let mut config = ClientTlsConfig::new().domain_name(name);
    config = match &tls.ca_file {
        Some(file) => config.ca_certificate(Certificate::from_pem(read(control, file, "CERTIFICATE")?)),
        None => config.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
        config = config.identity(Identity::from_pem(
            read(control, cert, "CERTIFICATE")?,
            read(control, key, "PRIVATE KEY")?,
        ));
    }
    target.tls_config(config).map_err(|error| explain(&error))
}

/// A file in PEM form that holds a block of this name.
fn read(control: &Control, path: &Path, block: &str) -> Result<Vec<u8>, String> {
    let bytes = control.read_file(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.contains(block);
    if !text.lines().any(begins) {
        return Err(format!("{}: holds no {block} in PEM form", path.display()));
    }
    Ok(bytes)
}

/// The last cause of an error says what happened: `Connection refused`.
pub(crate) fn explain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    text
}
