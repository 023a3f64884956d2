//! TLS of a listener: certificate, key and clients' authority from PEM files, which are followed while it runs.
//!
//! A renewed certificate takes effect within [`FOLLOW`]; a bad one is told once, and the old one goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auditmon_core::privileged::ConfiguredFile;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Mounted secrets are exchanged by renaming directories, which no watch on the
/// file itself would see.
const FOLLOW: Duration = Duration::from_secs(5);

/// Reads a configured file, which may be readable by the control thread only.
pub(crate) type ReadFile = Arc<dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync>;

/// Where certificate and key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TlsFiles {
    /// Where the configuration names them, for errors: `http.tls`.
    pub(crate) section: String,
    /// The certificate with its chain, leaf first.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Authorities of clients' certificates; with it, clients without one are refused.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Why files can't be used for TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{key}: {path}: {why}")]
    File {
        /// Its path in the configuration.
        key: String,
        path: PathBuf,
        why: String,
    },
    #[error("{section}: {cert} and {key} can't be used: {why}")]
    Pair {
        section: String,
        cert: PathBuf,
        key: PathBuf,
        why: String,
    },
}

/// TLS as it is at present.
pub(crate) struct Tls {
    read: ReadFile,
    present: Mutex<Present>,
}

/// What files hold, found good.
pub(crate) struct Checked {
    files: TlsFiles,
    config: Arc<ServerConfig>,
    digest: [u8; 32],
}

struct Present {
    files: TlsFiles,
    config: Arc<ServerConfig>,
    /// Of the files' contents.
    digest: [u8; 32],
    /// What was told of the files last, if they could not be used.
    told: Option<String>,
}

impl Tls {
    /// Reads the files; blocking.
    pub(crate) fn load(files: TlsFiles, read: ReadFile) -> Result<Self, TlsError> {
        let (config, digest) = files.read(&read)?;
        let present = Mutex::new(Present {
            files,
            config,
            digest,
            told: None,
        });
        Ok(Self { read, present })
    }

    /// Reads other files, or the same again; blocking.
    pub(crate) fn check(&self, files: TlsFiles) -> Result<Checked, TlsError> {
        let (config, digest) = files.read(&self.read)?;
        Ok(Checked { files, config, digest })
    }

    /// Puts them to work; tells whether they are others.
    pub(crate) fn put(&self, new: Checked) -> bool {
        let mut present = self.present.lock();
        present.told = None;
        present.files = new.files;
        if present.digest == new.digest {
            return false;
        }
        present.config = new.config;
        present.digest = new.digest;
        true
    }

    pub(crate) fn files(&self) -> TlsFiles {
        self.present.lock().files.clone()
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.present.lock().config))
    }

    /// Reads the files again; tells whether they changed. What is at work stays if they can't be used.
    pub(crate) fn renew(&self) -> Result<bool, TlsError> {
        self.check(self.files()).map(|checked| self.put(checked))
    }

    /// Follows the files until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(FOLLOW)).await.is_some() {
            let tls = Arc::clone(&self);
            // Only a fault of the program can end the thread; the next round tells.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    fn look(&self) {
        match self.renew() {
            Ok(false) => {}
            Ok(true) => tracing::info!(cert = %self.files().cert.display(), "the certificate was renewed"),
            Err(error) => {
                let text = error.to_string();
                let told = self.present.lock().told.replace(text.clone());
                // While files are being exchanged they may not fit for a moment; the same fault is told once.
                if told.as_ref() != Some(&text) {
                    tracing::warn!("{text}; the certificate before goes on");
                }
            }
        }
    }
}

impl TlsFiles {
    /// What is at work has to stay readable, whatever the configuration names by now.
    pub(crate) fn configured(self) -> Vec<ConfiguredFile> {
        let file = |path, secret| ConfiguredFile { path, secret };
        let mut files = vec![file(self.cert, false), file(self.key, true)];
        files.extend(self.client_ca.map(|path| file(path, false)));
        files
    }

