//! The sentences: what was expected, what is there, and what may have been meant.

use std::net::SocketAddr;

use auditmon_core::units::{Size, Span};
use config::{Value, ValueKind};

use crate::nearest::{ask, listed, nearest, phrase, shown, shown_key};
use crate::shape::{Node, Shape, Text};

/// Whether a text is what the format asks for.
pub(super) fn is_text(text: Text, word: &str) -> bool {
    match text {
        Text::Plain => true,
        Text::Size => Size::parse(word).is_ok(),
        Text::Span => Span::parse(word).is_ok(),
        Text::SocketAddress => word.parse::<SocketAddr>().is_ok(),
    }
}

/// `expected …, found …`, and what may have been meant. A secret's value is not shown.
pub(super) fn wrong(node: &Node, kind: &ValueKind) -> String {
    let hidden = node.holds_secret();
    let meant = if hidden { String::new() } else { ask(&meant(node, kind)) };
    let text = match (&node.shape, kind) {
        // What is wrong with `"4096"` is its quotes.
        (Shape::Integer { .. } | Shape::Number, ValueKind::String(word)) if !hidden => {
            format!("the text `{}`", shown(word))
        }
        _ => found(kind, hidden),
    };
    format!("expected {}, found {text}{meant}", expected(node))
}

/// What should stand there.
pub(super) fn expected(node: &Node) -> String {
    let text = match &node.shape {
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer { min, max } => whole_number(*min, *max),
        Shape::Number => "a number".to_owned(),
        Shape::Text(Text::Plain) => "text".to_owned(),
        Shape::Text(Text::Size) => "a size such as 512KiB, 64MiB or 10GiB".to_owned(),
        Shape::Text(Text::Span) => "a duration such as 250ms, 10s, 5m, 24h or 7d".to_owned(),
        Shape::Text(Text::SocketAddress) => "an address with a port such as 127.0.0.1:7984".to_owned(),
        Shape::Choice(words) => {
            let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            listed(&words)
        }
        Shape::List(_) => "a list such as `[a, b]`".to_owned(),
        Shape::Table(fields) => match fields.first() {
            Some((key, _)) => format!("a mapping with keys such as `{key}`"),
            None => "a mapping without keys".to_owned(),
        },
        Shape::Map { instances: true, .. } => "a mapping of names, each with its keys below".to_owned(),
        Shape::Map { .. } => "a mapping such as `{name: value}`".to_owned(),
        Shape::Union(nodes) => {
            let all: Vec<String> = nodes.iter().map(expected).collect();
            all.join(", or ")
        }
        Shape::Overlay => "a mapping of keys as at the top of the file".to_owned(),
        Shape::Any => "a value".to_owned(),
    };
    // Where nothing is the default, null says nothing.
    if node.nullable && node.default.as_ref().is_some_and(|default| !default.is_null()) {
        format!("{text}, or null")
    } else {
        text
    }
}

fn whole_number(min: Option<i128>, max: Option<i128>) -> String {
    // Limits of the machine's types say nothing to a reader.
    let max = max.filter(|max| *max < i128::from(u32::MAX));
    match (min, max) {
        (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
        (Some(min), None) => format!("a whole number of at least {min}"),
        (None, Some(max)) => format!("a whole number up to {max}"),
        (None, None) => "a whole number".to_owned(),
    }
}

fn found(kind: &ValueKind, hidden: bool) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a mapping".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Boolean(_) if hidden => "`true` or `false`".to_owned(),
        ValueKind::String(_) if hidden => "a text".to_owned(),
        _ if hidden => "a number".to_owned(),
        ValueKind::Boolean(b) => format!("`{b}`"),
        ValueKind::String(text) if text.is_empty() => "an empty text".to_owned(),
        ValueKind::String(text) => format!("`{}`", shown(text)),
        ValueKind::I64(n) => format!("the number {n}"),
        ValueKind::Float(n) => format!("the number {n}"),
        _ => "a number".to_owned(),
    }
}

