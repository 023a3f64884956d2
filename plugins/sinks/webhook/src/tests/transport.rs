//! TLS: whose certificates are good, and what is said of others.

use std::path::PathBuf;
use std::sync::Arc;

use auditmon_core::delivery::Receipt;
use axum::http::{StatusCode, Version};
use axum::response::IntoResponse as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::receiver::Receiver;
use super::support::{events, file, open, reason, sink, write};

/// An authority with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    dir: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = TempDir::new().unwrap();
        let file = file(dir.path(), "ca.pem", 0o644, params.self_signed(&key).unwrap().pem());
        Self {
            issuer: Issuer::new(params, key),
            file,
            dir,
        }
    }

    /// A server whose certificate is for `name`, with changes.
    fn server(&self, name: &str, protocols: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn receiver(tls: TlsAcceptor) -> Receiver {
    Receiver::with(Some(tls), |_| Box::pin(async { StatusCode::OK.into_response() })).await
}

/// What is said of a server whose certificate is not good.
async fn refused(tls: TlsAcceptor, ca_file: &PathBuf) -> String {
    let receiver = receiver(tls).await;
    let mut sink = sink(&receiver.url, json!({"ca_file": ca_file, "workers": 1}));
    let receipt = write(&mut sink, &events(&["alice", "bob"]).await).await;
    assert_eq!(receipt.pending, [0, 1]);
    assert_eq!(receiver.got().len(), 0, "nothing may be sent to it");
    assert_eq!(receiver.connections(), 1, "the same for all events");
    reason(&receipt).to_owned()
}

#[tokio::test]
async fn a_receiver_of_the_own_authority_is_trusted() {
    let authority = Authority::new("own");
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let receiver = receiver(authority.server("localhost", protocols, |_| ())).await;
        let mut sink = sink(&receiver.url, json!({"ca_file": authority.file}));
        assert_eq!(write(&mut sink, &events(&["alice", "bob"]).await).await, Receipt::all());
        let versions: Vec<Version> = receiver.got().iter().map(|received| received.version).collect();
        assert_eq!(versions, [version, version]);
    }
}

#[tokio::test]
async fn several_authorities_may_stand_in_the_file() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let both = [&one, &two].map(|authority| std::fs::read_to_string(&authority.file).unwrap());
    let both = file(one.dir.path(), "both.pem", 0o644, both.concat());
    let receiver = receiver(two.server("localhost", &[], |_| ())).await;
    let mut sink = sink(&receiver.url, json!({"ca_file": both}));
    assert_eq!(write(&mut sink, &events(&["alice"]).await).await, Receipt::all());
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_told_in_words() {
    let (own, other, replaced) = (Authority::new("own"), Authority::new("other"), Authority::new("own"));
    let said = refused(other.server("localhost", &[], |_| ()), &own.file).await;
    assert!(
        said.ends_with("its certificate comes from none of the authorities in `ca_file`"),
        "{said}"
    );

    let said = refused(replaced.server("localhost", &[], |_| ()), &own.file).await;
    assert!(said.contains("with another key"), "{said}");

    let said = refused(own.server("elsewhere.example", &[], |_| ()), &own.file).await;
    assert!(said.ends_with("its certificate is for another name"), "{said}");

    let said = refused(
        own.server("localhost", &[], |params| params.not_after = date_time_ymd(2020, 1, 1)),
        &own.file,
    )
    .await;
    assert!(said.ends_with("its certificate has expired"), "{said}");

    let said = refused(
        own.server("localhost", &[], |params| params.not_before = date_time_ymd(2200, 1, 1)),
        &own.file,
    )
    .await;
    assert!(said.contains("is not valid yet"), "{said}");
}

#[test]
fn an_authority_that_the_host_does_not_know_can_be_named() {
    let fault = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let said = crate::tls::explain(&fault, false);
    assert!(said.contains("name the right one in `ca_file`"), "{said}");
}

#[tokio::test]
async fn plain_http_and_tls_do_not_meet() {
    let authority = Authority::new("own");
    let plain = Receiver::new(|_| StatusCode::OK).await;
    let mut to_plain = sink(
        &plain.url.replace("http:", "https:"),
        json!({"ca_file": authority.file}),
    );
    let receipt = write(&mut to_plain, &events(&["alice"]).await).await;
    assert!(reason(&receipt).contains("speaks no TLS at that port"), "{receipt:?}");

    let tls = receiver(authority.server("localhost", &[], |_| ())).await;
    let mut to_tls = sink(&tls.url.replace("https:", "http:"), json!({}));
    let receipt = write(&mut to_tls, &events(&["alice"]).await).await;
    assert_eq!((receipt.pending, tls.got().len()), (vec![0], 0));
}

#[test]
fn a_file_without_authorities_is_refused() {
    let dir = TempDir::new().unwrap();
    let config = |path: &PathBuf| super::support::config("https://localhost/", json!({"ca_file": path}));
    let key = KeyPair::generate().unwrap().serialize_pem();
    for (name, text, says) in [
        ("empty.pem", String::new(), "holds no certificate"),
        ("key.pem", key, "holds no certificate"),
        (
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "certificate 1: ",
        ),
    ] {
        let path = file(dir.path(), name, 0o644, text);
        let error = open(config(&path)).err().unwrap();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
    let none = dir.path().join("none.pem");
    assert!(open(config(&none)).err().unwrap().contains("No such file"));
    assert!(
        open(config(&dir.path().to_owned()))
            .err()
            .unwrap()
            .contains("not a regular file")
    );
}