    fn read(&self, read: &ReadFile) -> Result<(Arc<ServerConfig>, [u8; 32]), TlsError> {
        let open = |key, path: &Path| read(path).map_err(|error| self.fault(key, path, error));
        let cert = open("cert_file", &self.cert)?;
        let key = open("key_file", &self.key)?;
        let client_ca = match &self.client_ca {
            Some(path) => Some(open("client_ca_file", path)?),
            None => None,
        };
        let mut digest = Sha256::new();
        for part in [Some(&cert), Some(&key), client_ca.as_ref()].into_iter().flatten() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let config = self.config(&cert, &key, client_ca.as_deref())?;
        Ok((Arc::new(config), digest.finalize().into()))
    }

    fn fault(&self, key: &str, path: &Path, why: impl std::fmt::Display) -> TlsError {
        TlsError::File {
            key: format!("{}.{key}", self.section),
            path: path.to_owned(),
            why: why.to_string(),
        }
    }

    fn config(&self, cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<ServerConfig, TlsError> {
        let chain = self.certificates("cert_file", &self.cert, cert)?;
        // The error's text could quote the file.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            let why = "there is no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted) in it";
            self.fault("key_file", &self.key, why)
        })?;
        let pair = |why: rustls::Error| TlsError::Pair {
            section: self.section.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            why: why.to_string(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match (client_ca, &self.client_ca) {
            (Some(text), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for authority in self.certificates("client_ca_file", path, text)? {
                    roots
                        .add(authority)
                        .map_err(|error| self.fault("client_ca_file", path, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| self.fault("client_ca_file", path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn certificates(&self, key: &str, path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(self.fault(key, path, "there is no certificate in PEM form in it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Files = Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files(entries: &[(&str, &str)]) -> (Files, ReadFile) {
        let files: Files = Arc::default();
        for (path, text) in entries {
            files.lock().insert(path.into(), text.as_bytes().to_vec());
        }
        let inner = Arc::clone(&files);
        let read: ReadFile = Arc::new(move |path| {
            inner
                .lock()
                .get(path)
                .cloned()
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        (files, read)
    }

    fn paths(client_ca: Option<&str>) -> TlsFiles {
        TlsFiles {
            section: "http.tls".to_owned(),
            cert: "cert".into(),
            key: "key".into(),
            client_ca: client_ca.map(Into::into),
        }
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
        let (cert, key) = made();
        let (files, read) = files(&[("cert", &cert), ("key", &key)]);
        let tls = Tls::load(paths(None), read).unwrap();
        let first = Arc::as_ptr(&tls.present.lock().config);
        assert!(!tls.renew().unwrap());
        assert_eq!(first, Arc::as_ptr(&tls.present.lock().config), "nothing changed");
        let (cert, other) = made();
        files.lock().insert("cert".into(), cert.into_bytes());
        // Certificate and key don't fit each other: exchanged one after the other.
        assert!(tls.renew().is_err());
        assert_eq!(first, Arc::as_ptr(&tls.present.lock().config));
        files.lock().insert("key".into(), other.into_bytes());
        assert!(tls.renew().unwrap());
        assert_ne!(first, Arc::as_ptr(&tls.present.lock().config));
    }

    #[test]
    fn faults_name_key_and_file_and_quote_nothing() {
        let (cert, key) = made();
        let fault = |entries: &[(&str, &str)], client_ca| {
            let (_, read) = files(entries);
            Tls::load(paths(client_ca), read).err().unwrap().to_string()
        };
        let text = fault(&[("key", &key)], None);
        assert!(text.starts_with("http.tls.cert_file: cert: "), "{text}");
        let text = fault(&[("cert", "-----BEGIN X-----"), ("key", &key)], None);
        assert!(text.contains("cert_file: cert: there is no certificate"), "{text}");
        let text = fault(&[("cert", &cert), ("key", "hunter2")], None);
        assert!(text.contains("key_file: key: there is no private key") && !text.contains("hunter2"));
        let text = fault(&[("cert", &cert), ("key", &made().1)], None);
        assert!(text.starts_with("http.tls: cert and key can't be used: "), "{text}");
        let text = fault(&[("cert", &cert), ("key", &key), ("ca", &key)], Some("ca"));
        assert!(text.starts_with("http.tls.client_ca_file: ca: "), "{text}");
    }
}
