//! Strings that processes choose: file names, arguments, command names.
//!
//! The kernel prints them in quotes if every byte is in 0x21–0x7e and none is a quote, else as
//! upper-case hex without quotes. So the *field* says that it is such a string and the *quote*
//! says whether it is hex; what the text looks like says nothing.

use std::borrow::Cow;

use crate::fields::{Quote, Value};

/// Gives the bytes of an untrusted string.
///
/// A quoted value is what stands there. A bare value is hex; one that is none (`(null)`, `?`,
/// text of a user tool that does not encode) is given as it is.
#[must_use]
pub fn decode_untrusted<'a>(value: &Value<'a>) -> Cow<'a, [u8]> {
    if value.quote != Quote::Bare {
        return Cow::Borrowed(value.text);
    }
    let mut bytes = Vec::new();
    if append_hex(value.text, &mut bytes) {
        Cow::Owned(bytes)
    } else {
        Cow::Borrowed(value.text)
    }
}

/// Appends the bytes of an untrusted string; the same as [`decode_untrusted`] without a new
/// allocation.
pub fn append_untrusted(value: &Value<'_>, out: &mut Vec<u8>) {
    if value.quote != Quote::Bare || !append_hex(value.text, out) {
        out.extend_from_slice(value.text);
    }
}

/// Appends the bytes of upper-case hex digits; leaves `out` alone and gives `false` if the text
/// is empty, of odd length, or has another byte in it.
pub fn append_hex(text: &[u8], out: &mut Vec<u8>) -> bool {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return false;
    }
    let start = out.len();
    out.reserve(text.len() / 2);
    for pair in text.as_chunks::<2>().0 {
        let (high, low) = (digit(pair[0]), digit(pair[1]));
        if (high | low) > 0x0f {
            out.truncate(start);
            return false;
        }
        out.push(high << 4 | low);
    }
    true
}

/// Value of a hex digit; 0xff for anything else. Lower case is no digit: neither the kernel nor
/// libaudit prints it, so it marks plain text (`acct=deed`).
#[inline]
fn digit(byte: u8) -> u8 {
    DIGITS[byte as usize]
}

static DIGITS: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};
