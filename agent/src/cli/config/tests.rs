//! The example file and the schema are what the types say, and a slip of the pen in a file is told for what it is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use auditmon_config::{ConfigErrors, Loaded, Request, changes, example, load, variables};
use proptest::prelude::*;

use super::schema;
use crate::registry::entries;

/// Loads a text under the name `f`.
fn loaded(text: &str) -> Result<Loaded, ConfigErrors> {
    let content = text.as_bytes().to_vec();
    let request = Request {
        file: Some(PathBuf::from("f")),
        read: Arc::new(move |_| Ok(content.clone())),
        ..Request::new("h")
    };
    load(&request, &entries())
}

fn good(text: &str) -> Loaded {
    loaded(text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_example_file_is_made_from_the_types() {
    assert_eq!(
        include_str!("../../../../docs/config.example.yaml"),
        example(&entries()),
        "make it anew: auditmon config --example > docs/config.example.yaml"
    );
}

#[test]
fn the_schema_file_is_made_from_the_types() {
    assert_eq!(
        include_str!("../../../../docs/config.schema.json"),
        schema(&crate::entries()),
        "make it anew: auditmon config --schema > docs/config.schema.json"
    );
}

#[test]
fn the_example_says_the_defaults() {
    let example = good(&example(&entries()));
    assert!(example.warnings.is_empty(), "{:?}", example.warnings);
    let changes = changes(&good(""), &example);
    assert!(changes.is_empty(), "{changes:?}");
}

/// The example with what stands as a remark below `KEY: null`, `{}` or `[]` in place of that, and the numbers of these
/// lines.
fn with_remarks(text: &str) -> (String, BTreeSet<usize>) {
    let (mut out, mut remarks, mut number) = (String::new(), BTreeSet::new(), 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = " ".repeat(line.len() - line.trim_start().len());
        let key = line.trim_start().split(": ").next().unwrap();
        let start = format!("{indent}# {key}:");
        if line.trim_start().starts_with('#') || lines.peek() != Some(&start.as_str()) {
            out += &format!("{line}\n");
            number += 1;
            continue;
        }
        let begin = format!("{indent}# ");
        // What is not deeper is the remark of the next key.
        let belongs = |rest: &&str| rest.starts_with("  ") || rest.starts_with(&format!("{key}:"));
        while let Some(rest) = lines.peek().and_then(|line| line.strip_prefix(&begin)).filter(belongs) {
            out += &format!("{indent}{}\n", rest.replace("NAME:", "name:"));
            number += 1;
            remarks.insert(number);
            lines.next();
        }
    }
    (out, remarks)
}

#[test]
fn what_stands_as_a_remark_is_right_too() {
    let (text, _) = with_remarks(&example(&entries()));
    assert!(
        text.contains("\n    rules:\n") && text.contains("\nhosts:\n  - match:"),
        "{text}"
    );
    if let Err(errors) = loaded(&text) {
        // A plugin may want more than its defaults; but every key is known and of the right type.
        for line in errors.0 {
            assert!(!line.contains("unknown key") && !line.contains("found `"), "{line}");
            assert!(!line.contains("the parser says"), "{line}");
        }
    }
}

#[test]
fn no_variable_stands_for_two_keys() {
    let (known, twice) = variables(&entries());
    assert_eq!(twice, [""; 0]);
    assert!(known.len() > 80, "{}", known.len());
}

/// A line with a key.
#[derive(Debug)]
struct Line {
    /// Whether it stands as a remark in the example.
    is_remark: bool,
    number: usize,
    indent: usize,
    key: String,
    /// What follows the colon.
    rest: String,
}

impl Line {
    /// The text in which it counts.
    fn text(&self) -> &'static str {
        if self.is_remark { &TEXTS.1 } else { &TEXTS.0 }
    }

    /// The text with another line in place of it.
    fn changed(&self, key: &str, rest: &str) -> String {
        let mut lines: Vec<&str> = self.text().lines().collect();
        let line = format!("{}{key}:{rest}", " ".repeat(self.indent));
        lines[self.number - 1] = &line;
        lines.join("\n") + "\n"
    }

    /// The fault that only the changed text has.
    fn fault(&self, changed: &str) -> Result<String, TestCaseError> {
        let Err(errors) = loaded(changed) else {
            let line = changed.lines().nth(self.number - 1).unwrap();
            return Err(TestCaseError::fail(format!("`{line}` was taken, line {}", self.number)));
        };
        let known: &[String] = if self.is_remark { &UNFIT } else { &[] };
        // A required key is missed under its right name, too.
        let follows = |line: &String| line.ends_with(", found nothing");
        let new: Vec<_> = errors
            .0
            .into_iter()
            .filter(|line| !known.contains(line) && !follows(line))
            .collect();
        prop_assert_eq!(new.len(), 1, "{:?}", new);
        let start = format!("f:{}:{}: ", self.number, self.indent + 1);
        prop_assert!(new[0].starts_with(&start), "{}", new[0]);
        Ok(new[0].clone())
    }
}

/// The example, and the same with its remarks.
static TEXTS: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = example(&entries());
    let (full, _) = with_remarks(&text);
    (text, full)
});

/// What the example with its remarks lacks: a receiver's address and the like have no defaults.
static UNFIT: LazyLock<Vec<String>> =
    LazyLock::new(|| loaded(&TEXTS.1).err().map(|errors| errors.0).unwrap_or_default());

