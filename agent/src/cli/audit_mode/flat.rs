//! The files of immuclient and immugw: TOML without tables or lists of tables, or one JSON object.

use std::path::Path;

/// A key as it stands in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its name, in lower case: case makes no difference there.
    pub key: String,
    /// Its value as text.
    pub value: String,
    /// Where it stands; 0 where nobody knows.
    pub number: usize,
}

/// Reads a file's text by its name's end.
///
/// # Errors
/// Line and what would be right; never a value.
pub fn read(path: &Path, text: &str) -> Result<Vec<Line>, String> {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    match end.to_lowercase().as_str() {
        "json" => json(text),
        "toml" | "" => toml(text),
        _ => Err("expected a name that ends in .toml or .json".to_owned()),
    }
}

fn json(text: &str) -> Result<Vec<Line>, String> {
    let wrong = "expected one JSON object with texts, numbers and true or false";
    let all: serde_json::Map<String, serde_json::Value> =
        // The parser's own words may repeat what stands there.
        serde_json::from_str(text).map_err(|error| format!("{}: {wrong}", error.line()))?;
    let line = |(key, value): (String, serde_json::Value)| {
        let value = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => String::new(),
            other if other.is_array() || other.is_object() => return Err(format!("1: {key}: {wrong}")),
            other => other.to_string(),
        };
        Ok(Line {
            key: key.to_lowercase(),
            value,
            number: 0,
        })
    };
    all.into_iter().map(line).collect()
}

fn toml(text: &str) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    let mut table = String::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |what: &str| format!("{number}: {what}");
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let (name, rest) = rest
                .split_once(']')
                .ok_or_else(|| wrong("expected `]` behind the name of a table"))?;
            if name.starts_with('[') || !is_end(rest) {
                return Err(wrong("expected `key = value`; lists of tables have no meaning here"));
            }
            table = format!("{}.", name.trim().to_lowercase());
            continue;
        }
        let (key, rest) = name(line).ok_or_else(|| wrong("expected `key = value`"))?;
        let (value, rest) = value(rest.trim_start()).map_err(wrong)?;
        if !is_end(rest) {
            return Err(wrong("expected nothing but a remark behind the value"));
        }
        let key = format!("{table}{}", key.to_lowercase());
        if let Some(first) = lines.iter().find(|line| line.key == key) {
            return Err(wrong(&format!("`{key}` stands in line {}, too", first.number)));
        }
        lines.push(Line { key, value, number });
    }
    Ok(lines)
}

fn is_end(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

/// The key and what stands behind its `=`.
fn name(line: &str) -> Option<(String, &str)> {
    let (key, rest) = if line.starts_with(['"', '\'']) {
        quoted(line).ok()?
    } else {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))?;
        (line[..end].to_owned(), &line[end..])
    };
    let rest = rest.trim_start().strip_prefix('=')?;
    (!key.is_empty()).then_some((key, rest))
}

/// A value and what stands behind it.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    match text.chars().next() {
        None => Err("expected a value behind `=`"),
        Some('"' | '\'') => quoted(text),
        Some('[') => list(&text[1..]),
        Some('{') => Err("expected a text, a number, true or false; tables have no meaning here"),
        Some(_) => {
            let end = text.find(|c: char| c.is_whitespace() || c == '#' || c == ',' || c == ']');
            let (word, rest) = text.split_at(end.unwrap_or(text.len()));
            let number = word.replace('_', "");
            let plain = matches!(word, "true" | "false") || number.parse::<f64>().is_ok();
            if plain && number.starts_with(|c: char| c.is_ascii_digit() || "+-tf".contains(c)) {
                Ok((number.trim_start_matches('+').to_owned(), rest))
            } else {
                Err("expected a text in quotes, a number, true or false")
            }
        }
    }
}

/// Values of a list on one line, as one text with commas.
fn list(mut text: &str) -> Result<(String, &str), &'static str> {
    const WRONG: &str = "expected a list that ends with `]` on its line";
    let mut values = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix(']') {
            return Ok((values.join(","), rest));
        }
        if text.is_empty() || text.starts_with('[') {
            return Err(WRONG);
        }
        let (one, rest) = value(text)?;
        values.push(one);
        text = rest.trim_start();
        if let Some(rest) = text.strip_prefix(',') {
            text = rest;
        } else if !text.starts_with(']') {
            return Err(WRONG);
        }
    }
}

