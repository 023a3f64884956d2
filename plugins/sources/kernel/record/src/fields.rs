//! The tokenizer of a record's body: `name=value` and what else occurs there.
//!
//! Grammar and traps: reference, section 15. It never fails: every byte of the body that is no
//! space lands in exactly one [`Field`].

use memchr::{memchr, memrchr};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// Up to the next space: number, hex, literal.
    Bare,
    /// `"…"`: bytes as they are, never hex.
    Double,
    /// `'…'` of a user message: up to the last `'` of the record, with fields inside.
    Single,
}

/// A value as it stands in the record, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The bytes between the quotes, or the bare token.
    pub text: &'a [u8],
    /// How it was written.
    pub quote: Quote,
}

/// One piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name before `=`; empty for a word that has none.
    pub name: &'a [u8],
    /// The value, or the word.
    pub value: Value<'a>,
}

impl<'a> Value<'a> {
    /// A bare token.
    #[must_use]
    pub const fn bare(text: &'a [u8]) -> Self {
        Self {
            text,
            quote: Quote::Bare,
        }
    }

    /// Tells whether this is the kernel's unquoted `(null)`: there is no value.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.quote == Quote::Bare && self.text == b"(null)"
    }

    /// Reads an unsigned decimal number; `None` on anything else, also on overflow.
    #[must_use]
    pub fn decimal(&self) -> Option<u64> {
        decimal(self.text)
    }

    /// Reads a decimal number with an optional minus.
    #[must_use]
    pub fn signed(&self) -> Option<i64> {
        match self.text.strip_prefix(b"-") {
            Some(digits) => 0_i64.checked_sub_unsigned(decimal(digits)?),
            None => i64::try_from(decimal(self.text)?).ok(),
        }
    }

    /// Reads hex digits without prefix; at most 16.
    #[must_use]
    pub fn hex(&self) -> Option<u64> {
        if self.text.is_empty() || self.text.len() > 16 {
            return None;
        }
        self.text.iter().try_fold(0, |value, byte| {
            Some(value << 4 | u64::from((*byte as char).to_digit(16)?))
        })
    }

    /// Reads a user, group or session id: 32 bits, also as the signed `-1` of OBJ_PID.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        if self.text == b"-1" {
            Some(u32::MAX)
        } else {
            u32::try_from(self.decimal()?).ok()
        }
    }
}

/// Walks over the fields of a body, borrowing.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Tokenizes a body.
#[must_use]
pub const fn fields(body: &[u8]) -> Fields<'_> {
    Fields { rest: body }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.rest.iter().position(|b| *b != b' ')?;
        let rest = self.rest.get(start..)?;
        let name_len = name_len(rest);
        if name_len == 0 || rest.get(name_len) != Some(&b'=') {
            let (word, rest) = split_at_space(rest);
            self.rest = rest;
            return Some(Field {
                name: b"",
                value: Value::bare(word),
            });
        }
        let (name, value) = rest.split_at(name_len);
        let value = value.get(1..).unwrap_or_default();
        Some(Field {
            name,
            value: self.value(name, value),
        })
    }
}

impl<'a> Fields<'a> {
    /// Takes the value at the head of `rest` and leaves what follows it.
    #[inline]
    fn value(&mut self, name: &[u8], rest: &'a [u8]) -> Value<'a> {
        match rest.first() {
            Some(b'"') => {
                let inner = rest.get(1..).unwrap_or_default();
                if let Some(end) = memchr(b'"', inner) {
                    let (text, rest) = inner.split_at(end);
                    self.rest = rest.get(1..).unwrap_or_default();
                    return Value {
                        text,
                        quote: Quote::Double,
                    };
                }
            }
            // Only msg is quoted so, and its text may hold quotes: it ends at the last one.
            Some(b'\'') if name == b"msg" => {
                let inner = rest.get(1..).unwrap_or_default();
                // A message cut by the kernel has no end: all of the rest belongs to it.
                let end = memrchr(b'\'', inner).unwrap_or(inner.len());
                let (text, rest) = inner.split_at(end);
                self.rest = rest.get(1..).unwrap_or_default();
                return Value {
                    text,
                    quote: Quote::Single,
                };
            }
            _ => {}
        }
        // Before the search for a space: a long run of glued fields must not be searched again
        // for each of them.
        if let Some(digits) = glued(name, rest) {
            let (text, after) = rest.split_at(digits);
            self.rest = after;
            return Value::bare(text);
        }
        let (text, after) = split_at_space(rest);
        self.rest = after;
        if is_free_text(name) {
            return Value::bare(self.free_text(rest, text.len()));
        }
        Value::bare(text)
    }

    /// Extends a value of `len` bytes by the words without `=` that follow it.
    fn free_text(&mut self, rest: &'a [u8], mut len: usize) -> &'a [u8] {
        let mut at = len;
        loop {
            let tail = rest.get(at..).unwrap_or_default();
            let Some(skip) = tail.iter().position(|b| *b != b' ') else {
                break;
            };
            let word = tail.get(skip..).unwrap_or_default();
            if word.get(name_len(word)) == Some(&b'=') && name_len(word) > 0 {
                break;
            }
            // An empty value followed by a word is a value of that word.
            at += skip + split_at_space(word).0.len();
            len = at;
        }
        let (text, after) = rest.split_at(len.min(rest.len()));
        self.rest = after;
        let blank = text.iter().position(|b| *b != b' ').unwrap_or(text.len());
        text.get(blank..).unwrap_or_default()
    }
}

/// Length of the name at the head: letters, digits, `_`, `-`, and the brackets of `aN[M]`.
#[inline]
fn name_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !IN_NAME[*b as usize]).unwrap_or(bytes.len())
}

/// A table, because this question is asked for every byte of every name.
static IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table[b'_' as usize] = true;
    table[b'-' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

#[inline]
fn split_at_space(bytes: &[u8]) -> (&[u8], &[u8]) {
    // Values are short: a plain loop beats a vectorised search up to some 30 bytes.
    let head = bytes.len().min(32);
    let end = match bytes.iter().take(head).position(|b| *b == b' ') {
        Some(end) => end,
        None => head + memchr(b' ', bytes.get(head..).unwrap_or_default()).unwrap_or(bytes.len() - head),
    };
    bytes.split_at(end)
}

/// Fields of user messages whose value may be several words without quotes.
fn is_free_text(name: &[u8]) -> bool {
    matches!(name, b"op" | b"cmd" | b"reason" | b"text")
}

/// Finds the end of the number in `ses=62op=remove_rule`, which the kernel prints without a
/// space when a watch goes with its file.
fn glued(name: &[u8], rest: &[u8]) -> Option<usize> {
    if !matches!(name, b"ses" | b"auid" | b"uid" | b"pid") {
        return None;
    }
    let digits = rest.iter().position(|b| !b.is_ascii_digit()).filter(|n| *n > 0)?;
    let next = rest.get(digits..)?;
    let is_field = next.first().is_some_and(u8::is_ascii_alphabetic) && next.get(name_len(next)) == Some(&b'=');
    is_field.then_some(digits)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
