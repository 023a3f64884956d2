//! Passwords, and foreign texts that must not repeat one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// Most characters of a server's text that are shown.
const MAX_SHOWN: usize = 200;

/// User and password.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    pub(crate) fn new(username: &str, password: &str) -> Result<Self, &'static str> {
        Ok(Self {
            username: username.to_owned(),
            password: decode(password)?,
        })
    }

    pub(crate) fn password(&self) -> &[u8] {
        &self.password
    }
}

/// The password itself: white space around it is no part of it; behind `enc:` stands base64, which is decoded once.
///
/// # Errors
/// What would be right; nothing of the password.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let text = text.trim();
    let bytes = match text.strip_prefix("enc:") {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "expected base64 behind `enc:`")?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Err("is empty");
    }
    Ok(Zeroizing::new(bytes))
}

/// The beginning of a server's text, on one line; none of it if it repeats the password.
pub(crate) fn excerpt(text: &str, credentials: Option<&Credentials>) -> String {
    let repeats = credentials.is_some_and(|known| {
        let secret = known.password();
        text.as_bytes().windows(secret.len()).any(|part| part == secret)
            || text.contains(&BASE64_STANDARD.encode(secret))
    });
    if repeats {
        return "(its text repeats the password and is not shown)".to_owned();
    }
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_decoded_once() {
        for (text, password) in [
            (" plain ", &b"plain"[..]),
            ("enc:c2VjcmV0", b"secret"),
            (" enc:c2VjcmV0\n", b"secret"),
            // "enc:c2VjcmV0", encoded
            ("enc:ZW5jOmMyVmpjbVYw", b"enc:c2VjcmV0"),
        ] {
            assert_eq!(decode(text).unwrap().as_slice(), password);
        }
        for text in ["", "  ", "enc:", "enc:c2VjcmV0=="] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_that_repeats_the_password_is_not_shown() {
        let known = Credentials::new("a", "hunter2").unwrap();
        for text in ["bad password hunter2", "aHVudGVyMg=="] {
            let shown = excerpt(text, Some(&known));
            assert!(shown.contains("not shown") && !shown.contains(text));
        }
        assert_eq!(excerpt("bad\n\tpass\u{1b}[31m", Some(&known)), "bad  pass [31m");
        assert_eq!(excerpt(&"ä".repeat(300), None).chars().count(), 201);
    }
}
