//! YAML into the `config` crate's values, each with its place in the file.

use config::{Map, Value, ValueKind};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::fault::{Fault, Place};
use crate::nearest;

/// Longest path that a fault shows, in letters.
const LONGEST_PATH: usize = 120;
/// Deepest nesting of a configuration file.
const MAX_DEPTH: usize = 64;

/// Reads a file's text; `name` stands in the places. The faults are all duplicate keys, or the first fault that leaves
/// nothing to go on with: then there is no table.
pub(crate) fn parse(name: &str, text: &str) -> (Option<Map<String, Value>>, Vec<Fault>) {
    let mut builder = Builder::new(name);
    match builder.document(text) {
        Err(fault) => (None, vec![tab(name, text, &fault).unwrap_or(fault)]),
        Ok(None) => (Some(Map::new()), builder.faults),
        Ok(Some(value)) => match value.kind {
            ValueKind::Nil => (Some(Map::new()), builder.faults),
            ValueKind::Table(table) => (Some(table), builder.faults),
            _ => {
                let place = Place::File(1, 1, name.to_owned());
                let text = "expected a mapping such as `http: {listen: …}`";
                (None, vec![Fault::new(&place, TOP, text)])
            }
        },
    }
}

/// Reads a value that stands alone, such as a variable's.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_value(name: &str, text: &str) -> Result<Value, Vec<Fault>> {
    let mut builder = Builder::new(name);
    let value = builder.document(text).map_err(|fault| vec![fault])?;
    if builder.faults.is_empty() {
        Ok(value.unwrap_or_else(|| Value::new(None, ValueKind::Nil)))
    } else {
        Err(builder.faults)
    }
}

/// The path of faults that belong to no key.
const TOP: &str = "configuration";

/// A line that is indented with a tab, if that explains the fault: its consequences show only later.
fn tab(name: &str, text: &str, fault: &Fault) -> Option<Fault> {
    let Place::File(last, ..) = fault.place else {
        return None;
    };
    let is_indented = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    let (index, line) = text
        .lines()
        .enumerate()
        // The parser may stop before the line that it stumbled over.
        .take(last as usize + 1)
        .find(|(_, line)| is_indented(line))?;
    // The key that it stands below.
    let above: String = text.lines().take(index).flat_map(|line| [line, "\n"]).collect();
    let mut builder = Builder::new(name);
    // What is read up to here is all that is asked.
    let _ = builder.document(&above);
    let column = line.find('\t').unwrap_or_default() + 1;
    let place = Place::File(number(index + 1), number(column), name.to_owned());
    Some(Fault::new(
        &place,
        builder.last,
        "expected spaces, found a tab as indentation",
    ))
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The parser's events, with errors in our form.
struct Events<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

struct Builder<'n> {
    name: &'n str,
    faults: Vec<Fault>,
    /// Keys and indices down to where it reads.
    path: String,
    /// The last key that was read.
    last: String,
}

impl<'n> Builder<'n> {
    fn new(name: &'n str) -> Self {
        Self {
            name,
            faults: Vec::new(),
            path: String::new(),
            last: TOP.to_owned(),
        }
    }

    fn place(&self, span: Span) -> Place {
        Place::File(
            number(span.start.line()),
            number(span.start.col() + 1),
            self.name.to_owned(),
        )
    }

    fn fault(&self, place: &Place, text: impl Into<String>) -> Fault {
        let path = if self.path.is_empty() { TOP } else { &self.path };
        let path = match path.char_indices().nth(LONGEST_PATH) {
            Some((end, _)) => format!("{}…", &path[..end]),
            None => path.to_owned(),
        };
        Fault::new(place, path, text)
    }

    fn next<'a>(&self, events: &mut Events<'a>) -> Result<Option<(Event<'a>, Span)>, Fault> {
        match events.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let mark = error.marker();
                let place = Place::File(number(mark.line()), number(mark.col() + 1), self.name.to_owned());
                let text = explained(&error);
                // Where nothing is open the fault belongs to the last key.
                let path = if self.path.is_empty() { &self.last } else { &self.path };
                Err(Fault::new(&place, path, text))
            }
        }
    }

    fn document(&mut self, text: &str) -> Result<Option<Value>, Fault> {
        let mut events = Events {
            parser: Parser::new_from_str(text),
        };
        let mut root = None;
        while let Some((event, span)) = self.next(&mut events)? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    let text = "expected one document, found the beginning of a second one";
                    return Err(self.fault(&self.place(span), text));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(&mut events, event, span, 0)?),
            }
        }
        Ok(root)
    }

    fn node<'a>(
        &mut self,
        events: &mut Events<'a>,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<Value, Fault> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            return Err(self.fault(&place, format!("expected at most {MAX_DEPTH} levels, found more")));
        }
        let kind = match event {
            Event::Scalar(text, style, _, _) => match style {
                ScalarStyle::Plain => plain_scalar(&text),
                _ => ValueKind::String(text.into_owned()),
            },
            Event::SequenceStart(..) => ValueKind::Array(self.sequence(events, &place, depth)?),
            Event::MappingStart(..) => ValueKind::Table(self.mapping(events, &place, depth)?),
            Event::Alias(_) => {
                return Err(self.fault(
                    &place,
                    "expected the value itself, found a YAML alias: write the value out",
                ));
            }
            _ => return Err(self.cut_short(&place)),
        };
        Ok(Value::new(Some(&place.to_string()), kind))
    }

    fn cut_short(&self, place: &Place) -> Fault {
        self.fault(place, "expected an end, but the file ends inside of this")
    }

    fn sequence(&mut self, events: &mut Events<'_>, place: &Place, depth: usize) -> Result<Vec<Value>, Fault> {
        let mut items = Vec::new();
        let above = self.path.len();
        loop {
            let (event, span) = self.next(events)?.ok_or_else(|| self.cut_short(place))?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            self.path.push_str(&format!("[{}]", items.len()));
            items.push(self.node(events, event, span, depth + 1)?);
            self.path.truncate(above);
        }
    }

    fn mapping(&mut self, events: &mut Events<'_>, place: &Place, depth: usize) -> Result<Map<String, Value>, Fault> {
        let mut table: Map<String, Value> = Map::new();
        let above = self.path.len();
        loop {
            let (event, key_span) = self.next(events)?.ok_or_else(|| self.cut_short(place))?;
            if matches!(event, Event::MappingEnd) {
                return Ok(table);
            }
            let key_place = self.place(key_span);
            let Event::Scalar(key, ..) = event else {
                return Err(self.fault(&key_place, "expected a word as key"));
            };
            if above > 0 {
                self.path.push('.');
            }
            self.path.push_str(&nearest::shown_key(&key));
            self.last.clone_from(&self.path);
            let (event, span) = self.next(events)?.ok_or_else(|| self.cut_short(place))?;
            let value = self.node(events, event, span, depth + 1)?;
            if let Some(first) = table.get(key.as_ref()) {
                let first = first.origin().unwrap_or("above").to_owned();
                let text = format!("duplicate key, expected once, but the first is at {first}");
                self.faults.push(self.fault(&key_place, text));
            } else {
                // A fault of a value is best looked for at its key.
                let value = Value::new(Some(&key_place.to_string()), value.kind);
                table.insert(key.into_owned(), value);
            }
            self.path.truncate(above);
        }
    }
}

