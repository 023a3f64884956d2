//! YAML into the `config` crate's values, each with its place in the file.

use config::{Map, Value, ValueKind};
use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Deepest nesting of a configuration file.
const MAX_DEPTH: usize = 64;

/// Reads a file's text; `name` stands in the places.
///
/// # Errors
/// All duplicate keys, or the first syntax error.
pub fn parse(name: &str, text: &str) -> Result<Map<String, Value>, Vec<String>> {
    if let Some((line, _)) = text
        .lines()
        .enumerate()
        .find(|(_, l)| l.trim_start_matches(' ').starts_with('\t'))
    {
        return Err(vec![format!(
            "{name}:{}:1: a line is indented with a tab; YAML wants spaces",
            line + 1
        )]);
    }
    let mut builder = Builder {
        name,
        errors: Vec::new(),
    };
    let mut events = Events {
        parser: Parser::new_from_str(text),
        name,
    };
    let mut root = None;
    while let Some((event, span)) = events.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_some() => {
                return Err(vec![format!(
                    "{}: a second document; a configuration is one",
                    builder.place(span)
                )]);
            }
            Event::DocumentStart(..) => {}
            event => root = Some(builder.node(&mut events, event, span, 0)?),
        }
    }
    if !builder.errors.is_empty() {
        return Err(builder.errors);
    }
    match root.map(|v| v.kind) {
        None | Some(ValueKind::Nil) => Ok(Map::new()),
        Some(ValueKind::Table(table)) => Ok(table),
        Some(_) => Err(vec![format!(
            "{name}:1:1: a configuration is a mapping such as `http: {{listen: …}}`"
        )]),
    }
}

/// The parser's events, with errors in our form.
struct Events<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    name: &'a str,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Vec<String>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let mark = error.marker();
                Err(vec![format!(
                    "{}:{}:{}: {}",
                    self.name,
                    mark.line(),
                    mark.col() + 1,
                    error.info()
                )])
            }
        }
    }
}

struct Builder<'a> {
    name: &'a str,
    errors: Vec<String>,
}

impl Builder<'_> {
    fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.name, span.start.line(), span.start.col() + 1)
    }

    fn node<'a>(
        &mut self,
        events: &mut Events<'a>,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<Value, Vec<String>> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(vec![format!("{place}: nested deeper than {MAX_DEPTH} levels")]);
        }
        let cut_short = || vec![format!("{place}: the file ends inside of this")];
        let kind = match event {
            Event::Scalar(text, style, _, _) => scalar(&text, style),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = events.next()?.ok_or_else(cut_short)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(events, event, span, depth + 1)?);
                }
                ValueKind::Array(items)
            }
            Event::MappingStart(..) => {
                let mut table: Map<String, Value> = Map::new();
                loop {
                    let (event, key_span) = events.next()?.ok_or_else(cut_short)?;
                    if matches!(event, Event::MappingEnd) {
                        break;
                    }
                    let key_place = self.place(key_span);
                    let Event::Scalar(key, ..) = event else {
                        return Err(vec![format!("{key_place}: a key is a word")]);
                    };
                    let (event, span) = events.next()?.ok_or_else(cut_short)?;
                    let mut value = self.node(events, event, span, depth + 1)?;
                    // A fault of a value is best looked for at its key.
                    value = Value::new(Some(&key_place), value.kind);
                    if let Some(first) = table.get(key.as_ref()) {
                        let first = first.origin().unwrap_or("above").to_owned();
                        self.errors
                            .push(format!("{key_place}: duplicate key `{key}`, first at {first}"));
                    }
                    table.insert(key.into_owned(), value);
                }
                ValueKind::Table(table)
            }
            Event::Alias(_) => return Err(vec![format!("{place}: aliases are not supported; write the value out")]),
            _ => return Err(cut_short()),
        };
        Ok(Value::new(Some(&place), kind))
    }
}

/// Types plain scalars by the YAML 1.2 core schema: `yes` and `on` are strings.
fn scalar(text: &str, style: ScalarStyle) -> ValueKind {
    if style != ScalarStyle::Plain {
        return ValueKind::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ValueKind::Nil,
        "true" | "True" | "TRUE" => ValueKind::Boolean(true),
        "false" | "False" | "FALSE" => ValueKind::Boolean(false),
        _ => {
            let number = text
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
            match text.parse::<i64>() {
                Ok(n) => ValueKind::I64(n),
                Err(_) => match text.parse::<f64>() {
                    Ok(n) if number => ValueKind::Float(n),
                    _ => ValueKind::String(text.to_owned()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        let table = parse(
            "a.yaml",
            "# remark\nhttp:\n  listen: \"127.0.0.1:1\"\n  insecure: true\nlist: [1, x]\n",
        )
        .unwrap();
        assert_eq!(table["http"].origin(), Some("a.yaml:2:1"));
        let ValueKind::Table(http) = &table["http"].kind else {
            panic!()
        };
        assert_eq!(http["insecure"].origin(), Some("a.yaml:4:3"));
        assert_eq!(http["insecure"].kind, ValueKind::Boolean(true));
        let ValueKind::Array(list) = &table["list"].kind else {
            panic!()
        };
        assert_eq!(list[1].origin(), Some("a.yaml:5:11"));
    }

    #[test]
    fn faults_name_their_places() {
        for (text, says) in [
            ("a: 1\nb: 2\na: 3\n", "f:3:1: duplicate key `a`, first at f:1:1"),
            ("a: [1, 2\n", "f:"),
            ("- 1\n", "f:1:1: a configuration is a mapping"),
            ("a:\n\tb: 1\n", "f:2:1: a line is indented with a tab"),
            ("a: &x 1\nb: *x\n", "f:2:4: aliases are not supported"),
            ("a: 1\n---\nb: 1\n", "f:2:1: a second document"),
        ] {
            let errors = parse("f", text).unwrap_err();
            assert!(errors[0].starts_with(says), "{text:?}: {errors:?}");
        }
        assert!(parse("f", &"[".repeat(10_000)).is_err());
        assert_eq!(parse("f", "").unwrap().len(), 0);
    }
}
