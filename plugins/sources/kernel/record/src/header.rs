//! The head of a record: `audit(SEC.MSEC:SERIAL): BODY`.

use std::fmt;

/// What identifies an event within one boot, and when its system call was *entered*.
///
/// Not an order: the kernel's clock is coarse and steps, and a call that blocked for an hour
/// bears an hour-old time with a new serial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Seconds since 1970, wall clock of the host.
    pub sec: u64,
    /// Milliseconds, 0 to 999.
    pub msec: u16,
    /// The kernel's event counter: from 1 at boot, wraps to 0 after 2³².
    pub serial: u32,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}:{}", self.sec, self.msec, self.serial)
    }
}

/// The payload does not begin with `audit(SEC.MSEC:SERIAL):`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the record: expected {expected}")]
pub struct HeaderError {
    /// Offset of the first byte that does not fit.
    pub at: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// Splits a record's payload into stamp and body.
///
/// One space after the colon is taken off; further ones belong to the body (continued EXECVE
/// records begin with one). An EOE record has an empty body.
///
/// # Errors
///
/// [`HeaderError`] names the offset if the head is malformed or a number does not fit.
pub fn parse(payload: &[u8]) -> Result<(Stamp, &[u8]), HeaderError> {
    let (stamp, at) = parse_at(payload)?;
    Ok((stamp, payload.get(at..).unwrap_or_default()))
}

/// Like [`parse`], but gives the body's offset.
pub(crate) fn parse_at(payload: &[u8]) -> Result<(Stamp, usize), HeaderError> {
    const HEAD: &[u8] = b"audit(";
    if !payload.starts_with(HEAD) {
        return Err(HeaderError {
            at: 0,
            expected: "audit(",
        });
    }
    let (sec, at) = number(payload, HEAD.len())?;
    let at = expect(payload, at, b'.', ".")?;
    let (msec, end) = number(payload, at)?;
    if end != at + 3 {
        return Err(HeaderError {
            at,
            expected: "three digits",
        });
    }
    let at = expect(payload, end, b':', ":")?;
    let (serial, end) = number(payload, at)?;
    let Ok(serial) = u32::try_from(serial) else {
        return Err(HeaderError {
            at,
            expected: "a 32-bit serial",
        });
    };
    let at = expect(payload, end, b')', ")")?;
    let at = expect(payload, at, b':', ":")?;
    let at = if payload.get(at) == Some(&b' ') { at + 1 } else { at };
    // Three digits: the value is at most 999.
    Ok((
        Stamp {
            sec,
            msec: msec as u16,
            serial,
        },
        at,
    ))
}

fn expect(bytes: &[u8], at: usize, byte: u8, expected: &'static str) -> Result<usize, HeaderError> {
    if bytes.get(at) == Some(&byte) {
        Ok(at + 1)
    } else {
        Err(HeaderError { at, expected })
    }
}

/// Reads decimal digits from `from` on; gives the number and the offset behind it.
fn number(bytes: &[u8], from: usize) -> Result<(u64, usize), HeaderError> {
    let mut at = from;
    let mut value: u64 = 0;
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit)))
            .ok_or(HeaderError {
                at,
                expected: "a number below 2^64",
            })?;
        at += 1;
    }
    if at == from {
        Err(HeaderError {
            at,
            expected: "a digit",
        })
    } else {
        Ok((value, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let (stamp, body) = parse(b"audit(1795208547.716:1699351): pid=1").unwrap();
        assert_eq!(
            stamp,
            Stamp {
                sec: 1_795_208_547,
                msec: 716,
                serial: 1_699_351
            }
        );
        assert_eq!(body, b"pid=1");
        assert_eq!(stamp.to_string(), "1795208547.716:1699351");
        assert_eq!(parse(b"audit(1.000:4294967295): ").unwrap().1, b"");
        assert_eq!(parse(b"audit(1.000:4294967295):").unwrap().1, b"");
        assert_eq!(parse(b"audit(1.000:2):  a1=x").unwrap().1, b" a1=x");
    }

    #[test]
    fn refuses() {
        for (text, at) in [
            (&b""[..], 0),
            (b"audit", 0),
            (b"audit(", 6),
            (b"audit(1,000:2): ", 7),
            (b"audit(1.00:2): ", 8),
            (b"audit(1.0000:2): ", 8),
            (b"audit(1.000:4294967296): ", 12),
            (b"audit(99999999999999999999.000:1): ", 25),
            (b"audit(1.000:2) ", 14),
        ] {
            assert_eq!(parse(text).unwrap_err().at, at, "{}", String::from_utf8_lossy(text));
        }
    }
}