/// A text in quotes and what stands behind it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    const OPEN: &str = "expected a text that ends with its quote on its line";
    if text.starts_with("\"\"\"") || text.starts_with("'''") {
        return Err("expected a text on one line, in single quotation marks of its kind");
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let (inner, rest) = rest.split_once('\'').ok_or(OPEN)?;
        return Ok((inner.to_owned(), rest));
    }
    let mut chars = text.char_indices().skip(1);
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => {
                let (_, kind) = chars.next().ok_or(OPEN)?;
                let meant: Escape = match kind {
                    'b' => '\u{8}'.into(),
                    't' => '\t'.into(),
                    'n' => '\n'.into(),
                    'f' => '\u{c}'.into(),
                    'r' => '\r'.into(),
                    '"' | '\\' => kind.into(),
                    'u' => Escape::Digits(4),
                    'U' => Escape::Digits(8),
                    _ => return Err("expected one of \\b \\t \\n \\f \\r \\\" \\\\ \\u \\U behind a backslash"),
                };
                out.push(match meant {
                    Escape::Char(c) => c,
                    Escape::Digits(count) => {
                        let hex: String = chars.by_ref().take(count).map(|(_, c)| c).collect();
                        let good = hex.len() == count && hex.bytes().all(|b| b.is_ascii_hexdigit());
                        let code = u32::from_str_radix(&hex, 16).ok().filter(|_| good);
                        code.and_then(char::from_u32)
                            .ok_or("expected a letter's number in hexadecimal digits behind \\u")?
                    }
                });
            }
            c => out.push(c),
        }
    }
    Err(OPEN)
}

/// What a backslash begins.
enum Escape {
    Char(char),
    Digits(usize),
}

impl From<char> for Escape {
    fn from(c: char) -> Self {
        Self::Char(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let lines = read(Path::new("immuclient.toml"), text).unwrap();
        lines.into_iter().map(|line| (line.key, line.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn reads_what_stands_in_such_files() {
        let text = "# remark\n\ndir = \"/var/lib/immuclient\" # behind\nimmudb-port = 3_322\nMTLS=false\n\
                    pkey = ''\n\"audit-password\" = 'en\\c#'\naudit-databases = [\"a\", 'b',]\nx = \"\\u00e4\\\"\\n\"\n[more]\ny = -1\n";
        assert_eq!(
            pairs(text),
            [
                pair("dir", "/var/lib/immuclient"),
                pair("immudb-port", "3322"),
                pair("mtls", "false"),
                pair("pkey", ""),
                pair("audit-password", "en\\c#"),
                pair("audit-databases", "a,b"),
                pair("x", "ä\"\n"),
                pair("more.y", "-1"),
            ]
        );
        let json = read(
            Path::new("a.JSON"),
            r#"{"immudb-port": 3322, "mtls": true, "dir": "x", "pkey": null}"#,
        )
        .unwrap();
        let mut json: Vec<_> = json.into_iter().map(|line| (line.key, line.value)).collect();
        json.sort();
        assert_eq!(
            json,
            [
                pair("dir", "x"),
                pair("immudb-port", "3322"),
                pair("mtls", "true"),
                pair("pkey", "")
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_its_value() {
        for (text, says) in [
            ("a = 1\nb", "2: expected `key = value`"),
            ("a = ", "1: expected a value"),
            ("a = T0P5ECRET", "1: expected a text in quotes"),
            ("a = \"T0P5ECRET", "1: expected a text that ends"),
            ("a = \"\\x41\"", "1: expected one of"),
            ("a = \"\\uD800\"", "1: expected a letter's number"),
            ("a = 1 2", "1: expected nothing but a remark"),
            ("a = 1\nA = 2", "2: `a` stands in line 1, too"),
            ("a = [1, [2]]", "1: expected a list"),
            ("a = [1 2]", "1: expected a list"),
            ("a = {b = 1}", "1: expected a text, a number"),
            ("a = \"\"\"T0P5ECRET\"\"\"", "1: expected a text on one line"),
            ("[[a]]", "1: expected `key = value`"),
            ("[a", "1: expected `]`"),
        ] {
            let error = read(Path::new("a.toml"), text).unwrap_err();
            assert!(
                error.starts_with(says) && !error.contains("T0P5ECRET"),
                "{text}: {error}"
            );
        }
        assert!(read(Path::new("a.yaml"), "a: 1").is_err());
        assert!(read(Path::new("a.json"), "[]").is_err());
        assert!(read(Path::new("a.json"), "{\"a\": [1]}").is_err());
    }
}
