//! Whom a receiver's certificate must come from, and what is wrong with one in plain words.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use auditmon_core::privileged::Control;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// Largest file of certificates, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, certificates from the authorities given.
///
/// # Errors
/// None that a caller could cause.
pub(crate) fn config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities that this host trusts.
///
/// # Errors
/// There are none.
pub(crate) fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        return Err(
            "this host has no certificates of authorities; install them (Debian: ca-certificates) or name \
                    the receiver's in `ca_file`"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// The authorities of a PEM file, and no others.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn file_roots(control: &Control, path: &Path) -> Result<RootCertStore, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = control.open(path).map_err(|error| error.to_string())?;
    let mut pem = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut pem)
        .map_err(|error| wrong(&error))?;
    if pem.len() as u64 > MAX_FILE {
        return Err(wrong(&"is larger than 4 MiB"));
    }
    let mut roots = RootCertStore::empty();
    for (number, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        if let Err(error) = added {
            return Err(wrong(&format_args!("certificate {}: {error}", number + 1)));
        }
    }
    if roots.is_empty() {
        return Err(wrong(
            &"holds no certificate; it needs the authority's in PEM form (-----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok(roots)
}

/// A fault of TLS in plain words, with what would mend it where that is known.
pub(crate) fn explain(error: &rustls::Error, own_roots: bool) -> String {
    let rustls::Error::InvalidCertificate(fault) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "speaks no TLS at that port".to_owned(),
            other => format!("TLS: {other}"),
        };
    };
    match fault {
        CertificateError::UnknownIssuer if own_roots => {
            "its certificate comes from none of the authorities in `ca_file`".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate comes from no authority that this host trusts; name the right one in `ca_file`".to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate was signed with another key than the authority has that it names; was that authority \
             replaced?"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this host's clock right?".to_owned()
        }
        other => format!("its certificate is not acceptable: {other}"),
    }
}
