//! `sinks.webhook.NAME`.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use auditmon_codec::{Format, Framing};
use auditmon_core::delivery::{BatchLimits, Delivery};
use auditmon_core::plugin::{BuildContext, BuiltSink, Faults, PluginConfig, PluginError};
use auditmon_core::privileged::Control;
use auditmon_core::units::{Size, Span};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, Address};
use crate::client::{Client, Parts};
use crate::credentials::CredentialsConfig;
use crate::headers::Headers;
use crate::order::Order;
use crate::secret::{self, Secrets};
use crate::signature::Keys;
use crate::sink::Webhook;
use crate::tls;

/// Most requests at once.
const MAX_WORKERS: u32 = 64;
/// Smallest and largest `max_body`.
const BODY: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 20;
/// Statuses that immuclient takes for a success.
const NOTIFIED: &[u16] = &[200, 201, 202, 204];
/// Longest `request_timeout`.
const MAX_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// One receiver. Keys that all sinks have (`batch`, `timeout`, `retry`, `when_behind`, `from`) are the runtime's.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where events are posted to, `https://…`; or `url_file`.
    #[schemars(extend("x-secret" = true))]
    pub url: Option<Address>,
    /// A file that holds the address, for addresses that are secrets themselves.
    #[schemars(extend("x-file" = "secret"))]
    pub url_file: Option<PathBuf>,
    /// Allows plain `http://` beyond this host.
    pub insecure: bool,
    /// What an event looks like.
    pub format: Format,
    /// Who the format `immuclient` says it is from, in the body.
    pub credentials: Option<CredentialsConfig>,
    /// How events stand in a request.
    pub body: Framing,
    /// Largest body that holds several events, 1 KiB to 16 MiB; one event alone may be larger.
    pub max_body: Size,
    /// Most requests at once, 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,
    /// Which events stay in order.
    pub order: Order,
    /// For one request, from connecting to the end of the answer; at most 5 minutes.
    pub request_timeout: Span,
    /// A file that holds the key, or keys, for signatures as Standard Webhooks has them.
    #[schemars(extend("x-file" = "secret"))]
    pub secret_file: Option<PathBuf>,
    /// A file that holds the token for `Authorization: Bearer`.
    #[schemars(extend("x-file" = "secret"))]
    pub bearer_file: Option<PathBuf>,
    /// Further headers, at most 32.
    #[schemars(extend("x-secret" = true))]
    pub headers: Headers,
    /// A file with further headers, `Name: value` a line.
    #[schemars(extend("x-file" = "secret"))]
    pub headers_file: Option<PathBuf>,
    /// The authorities that the receiver's certificate may come from, in PEM form, instead of the host's.
    #[schemars(extend("x-file" = "read"))]
    pub ca_file: Option<PathBuf>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            insecure: false,
            format: Format::default(),
            credentials: None,
            body: Framing::default(),
            // What common servers take unless told otherwise.
            max_body: Size(1 << 20),
            workers: 4,
            order: Order::default(),
            request_timeout: Span(Duration::from_secs(10)),
            secret_file: None,
            bearer_file: None,
            headers: Headers::default(),
            headers_file: None,
            ca_file: None,
        }
    }
}

