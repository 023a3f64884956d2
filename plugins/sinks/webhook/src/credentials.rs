//! Who a body says it is from, for formats that have that in the body.

use std::fmt;

use auditmon_codec::Credentials;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name and password that stand in a body.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialsConfig {
    /// The name.
    pub username: String,
    /// The password.
    #[schemars(extend("x-secret" = true))]
    pub password: Option<Hidden>,
}

/// A text that is never shown.
#[derive(Clone, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl CredentialsConfig {
    /// As the format takes them.
    pub(crate) fn made(&self) -> Credentials {
        Credentials {
            username: self.username.clone(),
            password: self
                .password
                .as_ref()
                .map(|password| password.0.clone())
                .unwrap_or_default(),
        }
    }
}
