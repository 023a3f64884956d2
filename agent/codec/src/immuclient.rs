//! What immuclient's auditor posts after an audit: one line of JSON with these keys in this order. Only audits that
//! compared two states have one: no first contact, and nothing that could not be checked.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::Item;

/// What an event begins with, before its name, has fewer bytes than this.
const HEAD: usize = 256;
/// Names of the events that tell of audits.
const NAMES: &[u8] = b"\"event_name\":\"immudb.audit.";

/// Who the receiver is told that it is from. They stand in the body, where immuclient has them.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Audit {
    event_time: String,
    event_name: String,
    event_data: Data,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    database: String,
    checked: String,
    trusted: Option<State>,
    current: Option<State>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    tx: u64,
    hash: String,
    signature: Option<String>,
    signed_by: Option<String>,
}

/// The audit that an event tells of, if the format has something to say of it.
fn read(canonical: &[u8]) -> Option<(Audit, bool)> {
    let head = canonical.get(..HEAD.min(canonical.len()))?;
    if !head.windows(NAMES.len()).any(|part| part == NAMES) {
        return None;
    }
    let audit: Audit = serde_json::from_slice(canonical).ok()?;
    let data = &audit.event_data;
    let tampered = match audit.event_name.as_str() {
        // A state without transactions is none there: the next one is its first contact.
        "immudb.audit.ok"
            if data.checked != "first-seen" && data.trusted.as_ref().is_some_and(|state| state.tx > 0) =>
        {
            false
        }
        "immudb.audit.tampered" if !data.database.is_empty() => true,
        _ => return None,
    };
    Some((audit, tampered))
}

/// Whether an event is one of those that are posted.
pub(crate) fn takes(item: &Item<'_>) -> bool {
    read(item.canonical).is_some()
}

/// Appends the body; nothing for an event that isn't posted.
pub(crate) fn write(item: &Item<'_>, credentials: &Credentials, out: &mut Vec<u8>) {
    let Some((audit, tampered)) = read(item.canonical) else {
        return;
    };
    let mut text = String::with_capacity(768);
    text.push_str("{\"username\":");
    string(&credentials.username, &mut text);
    text.push_str(",\"password\":");
    string(&credentials.password, &mut text);
    text.push_str(",\"db\":");
    string(&audit.event_data.database, &mut text);
    text.push_str(",\"run_at\":");
    string(&run_at(&audit.event_time), &mut text);
    text.push_str(if tampered {
        ",\"tampered\":true"
    } else {
        ",\"tampered\":false"
    });
    text.push_str(",\"previous_state\":");
    state(audit.event_data.trusted.as_ref(), &mut text);
    text.push_str(",\"current_state\":");
    state(audit.event_data.current.as_ref(), &mut text);
    text.push('}');
    out.extend_from_slice(text.as_bytes());
}

/// As Go writes a time: without zeros at the end of the fraction.
fn run_at(time: &str) -> String {
    match time.strip_suffix('Z') {
        Some(rest) if rest.contains('.') => format!("{}Z", rest.trim_end_matches('0').trim_end_matches('.')),
        _ => time.to_owned(),
    }
}

/// A state; one that is not known is that of no transaction.
fn state(state: Option<&State>, out: &mut String) {
    let nothing = State::default();
    let state = state.unwrap_or(&nothing);
    out.push_str(&format!("{{\"tx\":{},\"hash\":", state.tx));
    string(&base64_of(Some(&state.hash)), out);
    out.push_str(",\"signature\":{\"signature\":");
    string(&base64_of(state.signature.as_deref()), out);
    out.push_str(",\"public_key\":");
    // A key without its signature says nothing.
    let key = state.signed_by.as_deref().filter(|_| state.signature.is_some());
    string(&base64_of(key), out);
    out.push_str("}}");
}

/// Hexadecimal digits as base64; nothing for what is none.
fn base64_of(hex: Option<&str>) -> String {
    let bytes = hex.map(str::as_bytes).unwrap_or_default();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from((digit(*high)? << 4) | digit(*low)?).ok(),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.map(|bytes| BASE64_STANDARD.encode(bytes)).unwrap_or_default()
}

/// A string as Go's JSON writes it: `<`, `>` and `&` are escaped, too.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
