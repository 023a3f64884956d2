//! `sinks.store`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use auditmon_core::delivery::{BatchLimits, Begin, Delivery, WhenBehind};
use auditmon_core::plugin::{BuildContext, BuiltSink, Faults, PluginConfig, PluginError};
use auditmon_core::privileged::Needs;
use auditmon_core::units::{Size, Span};
use auditmon_journal::format::Position;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::remembered::remembered;
use crate::sink::Store;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Shorter, and retention would do nothing else.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Which database.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A file of this host.
    #[default]
    Sqlite,
    /// Comes with a later version.
    #[serde(alias = "postgresql")]
    Postgres,
}

/// The store: what the page, `GET /api/v1/events` and `auditmon events` read.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Which database.
    #[schemars(extend("x-aliases" = [{"path": "database.backend", "as": "backend"}]))]
    pub backend: Backend,
    /// The database file; a relative path is below the data directory. Default: `events.db` there.
    #[schemars(extend("x-aliases" = [{"path": "database.file", "as": "beside-v2"}]))]
    pub file: Option<PathBuf>,
    /// For PostgreSQL, which comes with a later version.
    #[schemars(extend("x-secret" = true))]
    pub url: Option<String>,
    /// What is deleted when: ages count from the received time.
    pub retention: Retention,
}

/// What is deleted when. Ages count from the received time; null keeps for ever.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Age of application events; null keeps for ever.
    #[schemars(extend("x-aliases" = [{"path": "settings.retention_days", "as": "days"}]))]
    pub application: Option<Span>,
    /// Age of kernel events; null keeps for ever.
    pub kernel: Option<Span>,
    /// Age of immudb events; null keeps for ever.
    pub immudb: Option<Span>,
    /// Age of the agent's own events; null keeps for ever.
    pub agent: Option<Span>,
    /// Space that the rows of a kind may take; the oldest go first.
    pub max_size: MaxSize,
    /// How often it is looked for, at least 1s.
    pub interval: Span,
}

/// Space that the rows of a kind may take; null is no limit.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxSize {
    /// Of application events; null is no limit.
    pub application: Option<Size>,
    /// Of kernel events; null is no limit.
    pub kernel: Option<Size>,
    /// Of immudb events; null is no limit.
    pub immudb: Option<Size>,
    /// Of the agent's own events; null is no limit.
    pub agent: Option<Size>,
}

impl Default for Retention {
    fn default() -> Self {
        let year = Some(Span(365 * DAY));
        Self {
            application: year,
            kernel: Some(Span(7 * DAY)),
            immudb: year,
            agent: year,
            max_size: MaxSize::default(),
            interval: Span(Duration::from_secs(60 * 60)),
        }
    }
}

impl Default for MaxSize {
    fn default() -> Self {
        Self {
            application: None,
            kernel: Some(Size(10 << 30)),
            immudb: None,
            agent: None,
        }
    }
}

impl Retention {
    /// Kind, greatest age, most bytes.
    pub(crate) fn limits(&self) -> [(&'static str, Option<Duration>, Option<u64>); 4] {
        let age = |span: Option<Span>| span.map(|span| span.0);
        let size = |size: Option<Size>| size.map(|size| size.0);
        [
            ("application", age(self.application), size(self.max_size.application)),
            ("kernel", age(self.kernel), size(self.max_size.kernel)),
            ("immudb", age(self.immudb), size(self.max_size.immudb)),
            ("agent", age(self.agent), size(self.max_size.agent)),
        ]
    }
}

impl StoreConfig {
    /// The database file.
    #[must_use]
    pub fn path(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(self.file.as_deref().unwrap_or(Path::new("events.db")))
    }
}

#[async_trait]
impl PluginConfig for StoreConfig {
    type Plugin = BuiltSink;

    fn validate(&self, faults: &mut Faults) {
        if self.backend == Backend::Postgres {
            faults.add("backend", "expected `sqlite`: PostgreSQL comes with a later version");
        }
        if self.url.is_some() {
            faults.add(
                "url",
                "expected none: it is for PostgreSQL, which comes with a later version; sqlite takes `file`",
            );
        }
        if let Some(file) = &self.file
            && file.as_os_str().is_empty()
        {
            faults.add(
                "file",
                "expected a file, found nothing; leave it out for events.db in the data directory",
            );
        }
        if self.retention.interval.0 < MIN_INTERVAL {
            faults.add(
                "retention.interval",
                format!("expected at least 1s, found {}", self.retention.interval),
            );
        }
        for (kind, age, size) in self.retention.limits() {
            if age.is_some_and(|age| age.is_zero()) {
                faults.add(
                    format!("retention.{kind}"),
                    "expected more than 0s, which would delete everything at once; null keeps for ever",
                );
            }
            if size == Some(0) {
                faults.add(
                    format!("retention.max_size.{kind}"),
                    "expected more than 0, which would delete everything at once; null is no limit",
                );
            }
        }
    }