/// What somebody who wrote this may have meant.
fn meant(node: &Node, kind: &ValueKind) -> Vec<String> {
    let one = |text: String| vec![text];
    match (&node.shape, kind) {
        (Shape::Bool, ValueKind::String(word)) => match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => one("true".to_owned()),
            "no" | "off" | "n" => one("false".to_owned()),
            _ => nearest(word, ["true", "false"])
                .into_iter()
                .map(str::to_owned)
                .collect(),
        },
        (Shape::Bool, ValueKind::I64(0)) => one("false".to_owned()),
        (Shape::Bool, ValueKind::I64(1)) => one("true".to_owned()),
        (Shape::Choice(words), ValueKind::String(word)) => nearest(word, words.iter().map(|(word, _)| word.as_str()))
            .into_iter()
            .map(str::to_owned)
            .collect(),
        (Shape::Choice(words), ValueKind::Boolean(on)) => {
            let on = if *on { "on" } else { "off" };
            let has = words.iter().any(|(word, _)| word == on);
            has.then(|| on.to_owned()).into_iter().collect()
        }
        (Shape::Integer { .. }, ValueKind::String(word)) => {
            let number = word.trim().replace('_', "").parse::<i64>();
            number.map(|n| n.to_string()).into_iter().collect()
        }
        (Shape::Text(Text::Plain), ValueKind::I64(n)) => one(format!("\"{n}\"")),
        (Shape::Text(Text::Plain), ValueKind::Boolean(b)) => one(format!("\"{b}\"")),
        (Shape::Text(Text::Span), ValueKind::I64(n)) if *n >= 0 => one(format!("{n}s")),
        (Shape::Text(Text::Span), ValueKind::String(word)) => with_unit(word, SPANS, is_span),
        (Shape::Text(Text::Size), ValueKind::String(word)) => with_unit(word, SIZES, is_size),
        (Shape::Text(Text::SocketAddress), ValueKind::I64(port)) => one(format!("127.0.0.1:{port}")),
        (Shape::Text(Text::SocketAddress), ValueKind::String(word)) => address(word),
        (Shape::List(_), ValueKind::String(word)) if word.len() <= 40 => one(format!("[{}]", shown(word))),
        _ => Vec::new(),
    }
}

/// Units with the words that people use for them.
const SPANS: &[(&str, &[&str])] = &[
    ("ms", &["msec", "msecs", "millis", "millisecond", "milliseconds"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("d", &["day", "days"]),
];
const SIZES: &[(&str, &[&str])] = &[
    ("KiB", &["k", "ki"]),
    ("MiB", &["m", "mi", "meg"]),
    ("GiB", &["g", "gi", "gig"]),
    ("TiB", &["t", "ti"]),
    ("kB", &[]),
    ("MB", &[]),
    ("GB", &[]),
    ("TB", &[]),
];

fn is_span(word: &str) -> bool {
    Span::parse(word).is_ok()
}

fn is_size(word: &str) -> bool {
    Size::parse(word).is_ok()
}

/// The same number with the unit that was meant.
fn with_unit(word: &str, units: &[(&str, &[&str])], good: fn(&str) -> bool) -> Vec<String> {
    let word = word.trim();
    let Some(at) = word.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0) else {
        return Vec::new();
    };
    let (number, unit) = (&word[..at], word[at..].trim());
    let known = units.iter().find(|(name, words)| {
        let same = |other: &str| other.eq_ignore_ascii_case(unit);
        same(name) || words.iter().any(|word| same(word))
    });
    let names: Vec<&str> = match known {
        Some((name, _)) => vec![*name],
        None => nearest(unit, units.iter().map(|(name, _)| *name)),
    };
    names
        .into_iter()
        .map(|unit| format!("{number}{unit}"))
        .filter(|word| good(word))
        .collect()
}

/// The same address with what is missing.
fn address(word: &str) -> Vec<String> {
    let port = word.strip_prefix(':').or_else(|| word.strip_prefix("localhost:"));
    let guess = match port {
        Some(port) => format!("127.0.0.1:{port}"),
        None => format!("{word}:7984"),
    };
    let good = guess.parse::<SocketAddr>().is_ok();
    good.then_some(guess).into_iter().collect()
}

/// `unknown key`, with the nearest one that is not there yet, else the nearest one, else all.
pub(super) fn unknown_key<'a>(key: &str, free: impl Iterator<Item = &'a str>, known: &[&str]) -> String {
    let key = shown_key(key);
    let key = key.trim_end_matches('…');
    let near = nearest(key, free);
    if !near.is_empty() {
        return format!("unknown key{}", ask(&near));
    }
    let near = phrase(key, known.iter().copied());
    if !near.is_empty() {
        return format!("unknown key{near}");
    }
    match known.len() {
        0 => "unknown key, expected none".to_owned(),
        1..=12 => format!("unknown key, expected {}", listed(known)),
        _ => format!(
            "unknown key, expected one of {} such as {}",
            known.len(),
            listed(&known[..3])
        ),
    }
}

/// Whether a key can name an instance of a plugin. `written` is the path of the plugin.
pub(super) fn instance(key: &str, item: &Node, written: &str, value: &Value) -> Result<(), String> {
    let table = matches!(value.kind, ValueKind::Table(_) | ValueKind::Nil);
    if item.field(key).is_some() && !table {
        return Err(format!(
            "expected a name with its keys below, did you mean `{written}.NAME.{key}`?"
        ));
    }
    let good = (1..=40).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if good {
        return Ok(());
    }
    let right: String = key
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    let meant = if right.is_empty() { Vec::new() } else { vec![right] };
    Err(format!(
        "expected a name of 1 to 40 of a–z, 0–9, `-` and `_`{}",
        ask(&meant)
    ))
}
