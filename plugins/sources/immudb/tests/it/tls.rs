//! TLS: whose certificate counts, under which name, and with which of ours.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::trial::{Trial, section};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A server that asks for no certificate.
    pub fn listener(&self, name: &str) -> rustls::ServerConfig {
        let (cert, key) = self.sign(name);
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap()
    }

    /// A server that asks for a certificate of this authority.
    fn server(&self, name: &str) -> rustls::ServerConfig {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (cert, key) = self.sign(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&self.pem)).unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![der(&cert)], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

#[tokio::test]
async fn the_right_authority_name_and_certificate_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        // A key is refused unless it is its owner's alone.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        json!(path)
    };
    let (ours, other) = (Authority::new(), Authority::new());
    let (cert, key) = ours.sign("auditor");
    let good = json!({
        "ca_file": file("ca.pem", &ours.pem),
        "cert_file": file("cert.pem", &cert),
        "key_file": file("key.pem", &key),
        "server_name": "immudb.internal",
    });
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(ours.server("immudb.internal")));
    let fake = Fake::start_with(Some(tls)).await;
    fake.change(|world| world.grow("defaultdb", 2, 0));
    let other = file("other.pem", &other.pem);
    for (change, works) in [
        (json!({}), true),
        (json!({"ca_file": other}), false),
        (json!({"server_name": null}), false),
        (json!({"cert_file": null, "key_file": null}), false),
    ] {
        let mut tls = good.clone();
        for (key, value) in change.as_object().unwrap() {
            tls[key] = value.clone();
        }
        let mut all = section(&fake);
        all["servers"][0]["tls"] = tls;
        let mut trial = Trial::start(all).await;
        if works {
            trial.first("defaultdb").await;
        } else {
            trial
                .ever("it is refused", |event| event["event_data"]["reason"] == "unreachable")
                .await;
        }
        trial.stop().await;
    }
    // Plain text is no way around.
    let mut all = section(&fake);
    all["servers"][0]["tls"] = Value::Null;
    let mut trial = Trial::start(all).await;
    trial
        .next("it says so", |event| event["event_data"]["result"] == "error")
        .await;
    trial.stop().await;
}
