//! Parsing of one line: options in, statements out, all faults at once.

use crate::draft::Draft;
use crate::fault::{Fault, piece};
use crate::host::Host;
use crate::layout::MAX_KEY_LEN;
use crate::options::{self, Option_};
use crate::rule::Rule;
use crate::value::{self, Wrong, wrong};
use crate::words;

/// Longest line that auditctl reads, in bytes.
pub const MAX_LINE: usize = 6143;

/// What one line of a rules file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Load a rule (`-a`, `-A`, `-w`).
    Add(Box<Rule>),
    /// Delete loaded rules (`-D`), all or those with this key. What is not
    /// ours stays.
    DeleteAll {
        /// Only rules with this key.
        key: Option<Vec<u8>>,
    },
    /// `-b N`: records in the kernel's queue, 0 is no limit.
    BacklogLimit(u32),
    /// `-f N`: what a lost record causes: 0 nothing, 1 a line in the kernel log.
    Failure(u32),
    /// `-e N`: auditing off (0) or on (1).
    Enabled(u32),
    /// `-r N`: records a second, 0 is no limit.
    RateLimit(u32),
    /// `--backlog_wait_time N`: jiffies that a caller waits for room.
    BacklogWaitTime(u32),
    /// `-i`: rules that cannot be loaded are skipped.
    IgnoreErrors,
    /// `-c`: go on after a rule that cannot be loaded, and report it.
    ContinueOnErrors,
}

/// What was understood, with its line number (from 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Statements in order.
    pub statements: Vec<(usize, Statement)>,
    /// What works but hardly as meant.
    pub warnings: Vec<Fault>,
}

/// Parses one line, for example an entry of a configuration's list.
///
/// # Errors
/// Everything that is wrong in the line, at least one fault.
pub fn parse_line(line: &[u8], host: &dyn Host) -> Result<Parsed, Vec<Fault>> {
    parse_file(line, host)
}

