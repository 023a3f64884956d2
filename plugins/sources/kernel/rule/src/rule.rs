//! One rule: its parts, its bytes as the kernel takes and lists them, and the
//! form in which two rules are compared.

use crate::field::{self, number};
use crate::layout::{
    Action, FIXED_LEN, List, MASK_WORDS, MAX_FIELDS, OFFSET_BUFLEN, OFFSET_FIELDS, OFFSET_MASK, OFFSET_OPS,
    OFFSET_VALUES, Op, PREPEND,
};
use crate::mask::Mask;

/// The value of a rule's field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number, unsigned as the kernel compares it.
    Number(u32),
    /// The bytes of a path, a label or a key; not necessarily UTF-8.
    Text(Vec<u8>),
}

/// One test of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// The kernel's number of the field.
    pub field: u32,
    /// How it is compared.
    pub op: Op,
    /// What it is compared with.
    pub value: Value,
}

/// One rule of the kernel's audit filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The list it belongs to.
    pub list: List,
    /// What it does when all tests hold.
    pub action: Action,
    /// Put in front of its list when added. The kernel never lists this flag.
    pub prepend: bool,
    /// The calls it applies to.
    pub mask: Mask,
    /// The tests, in order; order counts when a rule is deleted.
    pub tests: Vec<Test>,
}

/// Why bytes are no rule this crate understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed part.
    #[error("{0} bytes are too few for a rule: it has at least {FIXED_LEN}")]
    Short(usize),
    /// A list that does not exist (yet).
    #[error("unknown list {0}")]
    List(u32),
    /// An action that does not exist (yet).
    #[error("unknown action {0}")]
    Action(u32),
    /// An operator that does not exist (yet).
    #[error("unknown operator {0:#x}")]
    Op(u32),
    /// More fields than a rule can have.
    #[error("{0} fields are more than a rule can have ({MAX_FIELDS})")]
    Fields(u32),
    /// Strings longer than the bytes that follow.
    #[error("a string of {need} bytes where {have} are left")]
    Strings {
        /// Bytes that the string should have.
        need: u32,
        /// Bytes that are left.
        have: usize,
    },
}

/// A rule with more fields than the kernel's structure holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} fields are more than a rule can have ({MAX_FIELDS})")]
pub struct TooManyFields(pub usize);

impl Rule {
    /// The rule as `struct audit_rule_data` with its strings, native
    /// endianness: the payload of ADD_RULE and DEL_RULE.
    ///
    /// # Errors
    /// More than 64 tests.
    pub fn encode(&self) -> Result<Vec<u8>, TooManyFields> {
        if self.tests.len() > MAX_FIELDS {
            return Err(TooManyFields(self.tests.len()));
        }
        let mut out = vec![0; FIXED_LEN];
        let flags = self.list.number() | if self.prepend { PREPEND } else { 0 };
        put(&mut out, 0, flags);
        put(&mut out, 4, self.action.number());
        put(&mut out, 8, self.tests.len() as u32);
        for (index, word) in self.mask.words().iter().enumerate() {
            put(&mut out, OFFSET_MASK + 4 * index, *word);
        }
        let mut strings = Vec::new();
        for (index, test) in self.tests.iter().enumerate() {
            let value = match &test.value {
                Value::Number(number) => *number,
                Value::Text(text) => {
                    strings.extend_from_slice(text);
                    u32::try_from(text.len()).unwrap_or(u32::MAX)
                }
            };
            put(&mut out, OFFSET_FIELDS + 4 * index, test.field);
            put(&mut out, OFFSET_VALUES + 4 * index, value);
            put(&mut out, OFFSET_OPS + 4 * index, test.op.number());
        }
        let buflen = u32::try_from(strings.len()).unwrap_or(u32::MAX);
        put(&mut out, OFFSET_BUFLEN, buflen);
        out.extend_from_slice(&strings);
        Ok(out)
    }

    /// Reads a rule as the kernel lists it. Bytes behind the last string
    /// (netlink padding) are ignored, and so is `buflen`, which the kernel
    /// does not check either.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing in the bytes makes it panic.
    pub fn decode(bytes: &[u8]) -> Result<Rule, DecodeError> {
        let Some((fixed, mut strings)) = bytes.split_at_checked(FIXED_LEN) else {
            return Err(DecodeError::Short(bytes.len()));
        };
        let flags = get(fixed, 0);
        let list = List::from_number(flags & !PREPEND).ok_or(DecodeError::List(flags))?;
        let action = get(fixed, 4);
        let action = Action::from_number(action).ok_or(DecodeError::Action(action))?;
        let count = get(fixed, 8);
        if count as usize > MAX_FIELDS {
            return Err(DecodeError::Fields(count));
        }
        let mut words = [0; MASK_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = get(fixed, OFFSET_MASK + 4 * index);
        }
        let mut tests = Vec::with_capacity(count as usize);
        for index in 0..count as usize {
            let field = get(fixed, OFFSET_FIELDS + 4 * index);
            let value = get(fixed, OFFSET_VALUES + 4 * index);
            let op = get(fixed, OFFSET_OPS + 4 * index);
            let op = Op::from_number(op).ok_or(DecodeError::Op(op))?;
            let value = if is_text(field) {
                let Some((text, rest)) = strings.split_at_checked(value as usize) else {
                    return Err(DecodeError::Strings {
                        need: value,
                        have: strings.len(),
                    });
                };
                strings = rest;
                Value::Text(text.to_vec())
            } else {
                Value::Number(value)
            };
            tests.push(Test { field, op, value });
        }
        Ok(Rule {
            list,
            action,
            prepend: flags & PREPEND != 0,
            mask: Mask::from_words(words),
            tests,
        })
    }

    /// The rule as the kernel would list it: no prepend flag, no class bits
    /// in the mask. Two rules are the same to the kernel when these are equal.
    #[must_use]
    pub fn normalised(&self) -> Rule {
        Rule {
            prepend: false,
            mask: self.mask.normalised(),
            ..self.clone()
        }
    }

    /// The rule's keys; several are joined by 0x01 in one field.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.tests
            .iter()
            .filter(|test| test.field == number::KEY)
            .filter_map(|test| match &test.value {
                Value::Text(text) => Some(text.split(|byte| *byte == 1)),
                Value::Number(_) => None,
            })
            .flatten()
    }
}

/// Whether the kernel stores this field's value as a string. Decoding must
/// agree with the kernel field by field, or all later strings shift.
pub(crate) fn is_text(field: u32) -> bool {
    field::by_number(field).is_some_and(|field| field.kind.is_text())
}

fn put(out: &mut [u8], offset: usize, value: u32) {
    if let Some(place) = out.get_mut(offset..offset + 4) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
}

fn get(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..offset + 4)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}