/// Lines with a key, those that stand as remarks too.
static KEYS: LazyLock<Vec<Line>> = LazyLock::new(|| {
    let (_, remarks) = with_remarks(&TEXTS.0);
    let lines = |text: &'static str, is_remark: bool| {
        text.lines().enumerate().filter_map(move |(index, line)| {
            let indent = line.len() - line.trim_start().len();
            let (key, rest) = line.trim_start().split_once(':')?;
            (!key.starts_with(['#', '-'])).then(|| Line {
                is_remark,
                number: index + 1,
                indent,
                key: key.to_owned(),
                rest: rest.to_owned(),
            })
        })
    };
    // Names of listeners and webhooks are anybody's choice.
    let counts = |line: &Line| remarks.contains(&line.number) && line.key != "name";
    lines(&TEXTS.0, false)
        .chain(lines(&TEXTS.1, true).filter(counts))
        .collect()
});

/// All words that are keys somewhere.
static WORDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let (known, _) = variables(&entries());
    let paths = known.values().flat_map(|path| path.split('.').map(str::to_owned));
    paths.chain(["hosts".to_owned()]).collect()
});

/// One slip: a letter left out, doubled by another, exchanged, or two in the wrong order.
fn slip(word: &str, kind: u8, at: prop::sample::Index, letter: char) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let place = at.index(letters.len());
    match kind {
        0 => {
            letters.remove(place);
        }
        1 => letters.insert(at.index(word.len() + 1), letter),
        2 => letters[place] = letter,
        _ => {
            let place = at.index(letters.len() - 1);
            letters.swap(place, place + 1);
        }
    }
    letters.into_iter().collect()
}

fn a_slip() -> impl Strategy<Value = (u8, prop::sample::Index, char)> {
    (0..4_u8, any::<prop::sample::Index>(), prop::char::range('a', 'z'))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any one slip in any key of the example is told at its line, with the right key.
    #[test]
    fn a_slip_in_a_key_is_told(line in any::<prop::sample::Index>(), (kind, at, letter) in a_slip()) {
        let line = line.get(&KEYS);
        let wrong = slip(&line.key, kind, at, letter);
        // A slip may make another right word, or none of a word of one letter.
        prop_assume!(wrong != line.key && !wrong.is_empty() && !WORDS.contains(&wrong));
        let fault = line.fault(&line.changed(&wrong, &line.rest))?;
        let says = format!("{wrong}: unknown key, did you mean `{}`?", line.key);
        prop_assert!(fault.contains(&says), "{fault}");
    }

    /// Any one slip in a word that stands for a choice is told at its line, with the right word.
    #[test]
    fn a_slip_in_a_word_is_told(line in any::<prop::sample::Index>(), (kind, at, letter) in a_slip()) {
        const CHOICES: [&str; 14] = [
            "true", "false", "sqlite", "block", "skip", "head", "oldest", "additive", "restore", "auditmon", "event",
            "username", "host", "kind",
        ];
        let lines: Vec<_> = KEYS.iter().filter(|line| CHOICES.contains(&line.rest.trim())).collect();
        prop_assert!(lines.len() > 8 && lines.iter().any(|line| line.is_remark));
        let line = line.get(&lines);
        let right = line.rest.trim();
        let wrong = slip(right, kind, at, letter);
        prop_assume!(wrong != right && !CHOICES.contains(&wrong.as_str()));
        let fault = line.fault(&line.changed(&line.key, &format!(" {wrong}")))?;
        let meant = fault.split("did you mean ").nth(1).unwrap_or_default();
        prop_assert!(meant.contains(&format!("`{right}`")), "{fault}");
    }

    /// Any one slip that makes no value of a value is told at its line, with what is expected.
    #[test]
    fn a_slip_in_a_value_is_told(
        line in any::<prop::sample::Index>(),
        form in 0..FORMS.len(),
        (kind, at, letter) in a_slip(),
    ) {
        let (expected, is_right) = FORMS[form];
        let lines: Vec<_> = KEYS.iter().filter(|line| is_right(line.rest.trim()) && line.rest.len() > 2).collect();
        let line = line.get(&lines);
        let wrong = slip(line.rest.trim(), kind, at, letter);
        prop_assume!(!is_right(&wrong));
        let fault = line.fault(&line.changed(&line.key, &format!(" {wrong}")))?;
        prop_assert!(fault.contains(&format!("{}: expected {expected}", line.key)), "{fault}");
    }
}

/// Whether it is a number with one of these units.
fn has_unit(text: &str, units: &[&str]) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && units.contains(&unit)
}

/// Whether it is such numbers one after the other.
fn is_duration(text: &str) -> bool {
    let ends = text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at);
    let part_begins = |at: &usize| *at > 0 && !text.as_bytes()[at - 1].is_ascii_digit();
    let mut rest = text;
    for at in ends.filter(part_begins).collect::<Vec<_>>().into_iter().rev() {
        let (before, part) = rest.split_at(at);
        if !has_unit(part, SPANS) {
            return false;
        }
        rest = before;
    }
    has_unit(rest, SPANS)
}

const SPANS: &[&str] = &["ms", "s", "m", "h", "d"];

/// What is expected, and what looks like it.
type Form = (&'static str, fn(&str) -> bool);

const FORMS: [Form; 4] = [
    ("a duration such as 250ms, 10s, 5m, 24h or 7d", is_duration),
    ("a size such as 512KiB, 64MiB or 10GiB", |text| {
        has_unit(text, &["B", "KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "TB"])
    }),
    ("a whole number", |text| has_unit(text, &[""])),
    ("an address with a port such as 127.0.0.1:7984", |text| {
        text.parse::<std::net::SocketAddr>().is_ok()
    }),
];
