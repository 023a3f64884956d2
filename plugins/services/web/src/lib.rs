//! The plain page: newest events, filters, one event in full. HTML from the server; no script, nothing foreign.
//!
//! | module | what it holds |
//! |---|---|
//! | `routes` | addresses, sessions, answers |
//! | `form` | the filters: parameters, fields, links |
//! | `view` | events as the templates show them |
//! | `json` | `event_data`, laid out without changing a byte of a value |
//! | `answer` | headers that every answer has |
//! | `assets` | the style sheet |

#![forbid(unsafe_code)]

mod answer;
mod assets;
mod form;
mod json;
mod routes;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use auditmon_core::keys::Keys;
use auditmon_core::plugin::{BuildContext, Faults, PluginConfig, PluginError, RunContext, Service};
use auditmon_core::reader::EventReader;
use axum::Router;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The web page.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {}

#[async_trait]
impl PluginConfig for WebConfig {
    type Plugin = Box<dyn Service>;

    fn validate(&self, _faults: &mut Faults) {}

    async fn build(self, cx: &mut BuildContext) -> Result<Box<dyn Service>, PluginError> {
        let page = router(Arc::clone(&cx.host), Arc::clone(&cx.keys), cx.reader.clone());
        cx.routes = std::mem::take(&mut cx.routes).merge(page);
        Ok(Box::new(Web))
    }
}

/// The page's routes. Without a reader the page says that the store is off.
pub fn router(host: Arc<str>, keys: Arc<dyn Keys>, reader: Option<Arc<dyn EventReader>>) -> Router {
    routes::router(routes::Page { host, keys, reader })
}

/// Everything is in its routes.
struct Web;

#[async_trait]
impl Service for Web {
    async fn run(self: Box<Self>, cx: RunContext) -> Result<(), PluginError> {
        cx.health.ok();
        cx.stop.cancelled().await;
        Ok(())
    }
}