impl WebhookConfig {
    fn check_url(&self, url: &reqwest::Url) -> Result<(), String> {
        if address::is_open(url) && !self.insecure {
            return Err(
                "is plain http to another host, where events can be read on the way; use https, or set `insecure: true`"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Reads all files and makes the sink; waits for the disk and the control thread.
    pub(crate) fn open(self, control: &Control) -> Result<Webhook, String> {
        let url = match (&self.url, &self.url_file) {
            (Some(url), _) => url.parse().map_err(|error| format!("url: {error}"))?,
            (None, Some(file)) => {
                let url = Address(secret::read_text(control, file)?).parse();
                url.map_err(|error| format!("{}: {error}", file.display()))?
            }
            (None, None) => return Err("url: is missing".to_owned()),
        };
        self.check_url(&url).map_err(|error| format!("url: {error}"))?;

        let mut secrets = Secrets::default();
        for part in address::secret_parts(&url) {
            secrets.add(part);
        }
        let mut headers = HeaderMap::new();
        let mut add = |more: &Headers, place: &dyn std::fmt::Display| {
            let added = more.add_to(&mut headers);
            added.map_err(|(name, error)| format!("{place}: {name}: {error}"))
        };
        add(&self.headers, &"headers")?;
        if let Some(file) = &self.headers_file {
            let more = Headers::read(&secret::read_text(control, file)?);
            add(
                &more.map_err(|error| format!("{}: {error}", file.display()))?,
                &file.display(),
            )?;
        }
        for value in headers.values() {
            secrets.add(value.as_bytes());
        }
        if let Some(file) = &self.bearer_file {
            let token = secret::read_text(control, file)?;
            let token = token.trim();
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| format!("{}: holds what a header can't", file.display()))?;
            value.set_sensitive(true);
            if headers.insert(AUTHORIZATION, value).is_some() {
                return Err(format!("{}: `Authorization` stands in `headers`, too", file.display()));
            }
            secrets.add(token);
        }
        let mut keys = None;
        if let Some(file) = &self.secret_file {
            let bytes = secret::read(control, file)?;
            keys = Some(Keys::parse(&bytes).map_err(|error| format!("{}: {error}", file.display()))?);
            secrets.add(bytes);
        }
        let credentials = self
            .credentials
            .as_ref()
            .map(CredentialsConfig::made)
            .unwrap_or_default();
        secrets.add(credentials.password.as_str());
        let roots = self.ca_file.as_deref().map(|file| tls::file_roots(control, file));
        let roots = roots.transpose()?;
        let client = Client::new(Parts {
            url,
            headers,
            keys,
            roots,
            timeout: self.request_timeout.0,
            workers: self.workers as usize,
            secrets,
            delivered: match self.format {
                Format::Immuclient => NOTIFIED,
                Format::Auditmon => &[],
            },
        })?;
        let max_body = usize::try_from(self.max_body.0).unwrap_or(usize::MAX);
        Ok(Webhook::new(
            client,
            (self.format, credentials),
            self.body,
            max_body,
            self.workers as usize,
            self.order,
        ))
    }
}

#[async_trait]
impl PluginConfig for WebhookConfig {
    type Plugin = BuiltSink;

    fn validate(&self, faults: &mut Faults) {
        match (&self.url, &self.url_file) {
            (None, None) => faults.add(
                "",
                "`url` is missing, the address that events are posted to; or `url_file`",
            ),
            (Some(_), Some(_)) => faults.add("url_file", "stands beside `url`; one of them is enough"),
            (Some(url), None) => {
                if let Err(error) = url.parse().and_then(|url| self.check_url(&url)) {
                    faults.add("url", error);
                }
            }
            (None, Some(_)) => {}
        }
        if self.format == Format::Immuclient && self.body != Framing::Event {
            faults.add(
                "body",
                "`event` with the format `immuclient`, which has one audit a request",
            );
        }
        if self.format != Format::Immuclient && self.credentials.is_some() {
            faults.add("credentials", "are for the format `immuclient` alone");
        }
        if !BODY.contains(&self.max_body.0) {
            faults.add("max_body", format!("1KiB to 16MiB, here {}", self.max_body));
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            faults.add("workers", format!("1 to {MAX_WORKERS}, here {}", self.workers));
        }
        let timeout = self.request_timeout;
        if timeout.0.is_zero() || timeout.0 > MAX_TIMEOUT {
            faults.add("request_timeout", format!("more than 0s, at most 5m, here {timeout}"));
        }
        let mut headers = HeaderMap::new();
        if let Err((name, error)) = self.headers.add_to(&mut headers) {
            faults.add("headers", format!("{name}: {error}"));
        }
        if self.bearer_file.is_some() && headers.contains_key(AUTHORIZATION) {
            faults.add("headers", "`Authorization` is set by `bearer_file`, too");
        }
        for (key, file) in [
            ("url_file", &self.url_file),
            ("secret_file", &self.secret_file),
            ("bearer_file", &self.bearer_file),
            ("headers_file", &self.headers_file),
            ("ca_file", &self.ca_file),
        ] {
            if file.as_ref().is_some_and(|file| !file.is_absolute()) {
                faults.add(key, "has to be an absolute path");
            }
        }
    }

    async fn build(self, cx: &mut BuildContext) -> Result<BuiltSink, PluginError> {
        let control = cx.control.clone();
        let sink = tokio::task::spawn_blocking(move || self.open(&control))
            .await
            .map_err(PluginError::transient)?
            // A file may come, or be mended, while the agent runs.
            .map_err(PluginError::transient)?;
        Ok(BuiltSink {
            sink: Box::new(sink),
            reader: None,
            lag: None,
        })
    }

    fn delivery() -> Delivery {
        Delivery {
            batch: BatchLimits {
                // What may come twice after a restart in the middle, and what slow receivers have to get through.
                events: 200,
                ..BatchLimits::default()
            },
            timeout: Span(Duration::from_secs(5 * 60)),
            ..Delivery::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use auditmon_core::plugin::{Entry, Make};
    use serde_json::{Value, json};

    use super::*;

    fn faults(section: Value) -> Vec<String> {
        let config: WebhookConfig = match serde_json::from_value(section) {
            Ok(config) => config,
            Err(error) => return vec![error.to_string()],
        };
        let mut faults = Faults::default();
        config.validate(&mut faults);
        let faults = faults.into_vec().into_iter();
        faults
            .map(|fault| format!("{}: {}", fault.path, fault.message))
            .collect()
    }

    #[test]
    fn all_settings_are_taken() {
        let section = json!({
            "url": "http://siem.example.com/in", "insecure": true, "format": "auditmon", "body": "ndjson", "credentials": null,
            "max_body": "64KiB", "workers": 64, "order": "event_source", "request_timeout": "3s",
            "secret_file": "/a", "bearer_file": "/b", "headers": {"X-Tenant": "7"}, "headers_file": "/c", "ca_file": "/d",
        });
        assert_eq!(faults(section.clone()), [""; 0]);
        let config: WebhookConfig = serde_json::from_value(section.clone()).unwrap();
        let mut shown = serde_json::to_value(&config).unwrap();
        assert_eq!(shown.as_object_mut().unwrap().remove("url_file"), Some(Value::Null));
        assert_eq!(shown, section);
    }

    #[test]
    fn impossible_settings_say_what_would_be_right() {
        let url = "https://siem.example.com/in";
        for (section, says) in [
            (json!({}), ": `url` is missing"),
            (json!({"url": url, "url_file": "/u"}), "url_file: stands beside `url`"),
            (json!({"url": "siem"}), "url: is no address such as https://"),
            (
                json!({"url": "http://siem.example.com"}),
                "url: is plain http to another host",
            ),
            (json!({"url": url, "format": "xml"}), "unknown variant `xml`"),
            (
                json!({"url": url, "body": "batch"}),
                "expected one of `event`, `array`, `ndjson`",
            ),
            (json!({"url": url, "max_body": "1023"}), "max_body: 1KiB to 16MiB"),
            (
                json!({"url": url, "max_body": "17MiB"}),
                "max_body: 1KiB to 16MiB, here 17MiB",
            ),
            (
                json!({"url": url, "format": "immuclient", "body": "array"}),
                "body: `event` with the format `immuclient`",
            ),
            (
                json!({"url": url, "credentials": {"username": "u", "password": "p"}}),
                "credentials: are for the format `immuclient` alone",
            ),
            (json!({"url": url, "workers": 0}), "workers: 1 to 64, here 0"),
            (json!({"url": url, "workers": 65}), "workers: 1 to 64, here 65"),
            (json!({"url": url, "order": "seq"}), "unknown variant `seq`"),
            (
                json!({"url": url, "request_timeout": "0s"}),
                "request_timeout: more than 0s",
            ),
            (json!({"url": url, "request_timeout": "6m"}), "at most 5m, here 6m"),
            (
                json!({"url": url, "headers": {"Host": "x"}}),
                "headers: Host: is set by the sink itself",
            ),
            (
                json!({"url": url, "bearer_file": "/b", "headers": {"authorization": "x"}}),
                "headers: `Authorization` is set by `bearer_file`, too",
            ),
            (
                json!({"url": url, "ca_file": "ca.pem"}),
                "ca_file: has to be an absolute path",
            ),
            (json!({"url": url, "secret": "x"}), "unknown field `secret`"),
        ] {
            let found = faults(section.clone());
            assert_eq!(found.len(), 1, "{section}: {found:?}");
            assert!(found[0].contains(says), "{section}: {found:?}");
        }
        let all = faults(json!({"url": "x", "workers": 0, "max_body": 0}));
        assert_eq!(all.len(), 3, "{all:?}");
    }

    #[test]
    fn keys_of_all_sinks_stand_beside_ours() {
        let entry = Entry::sinks::<WebhookConfig>("webhook");
        let Make::Sink(plan) = &entry.make else { panic!() };
        let defaults = plan(json!({"url": "https://siem.example.com/in"}))
            .ok()
            .unwrap()
            .delivery;
        assert_eq!(
            (defaults.batch.events, defaults.timeout.to_string()),
            (200, "5m".to_owned())
        );
        let section = json!({"url": "https://h/", "batch": {"events": 7}, "timeout": "1m", "workers": 2});
        assert_eq!(plan(section).ok().unwrap().delivery.batch.events, 7);
        assert!(plan(json!({"batch": {"events": 7}})).is_err());

        let schema = entry.schema();
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        for key in [
            "enabled",
            "url",
            "body",
            "workers",
            "request_timeout",
            "batch",
            "timeout",
            "when_behind",
        ] {
            assert!(properties.contains_key(key), "{key}");
        }
        assert_eq!(properties["url"]["type"], json!(["string", "null"]));
        assert_eq!(properties["headers"]["type"], "object");
        // What is a secret is known to whoever shows the configuration.
        for key in ["url", "headers"] {
            assert_eq!(properties[key]["x-secret"], true, "{key}");
        }
        for key in ["url_file", "secret_file", "bearer_file", "headers_file"] {
            assert_eq!(properties[key]["x-file"], "secret", "{key}");
        }
    }
}
