//! JSON text: strings, numbers, hex.

use crate::fields::{Quote, Value};

/// Appends a JSON string in quotes, escaped minimally: `\"`, `\\`, `\b \f \n \r \t`, other
/// control characters as `\u00xx`, everything else as it is.
///
/// Bytes that are not UTF-8 become U+FFFD, one per maximal ill-formed sequence; then the result
/// is `false`, and all bytes belong into a sibling `<name>_hex`.
pub fn string(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let whole = std::str::from_utf8(text).is_ok();
    if whole {
        escape(text, out);
    } else {
        for chunk in text.utf8_chunks() {
            escape(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
    whole
}

/// Appends the inside of a JSON string; `text` is UTF-8.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = next_escape(rest) {
        let (clean, dirty) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((byte, after)) = dirty.split_first() else {
            break;
        };
        match ESCAPES[*byte as usize] {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                append_hex(&[*byte], out);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Finds the first byte that needs an escape, eight bytes at a time: records are a kilobyte of
/// text with a few quotes in it, and looking at single bytes would be half of the whole work.
fn next_escape(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // High bit of each byte that is zero, exact up to the first such byte.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, tail) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let quote = zero(word ^ (ONES * 0x22));
        let backslash = zero(word ^ (ONES * 0x5c));
        let found = control | quote | backslash;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|b| ESCAPES[*b as usize] != 0)?;
    Some(text.len() - tail.len() + at)
}

/// Appends bytes as lower-case hex digits.
pub(crate) fn append_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends an unsigned number.
pub(crate) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (value % 10) as u8;
        }
        value /= 10;
        if value == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Tells whether a value can stand in JSON as the number it is: digits without leading zero,
/// within 64 bits.
pub(crate) fn is_number(value: &Value<'_>) -> bool {
    let digits = value.text.strip_prefix(b"-").unwrap_or(value.text);
    value.quote == Quote::Bare
        && match (digits, digits.len() == value.text.len()) {
            ([b'0'], positive) => positive,
            ([b'0', ..], _) => false,
            (_, true) => value.decimal().is_some(),
            (_, false) => value.signed().is_some(),
        }
}

static ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_minimally() {
        assert_eq!(
            json(b"a\"\\/\x08\x0c\n\r\t\x00\x1f\x7f"),
            "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\""
        );
        assert_eq!(json("é日".as_bytes()), "\"é日\"");
        assert_eq!(
            json(b"a\xff\xfe\x80b\xe6\x97"),
            "\"a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\""
        );
        assert_eq!(json(b""), "\"\"");
    }

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut text = vec![b'x'; 20];
                text[place] = byte;
                let expected = (ESCAPES[byte as usize] != 0).then_some(place);
                assert_eq!(next_escape(&text), expected, "{byte} at {place}");
                // Neighbours that a borrow could reach do not hide it.
                text.iter_mut().skip(place + 1).for_each(|b| *b = 0x21);
                assert_eq!(next_escape(&text), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn numbers() {
        for n in [0, 7, 10, 4_294_967_295, u64::MAX] {
            let mut out = Vec::new();
            number(n, &mut out);
            assert_eq!(out, n.to_string().into_bytes());
        }
        for (text, good) in [
            (&b"0"[..], true),
            (b"-13", true),
            (b"18446744073709551615", true),
            (b"18446744073709551616", false),
            (b"-9223372036854775808", true),
            (b"-9223372036854775809", false),
            (b"-0", false),
            (b"00", false),
            (b"01", false),
            (b"", false),
            (b"-", false),
            (b"?", false),
        ] {
            assert_eq!(is_number(&Value::bare(text)), good, "{}", String::from_utf8_lossy(text));
        }
    }
}
