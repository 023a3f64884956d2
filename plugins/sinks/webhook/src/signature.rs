//! Signatures of Standard Webhooks 1.0, symmetric: `v1,BASE64(HMAC-SHA256(key, "ID.TIMESTAMP.BODY"))`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How a secret in text form begins.
const PREFIX: &str = "whsec_";
/// Fewest bytes of a key, as the standard has it.
const MIN_KEY: usize = 24;
/// Most keys that sign at the same time.
const MAX_KEYS: usize = 4;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys that sign, the newest first; several while a receiver changes over.
pub(crate) struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Reads what a secret file holds: `whsec_…`, a line each, or else the bytes of one key as they are.
    ///
    /// # Errors
    /// What would be right; never what is in the file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let keys = if bytes.starts_with(PREFIX.as_bytes()) {
            let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines
                .map(|line| {
                    line.strip_prefix(PREFIX)
                        .and_then(|key| BASE64.decode(key).ok())
                        .ok_or_else(|| format!("each line is {PREFIX} and base64"))
                })
                .collect::<Result<Vec<_>, _>>()?
        } else {
            vec![bytes.to_vec()]
        };
        if keys.len() > MAX_KEYS {
            return Err(format!("holds {} keys, at most {MAX_KEYS}", keys.len()));
        }
        if let Some(short) = keys.iter().find(|key| key.len() < MIN_KEY) {
            return Err(format!("a key has at least {MIN_KEY} bytes, here {}", short.len()));
        }
        Ok(Self(keys))
    }

    /// Value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut all = String::new();
        for key in &self.0 {
            // A key of any length is good.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
                continue;
            };
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str("v1,");
            BASE64.encode_string(mac.finalize().into_bytes(), &mut all);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    /// The example that the standard's libraries are tested with.
    #[test]
    fn golden_vector() {
        let keys = Keys::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            keys.sign(ID, 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn bytes_without_prefix_are_the_key() {
        let text = Keys::parse(b"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0").unwrap();
        let raw = Keys::parse(b"secretsecretsecretsecret").unwrap();
        assert_eq!(raw.0, text.0);
        assert_eq!(Keys::parse(&[0xff; 24]).unwrap().0, [[0xff; 24]]);
    }

    #[test]
    fn every_key_signs_the_newest_first() {
        let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let new = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let both = Keys::parse(format!("{new}\r\n\n{old}").as_bytes()).unwrap();
        let of = |text: &str| Keys::parse(text.as_bytes()).unwrap().sign(ID, 1, b"x");
        assert_eq!(both.sign(ID, 1, b"x"), format!("{} {}", of(new), of(old)));
    }

    #[test]
    fn bad_keys_are_refused_without_being_shown() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (bytes, says) in [
            ("short-raw-key".to_owned(), "at least 24 bytes, here 13"),
            ("whsec_c2hvcnQ=".to_owned(), "at least 24 bytes, here 5"),
            ("whsec_".to_owned(), "at least 24 bytes, here 0"),
            ("whsec_not/base64!".to_owned(), "base64"),
            (format!("{key}\nsomething else"), "each line is whsec_"),
            (format!("{key}\n").repeat(5), "holds 5 keys, at most 4"),
        ] {
            let error = Keys::parse(bytes.as_bytes()).err().unwrap();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("MfKQ") && !error.contains("raw-key"), "{error}");
        }
    }
}