/// Parses a rules file. Empty lines and lines whose first word begins with
/// `#` say nothing. After a line with `-i` or `-c` a faulty line is skipped
/// with a warning, as auditctl does.
///
/// # Errors
/// Everything that is wrong in the file, at least one fault; then nothing of
/// it should be loaded.
pub fn parse_file(text: &[u8], host: &dyn Host) -> Result<Parsed, Vec<Fault>> {
    let mut parsed = Parsed::default();
    let mut faults = Vec::new();
    let mut lenient = false;
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let outcome = one_line(line, host);
        let fault = |(what, right)| Fault {
            line: number,
            what,
            right,
        };
        parsed.warnings.extend(outcome.warnings.into_iter().map(fault));
        if outcome.faults.is_empty() {
            lenient |= outcome
                .statements
                .iter()
                .any(|statement| matches!(statement, Statement::IgnoreErrors | Statement::ContinueOnErrors));
            let statements = outcome.statements.into_iter();
            parsed.statements.extend(statements.map(|s| (number, s)));
        } else if lenient {
            parsed.warnings.extend(outcome.faults.into_iter().map(fault));
        } else {
            faults.extend(outcome.faults.into_iter().map(fault));
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

#[derive(Default)]
struct Outcome {
    statements: Vec<Statement>,
    warnings: Vec<Wrong>,
    faults: Vec<Wrong>,
}

fn one_line(line: &[u8], host: &dyn Host) -> Outcome {
    let mut outcome = Outcome::default();
    if line.len() > MAX_LINE {
        outcome.faults.push((
            format!("a line of {} bytes", line.len()),
            format!("the longest is {MAX_LINE}"),
        ));
        return outcome;
    }
    if line.contains(&0) {
        let what = "a NUL byte in the line".to_owned();
        outcome.faults.push((what, String::new()));
        return outcome;
    }
    let words = words::split(line);
    if words.first().is_none_or(|word| word.starts_with(b"#")) {
        return outcome;
    }
    let mut draft = Draft::default();
    let mut words = words.into_iter();
    while let Some(option) = options::next(&mut words) {
        let done = option.and_then(|option| apply(option, &mut draft, &mut outcome, host));
        if let Err(fault) = done {
            outcome.faults.push(fault);
        }
    }
    finish(draft, &mut outcome, host);
    outcome
}

fn apply(option: Option_, draft: &mut Draft, outcome: &mut Outcome, host: &dyn Host) -> Result<(), Wrong> {
    let (letter, value) = match option {
        Option_::Short(letter, value) => (letter, value),
        Option_::BacklogWaitTime(value) => {
            let number = setting("--backlog_wait_time", &value)?;
            outcome.statements.push(Statement::BacklogWaitTime(number));
            return Ok(());
        }
    };
    match letter {
        b'a' => draft.list(&value, false),
        b'A' => draft.list(&value, true),
        b'S' => draft.calls(value),
        b'F' => draft.field(&value, host),
        b'C' => draft.compare(&value),
        b'k' => draft.key(value),
        b'w' => draft.watch(value),
        b'p' => draft.perms(&value),
        b'D' => {
            draft.delete_all = true;
            Ok(())
        }
        _ => {
            outcome.statements.push(setting_of(letter, &value)?);
            Ok(())
        }
    }
}

/// Options that change the kernel's settings or how the file is read.
fn setting_of(letter: u8, value: &[u8]) -> Result<Statement, Wrong> {
    match (letter, value) {
        (b'b', _) => setting("-b", value).map(Statement::BacklogLimit),
        (b'r', _) => setting("-r", value).map(Statement::RateLimit),
        (b'e', b"0") => Ok(Statement::Enabled(0)),
        (b'e', b"1") => Ok(Statement::Enabled(1)),
        (b'e', b"2") => wrong(
            "-e 2 locks the configuration until the machine restarts",
            "use -e 1; a locked configuration could not be put back, nor reloaded",
        ),
        (b'e', _) => wrong(format!("-e {}", piece(value)), "0 is off, 1 is on"),
        (b'f', b"0") => Ok(Statement::Failure(0)),
        (b'f', b"1") => Ok(Statement::Failure(1)),
        (b'f', b"2") => wrong(
            "-f 2 makes the machine panic when a record is lost",
            "use -f 1 (a line in the kernel log) or -f 0",
        ),
        (b'f', _) => wrong(
            format!("-f {}", piece(value)),
            "0 is silent, 1 a line in the kernel log",
        ),
        (b'i', _) => Ok(Statement::IgnoreErrors),
        (b'c', _) => Ok(Statement::ContinueOnErrors),
        _ => refused(letter),
    }
}

/// Options that auditctl has and a rules file here cannot use.
fn refused(letter: u8) -> Result<Statement, Wrong> {
    let right = match letter {
        b'd' | b'W' => "it would delete a rule that someone else may have loaded: leave the rule out instead",
        b'l' | b's' | b'v' | b'h' => "it asks for output, which a rules file has nowhere to put",
        b'm' => "it writes a message into the trail: run auditctl -m by hand",
        b'R' => "rules files cannot include others: name each in rules.files",
        b't' => "trimming is done by the kernel when rules change",
        _ => "equivalent subtrees are not supported: name each directory in a rule of its own",
    };
    wrong(
        format!("-{} is not supported in a rules file", char::from(letter)),
        right,
    )
}

fn setting(option: &str, value: &[u8]) -> Result<u32, Wrong> {
    match value::unsigned(value) {
        Some(number) => Ok(number),
        None => wrong(
            format!("{option} {} is no number", piece(value)),
            "a whole number from 0 to 4294967295",
        ),
    }
}

fn finish(draft: Draft, outcome: &mut Outcome, host: &dyn Host) {
    if draft.delete_all {
        let others = draft.has_rule();
        let key = join_keys(&draft.keys);
        if others {
            outcome.faults.push((
                "-D stands on a line with a rule".to_owned(),
                "give each its own line; only -k can go with -D".to_owned(),
            ));
        } else {
            let key = (!key.is_empty()).then_some(key);
            outcome.statements.push(Statement::DeleteAll { key });
        }
        return;
    }
    if !draft.has_rule() {
        if !draft.keys.is_empty() {
            outcome.faults.push((
                "-k without a rule".to_owned(),
                "a key belongs to -a, -A, -w or -D".to_owned(),
            ));
        }
        return;
    }
    // What is missing because an option before was wrong is not said twice.
    if !outcome.faults.is_empty() {
        return;
    }
    match draft.into_rule(host, &mut outcome.warnings) {
        Ok(rule) => outcome.statements.push(Statement::Add(Box::new(rule))),
        Err(faults) => outcome.faults.extend(faults),
    }
}

/// Several keys are one field, joined by 0x01.
pub(crate) fn join_keys(keys: &[Vec<u8>]) -> Vec<u8> {
    keys.join(&crate::layout::KEY_SEPARATOR)
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Wrong> {
    if key.len() > MAX_KEY_LEN {
        return wrong(
            format!("keys of {} bytes together", key.len()),
            format!("the kernel takes {MAX_KEY_LEN}"),
        );
    }
    Ok(())
}
