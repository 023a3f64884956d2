//! A short, self-contained form of a rule for a plugin's memory.
//!
//! `struct audit_rule_data` is 1,040 bytes of mostly zeros. This form of a
//! usual rule is about 40 bytes and does not depend on the machine's
//! endianness. All numbers little endian:
//!
//! ```text
//! u8 list number, u8 action number, u8 mask form (0 none, 1 all, 2 listed)
//! mask form 2: u16 count, count × u16 call
//! u8 count of tests, each: u16 field, u8 operator (place in SEARCH_ORDER),
//!     u32 value, or for a text field u32 length and the bytes
//! ```

use crate::layout::{Action, List, MAX_FIELDS, Op};
use crate::mask::Mask;
use crate::rule::{Rule, Test, TooManyFields, Value, is_text};

const MASK_NONE: u8 = 0;
const MASK_ALL: u8 = 1;
const MASK_LISTED: u8 = 2;

/// Bytes that are no rule in the compact form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a rule in compact form")]
pub struct BadCompact;

impl Rule {
    /// The rule in compact form. The prepend flag, which is an instruction
    /// and no part of a loaded rule, is left out.
    ///
    /// # Errors
    /// More than 64 tests, or a field number over 65535.
    pub fn to_compact(&self) -> Result<Vec<u8>, TooManyFields> {
        if self.tests.len() > MAX_FIELDS {
            return Err(TooManyFields(self.tests.len()));
        }
        let mut out = vec![self.list.number() as u8, self.action.number() as u8];
        if self.mask.is_none() {
            out.push(MASK_NONE);
        } else if self.mask.is_all() {
            out.push(MASK_ALL);
        } else {
            out.push(MASK_LISTED);
            let calls: Vec<u16> = self.mask.iter().filter_map(|call| call.try_into().ok()).collect();
            out.extend_from_slice(&(calls.len() as u16).to_le_bytes());
            for call in calls {
                out.extend_from_slice(&call.to_le_bytes());
            }
        }
        out.push(self.tests.len() as u8);
        for test in &self.tests {
            let field = u16::try_from(test.field).map_err(|_| TooManyFields(self.tests.len()))?;
            out.extend_from_slice(&field.to_le_bytes());
            let op = Op::SEARCH_ORDER.iter().position(|op| *op == test.op);
            out.push(op.unwrap_or_default() as u8);
            match &test.value {
                Value::Number(number) => out.extend_from_slice(&number.to_le_bytes()),
                Value::Text(text) => {
                    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    out.extend_from_slice(text);
                }
            }
        }
        Ok(out)
    }

    /// Reads the compact form; all bytes must belong to the rule.
    ///
    /// # Errors
    /// [`BadCompact`]; nothing in the bytes makes it panic.
    pub fn from_compact(mut bytes: &[u8]) -> Result<Rule, BadCompact> {
        let input = &mut bytes;
        let list = List::from_number(u32::from(u8_from(input)?)).ok_or(BadCompact)?;
        let action = Action::from_number(u32::from(u8_from(input)?)).ok_or(BadCompact)?;
        let mask = match u8_from(input)? {
            MASK_NONE => Mask::NONE,
            MASK_ALL => Mask::ALL,
            MASK_LISTED => {
                let mut mask = Mask::NONE;
                for _ in 0..u16_from(input)? {
                    if !mask.insert(u32::from(u16_from(input)?)) {
                        return Err(BadCompact);
                    }
                }
                mask
            }
            _ => return Err(BadCompact),
        };
        let count = u8_from(input)?;
        if usize::from(count) > MAX_FIELDS {
            return Err(BadCompact);
        }
        let mut tests = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let field = u32::from(u16_from(input)?);
            let op = usize::from(u8_from(input)?);
            let op = Op::SEARCH_ORDER.get(op).copied().ok_or(BadCompact)?;
            let number = u32::from_le_bytes(take(input)?);
            let value = if is_text(field) {
                let (text, rest) = input.split_at_checked(number as usize).ok_or(BadCompact)?;
                *input = rest;
                Value::Text(text.to_vec())
            } else {
                Value::Number(number)
            };
            tests.push(Test { field, op, value });
        }
        if !input.is_empty() {
            return Err(BadCompact);
        }
        Ok(Rule {
            list,
            action,
            prepend: false,
            mask,
            tests,
        })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], BadCompact> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(BadCompact)?;
    *input = rest;
    Ok(*head)
}

fn u8_from(input: &mut &[u8]) -> Result<u8, BadCompact> {
    Ok(u8::from_le_bytes(take(input)?))
}

fn u16_from(input: &mut &[u8]) -> Result<u16, BadCompact> {
    Ok(u16::from_le_bytes(take(input)?))
}