    /// Large batches: each is a transaction, and its commits must not compete with the journal's syncs.
    fn delivery() -> Delivery {
        Delivery {
            batch: BatchLimits {
                events: 5_000,
                bytes: Size(4 << 20),
                age: Span(Duration::from_millis(200)),
            },
            when_behind: WhenBehind::Block,
            from: Begin::Oldest,
            ..Delivery::default()
        }
    }

    fn needs(&self, needs: &mut Needs) {
        // SQLite keeps further files beside it.
        let beside = self
            .file
            .as_deref()
            .filter(|file| file.is_absolute())
            .and_then(Path::parent);
        if let Some(beside) = beside {
            needs.directory(beside);
        }
    }

    fn readable() -> bool {
        true
    }

    async fn remembered(&self, data_dir: &Path) -> Result<Vec<Position>, PluginError> {
        remembered(&self.path(data_dir)).await
    }

    async fn build(self, cx: &mut BuildContext) -> Result<BuiltSink, PluginError> {
        let file = self.path(&cx.data_dir);
        let store = Store::build(file, self.retention, &cx.metrics).await?;
        Ok(BuiltSink {
            reader: Some(store.reader()),
            lag: Some(store.lag()),
            sink: Box::new(store),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: serde_json::Value) -> Result<StoreConfig, String> {
        let config: StoreConfig = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let mut faults = Faults::default();
        config.validate(&mut faults);
        match faults.into_vec().first() {
            Some(fault) => Err(format!("{}: {}", fault.path, fault.message)),
            None => Ok(config),
        }
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = parse(json!({})).unwrap();
        assert_eq!(config.path(Path::new("/d")), Path::new("/d/events.db"));
        assert_eq!(
            config.retention.limits(),
            [
                ("application", Some(365 * DAY), None),
                ("kernel", Some(7 * DAY), Some(10 << 30)),
                ("immudb", Some(365 * DAY), None),
                ("agent", Some(365 * DAY), None),
            ]
        );
    }

    #[test]
    fn settings_are_taken() {
        let config = parse(json!({
            "backend": "sqlite", "file": "/x/y.db",
            "retention": {"kernel": null, "application": "30d", "max_size": {"kernel": null, "agent": "1GiB"}, "interval": "10s"},
        }))
        .unwrap();
        assert_eq!(config.path(Path::new("/d")), Path::new("/x/y.db"));
        assert_eq!(
            config.retention.limits(),
            [
                ("application", Some(30 * DAY), None),
                ("kernel", None, None),
                ("immudb", Some(365 * DAY), None),
                ("agent", Some(365 * DAY), Some(1 << 30)),
            ]
        );
    }

    #[test]
    fn impossible_settings_say_what_would_be_right() {
        for (value, says) in [
            (
                json!({"backend": "postgres"}),
                "backend: expected `sqlite`: PostgreSQL comes with a later version",
            ),
            (
                json!({"url": "postgres://h/d"}),
                "url: expected none: it is for PostgreSQL",
            ),
            (json!({"backend": "mysql"}), "unknown variant `mysql`"),
            (json!({"fille": "x"}), "unknown field `fille`"),
            (
                json!({"retention": {"kernel": "0s"}}),
                "retention.kernel: expected more than 0s",
            ),
            (
                json!({"retention": {"max_size": {"kernel": 0}}}),
                "retention.max_size.kernel: expected more than 0, ",
            ),
            (
                json!({"retention": {"interval": "1ms"}}),
                "retention.interval: expected at least 1s",
            ),
            (json!({"retention": {"kernel": 7}}), "has no unit"),
            (json!({"file": ""}), "file: expected a file"),
        ] {
            let error = parse(value.clone()).unwrap_err();
            assert!(error.contains(says), "{value}: {error}");
        }
    }
}
