//! The sink: a line for each event.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use async_trait::async_trait;
use auditmon_core::delivery::{Begin, Delivery, Receipt, RefusedEvent};
use auditmon_core::event::EventView;
use auditmon_core::plugin::{BuildContext, BuiltSink, Faults, PluginConfig, PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::Gap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, Trouble};

/// `sinks.demosink`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoSinkConfig {
    /// Where the lines go: place in the journal and name of the event. Below the data directory unless absolute.
    pub file: PathBuf,
    /// What goes wrong.
    pub fault: Fault,
    /// Only while this file exists.
    #[serde(rename = "while")]
    pub as_long: Option<PathBuf>,
}

impl Default for DemoSinkConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::from("demo.lines"),
            fault: Fault::None,
            as_long: None,
        }
    }
}

#[async_trait]
impl PluginConfig for DemoSinkConfig {
    type Plugin = BuiltSink;

    fn validate(&self, _faults: &mut Faults) {}

    async fn build(self, cx: &mut BuildContext) -> Result<BuiltSink, PluginError> {
        let trouble = Trouble {
            fault: self.fault,
            file: self.as_long,
        };
        trouble.at_build()?;
        Ok(BuiltSink {
            sink: Box::new(DemoSink {
                file: cx.data_dir.join(self.file),
                trouble,
            }),
            reader: None,
            lag: None,
        })
    }

    fn delivery() -> Delivery {
        Delivery {
            from: Begin::Oldest,
            ..Delivery::default()
        }
    }
}

struct DemoSink {
    file: PathBuf,
    trouble: Trouble,
}

#[async_trait]
impl Sink for DemoSink {
    async fn start(&mut self, _origin: &str) -> Result<Start, PluginError> {
        Ok(Start::Cursor)
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        if let Some(end) = self.trouble.at_work().await {
            end?;
            return Err(PluginError::transient("demo: it ends"));
        }
        if self.trouble.is(Fault::Foreign) {
            let reason = "demo: foreign".to_owned();
            let seq = events.end_seq().unwrap_or_default() + 1_000_000;
            return Ok(Receipt {
                refused: vec![RefusedEvent { seq, reason }],
                ..Receipt::default()
            });
        }
        let (mut lines, mut receipt) = (String::new(), Receipt::all());
        for event in events.iter() {
            if self.trouble.is(Fault::Tenth) && event.seq % 10 == 0 {
                let reason = "demo: every tenth".to_owned();
                receipt.refused.push(RefusedEvent { seq: event.seq, reason });
                continue;
            }
            let view = EventView::parse(event.canonical).map_err(PluginError::permanent)?;
            // A String takes everything.
            let _ = writeln!(lines, "{} {}", event.seq, view.event_name);
        }
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.file)
            .map_err(PluginError::transient)?;
        file.write_all(lines.as_bytes()).map_err(PluginError::transient)?;
        Ok(receipt)
    }

    async fn gap(&mut self, _gap: &Gap) -> Result<(), PluginError> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), PluginError> {
        Ok(())
    }
}
