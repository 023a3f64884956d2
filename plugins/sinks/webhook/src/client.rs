//! One POST and what became of it.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect, retry};
use rustls::{ClientConfig, RootCertStore};

use crate::answer::{Meaning, retry_after};
use crate::secret::Secrets;
use crate::signature::Keys;
use crate::tls;

/// Most of an answer's body that is read.
const MAX_BODY: usize = 4 << 10;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is closed before the other side does it: common servers wait 5 s and more.
const IDLE: Duration = Duration::from_secs(4);
/// An HTTP/2 connection that answers no ping for so long is given up, and its requests with it.
const PING: Duration = Duration::from_secs(5);

/// What became of a POST.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The receiver has the events.
    Delivered,
    /// The receiver will never take what was sent.
    Refused(String),
    /// The same has to be sent again.
    Later(Later),
    /// The receiver wants no more events, ever.
    Gone(String),
}

/// Why something has to be sent again.
#[derive(Debug)]
pub(crate) struct Later {
    /// What was wrong.
    pub(crate) reason: String,
    /// When, if the receiver said so.
    pub(crate) after: Option<Duration>,
    /// It is the same for all events, so that nothing else needs to be tried now.
    pub(crate) whole: bool,
}

/// What a client is made of.
pub(crate) struct Parts {
    pub(crate) url: Url,
    /// Of the configuration; values that are secrets are marked as sensitive.
    pub(crate) headers: HeaderMap,
    pub(crate) keys: Option<Keys>,
    /// Authorities from `ca_file`; else the host's.
    pub(crate) roots: Option<RootCertStore>,
    /// For one request, from connecting to the end of the answer.
    pub(crate) timeout: Duration,
    pub(crate) workers: usize,
    /// What no text of ours may hold.
    pub(crate) secrets: Secrets,
    /// The only statuses that say that the receiver has the events; empty for all successes.
    pub(crate) delivered: &'static [u16],
}

/// Sends to one address.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    /// The part of the address that may be shown: a path or a query can be a secret.
    shown: String,
    headers: HeaderMap,
    keys: Option<Keys>,
    own_roots: bool,
    timeout: Duration,
    secrets: Secrets,
    delivered: &'static [u16],
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// No authority can be found to trust.
    pub(crate) fn new(parts: Parts) -> Result<Self, String> {
        let own_roots = parts.roots.is_some();
        let roots = match parts.roots {
            Some(roots) => roots,
            None if parts.url.scheme() == "https" => tls::system_roots()?,
            None => RootCertStore::empty(),
        };
        let tls: ClientConfig = tls::config(roots)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("auditmon/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .timeout(parts.timeout)
            .connect_timeout(parts.timeout.min(CONNECT))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(parts.workers)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_max_header_list_size(16 << 10)
            .build()
            .map_err(|error| cause(&error.without_url()))?;
        Ok(Self {
            http,
            shown: parts.url.origin().ascii_serialization(),
            url: parts.url,
            headers: parts.headers,
            keys: parts.keys,
            own_roots,
            timeout: parts.timeout,
            secrets: parts.secrets,
            delivered: parts.delivered,
        })
    }

    /// Sends a body once. `id` is the same for the same events.
    pub(crate) async fn post(&self, id: &str, content_type: &'static str, body: Vec<u8>) -> Answer {
        let timestamp = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut request = self
            .http
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, content_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if let Some(keys) = &self.keys {
            request = request.header("webhook-signature", keys.sign(id, timestamp, &body));
        }
        match request.body(body).send().await {
            Ok(response) => self.answered(response).await,
            Err(error) => Answer::Later(self.failed(&error.without_url())),
        }
    }

    async fn answered(&self, mut response: Response) -> Answer {
        let status = response.status();
        let mut meaning = Meaning::of(status);
        if meaning == Meaning::Delivered && !self.delivered.is_empty() && !self.delivered.contains(&status.as_u16()) {
            meaning = Meaning::Refused;
        }
        if meaning == Meaning::Elsewhere {
            return Answer::Later(self.elsewhere(&response));
        }
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, SystemTime::now()));
        let body = read_some(&mut response).await;
        if meaning == Meaning::Delivered {
            return Answer::Delivered;
        }
        let reason = match self.secrets.excerpt(&body) {
            Some(text) => format!("{} answered {}: {text}", self.shown, name(status)),
            None => format!("{} answered {}", self.shown, name(status)),
        };
        match meaning {
            Meaning::Refused => Answer::Refused(reason),
            Meaning::Gone => Answer::Gone(format!(
                "{reason}; it wants no more events: nothing is sent until `url` is changed or the sink turned off"
            )),
            _ => Answer::Later(Later {
                reason,
                after,
                // Who names a time means all requests.
                whole: meaning == Meaning::NothingNow || after.is_some(),
            }),
        }
    }

    /// Names the host only: where a redirect leads is the other side's text, and paths can be secrets.
    fn elsewhere(&self, response: &Response) -> Later {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| self.url.join(value).ok())
            .map(|url| match url.origin().ascii_serialization() {
                opaque if opaque == "null" => "something that is no web address".to_owned(),
                shown => self.secrets.excerpt(shown.as_bytes()).unwrap_or_default(),
            });
        let to = target.unwrap_or_else(|| "nowhere".to_owned());
        Later {
            reason: format!(
                "{} answered {} and points to {to}; redirects are not followed: `url` has to be the final address",
                self.shown,
                name(response.status())
            ),
            after: None,
            whole: true,
        }
    }

    /// No answer at all. The error is without its URL.
    fn failed(&self, error: &reqwest::Error) -> Later {
        let what = if let Some(fault) = tls_fault(error) {
            tls::explain(fault, self.own_roots)
        } else if error.is_timeout() && error.is_connect() {
            format!("no connection within {}", seconds(self.timeout.min(CONNECT)))
        } else if error.is_timeout() {
            format!("no answer within {}", seconds(self.timeout))
        } else if error.is_connect() {
            format!("can't be reached: {}", cause(error))
        } else {
            format!("the connection failed before an answer: {}", cause(error))
        };
        Later {
            reason: format!("{}: {what}", self.shown),
            after: None,
            whole: error.is_connect() || error.is_builder(),
        }
    }
}

/// The beginning of a body. A connection whose answer is read to its end can be used again.
async fn read_some(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    // The status has said all that counts: what goes wrong from here on changes nothing.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}

fn tls_fault(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<rustls::Error>() {
            return Some(fault);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The innermost cause, which says most.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn name(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(words) => format!("{} {words}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn seconds(time: Duration) -> String {
    auditmon_core::units::Span(time).to_string()
}
