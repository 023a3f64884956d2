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

/// The example with what stands as a remark below `KEY: null`, `{}` or `[]` in place of that.
fn with_remarks(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = " ".repeat(line.len() - line.trim_start().len());
        let key = line.trim_start().split(": ").next().unwrap();
        let start = format!("{indent}# {key}:");
        if line.trim_start().starts_with('#') || lines.peek() != Some(&start.as_str()) {
            out += &format!("{line}\n");
            continue;
        }
        let begin = format!("{indent}# ");
        while let Some(rest) = lines.peek().and_then(|line| line.strip_prefix(&begin)) {
            out += &format!("{indent}{}\n", rest.replace("NAME:", "name:"));
            lines.next();
        }
    }
    out
}

#[test]
fn what_stands_as_a_remark_is_right_too() {
    let text = with_remarks(&example(&entries()));
    assert!(
        text.contains("\n    rules:\n") && text.contains("\nhosts:\n  - match:"),
        "{text}"
    );
    if let Err(errors) = loaded(&text) {
        // A plugin may want more than its defaults; but every key is known and of the right type.
        for line in errors.0 {
            assert!(!line.contains("unknown key") && !line.contains("found `"), "{line}");
        }
    }
}

#[test]
fn no_variable_stands_for_two_keys() {
    let (known, twice) = variables(&entries());
    assert_eq!(twice, [""; 0]);
    assert!(known.len() > 80, "{}", known.len());
}

/// Lines of the example with a key: number, indentation, key, rest.
static KEYS: LazyLock<Vec<(usize, usize, String, String)>> = LazyLock::new(|| {
    let text = example(&entries());
    let line = |(index, line): (usize, &str)| {
        let indent = line.len() - line.trim_start().len();
        let (key, rest) = line.trim_start().split_once(':')?;
        (!key.starts_with(['#', '-'])).then(|| (index + 1, indent, key.to_owned(), rest.to_owned()))
    };
    text.lines().enumerate().filter_map(line).collect()
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

/// The example with another line in place of one.
fn with_line(number: usize, line: &str) -> String {
    let text = example(&entries());
    let mut lines: Vec<&str> = text.lines().collect();
    lines[number - 1] = line;
    lines.join("\n") + "\n"
}

fn a_slip() -> impl Strategy<Value = (u8, prop::sample::Index, char)> {
    (0..4_u8, any::<prop::sample::Index>(), prop::char::range('a', 'z'))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any one slip in any key of the example is told at its line, with the right key.
    #[test]
    fn a_slip_in_a_key_is_told(key in any::<prop::sample::Index>(), (kind, at, letter) in a_slip()) {
        let (number, indent, key, rest) = key.get(&KEYS);
        let wrong = slip(key, kind, at, letter);
        // A slip may make another right word, or none of a word of one letter.
        prop_assume!(wrong != *key && !wrong.is_empty() && !WORDS.contains(&wrong));
        let text = with_line(*number, &format!("{}{wrong}:{rest}", " ".repeat(*indent)));
        let errors = match loaded(&text) {
            Ok(_) => return Err(TestCaseError::fail(format!("{wrong} for {key} was taken"))),
            Err(errors) => errors,
        };
        let start = format!("f:{number}:{}: ", indent + 1);
        prop_assert_eq!(errors.0.len(), 1, "{}", errors);
        let line = &errors.0[0];
        prop_assert!(line.starts_with(&start), "{line}");
        prop_assert!(line.contains(&format!("{wrong}: unknown key, did you mean `{key}`?")), "{line}");
    }

    /// Any one slip in a word that stands for a choice is told at its line, with the right word.
    #[test]
    fn a_slip_in_a_word_is_told(key in any::<prop::sample::Index>(), (kind, at, letter) in a_slip()) {
        const CHOICES: [&str; 8] = ["true", "false", "sqlite", "block", "skip", "head", "oldest", "additive"];
        let lines: Vec<_> = KEYS.iter().filter(|line| CHOICES.contains(&line.3.trim())).collect();
        prop_assert!(lines.len() > 8);
        let (number, indent, key, rest) = *key.get(&lines);
        let right = rest.trim();
        let wrong = slip(right, kind, at, letter);
        prop_assume!(wrong != right && !CHOICES.contains(&wrong.as_str()));
        let text = with_line(*number, &format!("{}{key}: {wrong}", " ".repeat(*indent)));
        let errors = match loaded(&text) {
            Ok(_) => return Err(TestCaseError::fail(format!("{wrong} for {right} was taken"))),
            Err(errors) => errors,
        };
        let line = &errors.0[0];
        prop_assert!(line.starts_with(&format!("f:{number}:{}: ", indent + 1)), "{line}");
        let meant = line.split("did you mean ").nth(1).unwrap_or_default();
        prop_assert!(meant.contains(&format!("`{right}`")), "{line}");
    }
}