/// What would be right, and what the parser says.
fn explained(error: &ScanError) -> String {
    use ErrorKind as E;
    let right = match error.kind() {
        E::MappingValueNotAllowed => "expected one value, in quotes where it holds `: `",
        E::InvalidColonPlacement => "expected brackets in pairs, and values in quotes where they hold `: `",
        E::MismatchedFlowCollectionEnd { .. }
        | E::UnclosedFlowCollection { .. }
        | E::MisplacedFlowCollectionEnd
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator => "expected brackets in pairs, and `,` between what is in them",
        E::SimpleKeyExpected | E::InvalidSimpleKey | E::UnexpectedEndOfPlainScalar => "expected `key: value`",
        E::ExpectedBlockMappingKey | E::MappingKeyNotAllowed => "expected a key with the indentation of those above",
        E::ExpectedBlockSequenceEntry | E::BlockSequenceEntryNotAllowed => {
            "expected items of a list below each other, each as `- value`"
        }
        E::InvalidIndentation | E::InvalidFlowScalarIndent => "expected more indentation than the key has",
        E::UnclosedQuotedScalar | E::DocumentIndicatorInQuotedScalar | E::InvalidQuotedScalarIndent => {
            "expected a quote at the end of the text"
        }
        E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => {
            "expected nothing behind the text in quotes"
        }
        E::UnknownQuotedScalarEscape => "expected `\\\\` for a backslash in double quotes, or single quotes",
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabInPlainScalar
        | E::TabAtBlockScalarStart => "expected spaces, found a tab",
        E::UnknownAnchor => "expected the value itself, found a YAML alias: write the value out",
        E::UnexpectedCharacter { .. } | E::PlainScalarStartsWithDashFlowIndicator => "expected the text in quotes",
        _ => "expected YAML",
    };
    format!("{right}; the parser says: {}", error.info().replace('\n', " "))
}

/// Types a plain scalar by the YAML 1.2 core schema: `yes` and `on` are strings.
pub(crate) fn plain_scalar(text: &str) -> ValueKind {
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
        let text = "# remark\nhttp:\n  listen: \"127.0.0.1:1\"\n  insecure: true\nlist: [1, x]\n";
        let (table, faults) = parse("a.yaml", text);
        assert_eq!(faults, []);
        let table = table.unwrap();
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
            (
                "a: 1\nb: 2\na: 3\n",
                "f:3:1: a: duplicate key, expected once, but the first is at f:1:1",
            ),
            ("a:\n  b: [1, 2\n", "f:2:6: a.b: expected brackets in pairs"),
            ("- 1\n", "f:1:1: configuration: expected a mapping"),
            ("a:\n\tb: 1\n", "f:2:1: a: expected spaces, found a tab"),
            ("a:\n  b: 1\n \tc: 1\n", "f:3:2: a.b: expected spaces, found a tab"),
            ("a: &x 1\nb: *x\n", "f:2:4: b: expected the value itself"),
            ("a: *x\n", "f:1:4: a: expected the value itself"),
            ("a: 'x\nb: 1\n", "f:2:1: a: expected a quote"),
            ("a: 1\n---\nb: 1\n", "f:2:1: configuration: expected one document"),
            ("a: b: c\n", "f:1:5: a: expected one value, in quotes"),
            ("? [x]\n: 1\n", "f:1:3: configuration: expected a word"),
        ] {
            let (_, faults) = parse("f", text);
            assert!(faults[0].to_string().starts_with(says), "{text:?}: {}", faults[0]);
        }
        assert!(parse("f", &"[".repeat(10_000)).0.is_none());
        assert_eq!(parse("f", "").0.unwrap().len(), 0);
    }

    #[test]
    fn a_tab_inside_of_a_text_is_a_letter() {
        let (table, faults) = parse("f", "a: |\n  x\n  \ty\n");
        assert_eq!(faults, []);
        assert_eq!(table.unwrap()["a"].kind, ValueKind::String("x\n\ty\n".to_owned()));
    }
}
