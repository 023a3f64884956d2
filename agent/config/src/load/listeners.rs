//! What is asked of listeners beyond their own keys.

use std::collections::BTreeMap;

use auditmon_core::plugin::{Entry, Faults};

use crate::loaded::{Warning, Written, fault_of};
use crate::nearest;
use crate::settings::{OWN_ROUTES, Settings};

/// Listeners serve what there is.
pub(super) fn served(entries: &[Entry], settings: &Settings, wrong: &mut Faults) {
    let known: Vec<&str> = OWN_ROUTES
        .into_iter()
        .chain(entries.iter().map(|entry| entry.name))
        .collect();
    for (name, listener) in &settings.http.listeners {
        for (at, word) in listener.serve.iter().enumerate() {
            if !known.contains(&word.as_str()) {
                let near = nearest::phrase(word, known.iter().copied());
                let says = format!(
                    "expected `probes`, `metrics`, `events`, `tlog` or a plugin, found `{}`{near}",
                    nearest::shown(word)
                );
                wrong.add(format!("http.listeners.{name}.serve[{at}]"), says);
            }
        }
    }
}

/// Listeners that strangers can read, as the file allows.
pub(super) fn open(settings: &Settings, written: &BTreeMap<String, Written>) -> Vec<Warning> {
    let http = &settings.http;
    let shared = (http.is_open() && http.insecure).then(|| ("http.listen".to_owned(), http.listen));
    let further = http.listeners.iter().filter_map(|(name, listener)| {
        let open = listener.is_open() && listener.insecure;
        Some((
            format!("http.listeners.{name}.listen"),
            listener.listen.filter(|_| open)?,
        ))
    });
    let warning = |(path, listen): (String, std::net::SocketAddr)| {
        let text =
            format!("`{listen}` is reachable from other machines without TLS: keys and events can be read on the way");
        let fault = fault_of(written, &path, &text);
        Warning {
            place: fault.place.to_string(),
            path: fault.path,
            text: fault.text,
            no_effect: false,
        }
    };
    shared.into_iter().chain(further).map(warning).collect()
}
