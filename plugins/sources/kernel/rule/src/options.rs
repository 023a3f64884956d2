//! The options of a line, told apart as getopt does: one letter, its value
//! glued to it or in the next word.

use crate::fault::piece;
use crate::value::{Wrong, wrong};

/// One option of a line with its value.
pub(crate) enum Option_ {
    /// A letter; the value is empty where the letter takes none.
    Short(u8, Vec<u8>),
    /// `--backlog_wait_time N`
    BacklogWaitTime(Vec<u8>),
}

/// Letters that take a value, as in auditctl's option string.
const WITH_VALUE: &[u8] = b"CefrbaAdSFmRwWkpq";
/// Letters that take none.
const WITHOUT_VALUE: &[u8] = b"hicslDvt";

/// Takes the next option off the words.
pub(crate) fn next(words: &mut std::vec::IntoIter<Vec<u8>>) -> Option<Result<Option_, Wrong>> {
    let word = words.next()?;
    Some(option(&word, words))
}

fn option(word: &[u8], words: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Option_, Wrong> {
    if let Some(long) = word.strip_prefix(b"--") {
        return long_option(word, long, words);
    }
    let (letter, glued) = match word {
        [b'-', letter, glued @ ..] => (*letter, glued),
        _ => {
            let hint = if word.contains(&b'\t') {
                "only spaces separate words, a tab does not"
            } else {
                "every word is an option such as -a, -F, -k, or the value of one; a space in a value is written \\ (backslash, space)"
            };
            return wrong(format!("unexpected word {}", piece(word)), hint);
        }
    };
    if WITH_VALUE.contains(&letter) {
        let value = if glued.is_empty() {
            words.next()
        } else {
            Some(glued.to_vec())
        };
        return match value {
            Some(value) => Ok(Option_::Short(letter, value)),
            None => wrong(format!("-{} has no value", char::from(letter)), ""),
        };
    }
    if WITHOUT_VALUE.contains(&letter) && glued.is_empty() {
        return Ok(Option_::Short(letter, Vec::new()));
    }
    wrong(
        format!("unknown option {}", piece(word)),
        "known in a rules file are -a -A -S -F -C -k -w -p -b -f -e -r -D -i -c --backlog_wait_time",
    )
}

fn long_option(word: &[u8], long: &[u8], words: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Option_, Wrong> {
    const NAME: &[u8] = b"backlog_wait_time";
    if let Some(rest) = long.strip_prefix(NAME) {
        match rest.split_first() {
            None => {
                return match words.next() {
                    Some(value) => Ok(Option_::BacklogWaitTime(value)),
                    None => wrong("--backlog_wait_time has no value", ""),
                };
            }
            Some((b'=', value)) => return Ok(Option_::BacklogWaitTime(value.to_vec())),
            Some(_) => {}
        }
    }
    let right = match long {
        b"reset-lost" | b"reset_backlog_wait_time_actual" => "the counters are never reset: other readers use them",
        b"loginuid-immutable" => "it is irreversible until reboot; run auditctl by hand",
        _ => "of the long options only --backlog_wait_time N is known in a rules file",
    };
    wrong(format!("unsupported option {}", piece(word)), right)
}
