//! Asks a peer for the states that it has seen, and tells it those seen here.

use std::sync::Arc;
use std::time::Duration;

use auditmon_core::privileged::Control;
use auditmon_core::time;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode, Url, redirect, retry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::config::PeerConfig;
use super::hub::{Hub, Way};
use super::identity;
use super::message::Message;
use super::silence::Silence;
use super::{CHECKPOINT, MAX_BODY, PATH};

/// For one exchange, from connecting to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is closed before the other side does it.
const IDLE: Duration = Duration::from_secs(4);

/// The way to a peer.
pub(crate) struct Caller {
    http: reqwest::Client,
    pub(crate) url: Url,
}

impl Caller {
    /// # Errors
    /// What is wrong with the settings or the file.
    pub(crate) fn new(peer: &PeerConfig, control: &Control) -> Result<Self, String> {
        let mut url = peer.url()?;
        let path = format!("{}{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let roots = match &peer.ca_file {
            Some(file) => {
                let pem = control.read_file(file).map_err(|error| error.to_string())?;
                let wrong = |what: String| format!("{}: {what}", file.display());
                roots(&pem).map_err(wrong)?
            }
            None if url.scheme() == "https" => system_roots()?,
            None => RootCertStore::empty(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("auditmon/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, url })
    }
}

/// The authorities of a PEM file, and no others.
fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM form".to_owned());
    }
    Ok(roots)
}

/// The authorities that this host trusts.
fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if good == 0 {
        return Err("this host has no certificates of authorities; name the peer's in `ca_file`".to_owned());
    }
    Ok(roots)
}

/// Asks a peer every interval until it is told to stop.
pub(crate) async fn run(hub: Arc<Hub>, peer: usize, interval: Duration, stop: CancellationToken) {
    let work = async {
        let name = hub.peers[peer].identity.name();
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failed, mut silence) = (None, Silence::default());
        loop {
            tick.tick().await;
            let asks = hub.checkpoint().is_some();
            let said = hub.ask(peer).await;
            let now = time::now();
            hub.metrics.asked(name, said.is_ok(), now as f64 / 1e9);
            // Without a checkpoint of this journal nobody was asked.
            if let Some(news) = silence.take(said.is_ok(), now).filter(|_| asks) {
                silence.tell(&hub, peer, news, said.as_ref().err()).await;
            }
            match said {
                Ok(()) => {
                    if failed.take().is_some() {
                        tracing::info!(peer = name, "immudb: the peer answers again");
                    }
                }
                Err(why) => {
                    if failed.as_ref() != Some(&why) {
                        tracing::warn!(peer = name, "immudb: no states of the peer: {why}");
                    }
                    failed = Some(why);
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

impl Hub {
    /// One exchange.
    async fn ask(&self, peer: usize) -> Result<(), String> {
        let (identity, caller) = (&self.peers[peer].identity, &self.peers[peer].caller);
        let checkpoint = self
            .checkpoint()
            .ok_or("this journal has no checkpoint yet to show who asks")?;
        // Numbers and texts: nothing that can't be written.
        let body = serde_json::to_vec(&self.all()).unwrap_or_default();
        let request = caller.http.post(caller.url.clone());
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(CHECKPOINT, checkpoint)
            .body(body);
        let mut answer = request.send().await.map_err(|error| cause(&error))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let more = match status {
                StatusCode::FORBIDDEN => ": it doesn't have this journal's key among its `peers`",
                StatusCode::NOT_FOUND => ": it has no `peers`, or another service answers there",
                _ => "",
            };
            return Err(format!("it answers {status}{more}"));
        }
        let signed = answer.headers().get(CHECKPOINT);
        let signed = signed.and_then(|header| identity::note(header.as_bytes()));
        if !signed.is_some_and(|note| identity.signed(&note)) {
            return Err("what answers there has no checkpoint of this peer's `log_key`".to_owned());
        }
        let body = read(&mut answer).await?;
        let message = Message::read(&body).map_err(|error| format!("its answer can't be read: {error}"))?;
        self.take((peer, Way::Answer), &message);
        Ok(())
    }
}

/// The answer's body.
async fn read(answer: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| cause(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err("its answer has more than 8 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The last cause of an error says what happened: `Connection refused`.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    crate::client::connect::explain(error)
}
