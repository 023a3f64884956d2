//! Files that hold secrets, and texts that must not repeat one.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use auditmon_core::privileged::Control;

/// Largest secret file, in bytes.
const MAX_FILE: u64 = 16 << 10;
/// Most characters of an answer's body that are shown.
const MAX_SHOWN: usize = 200;
/// So many bytes in a row of a secret give it away.
const WINDOW: usize = 8;

/// Reads a secret from a file that nobody but its owner can read; one line end at its end is no part of it.
///
/// # Errors
/// What is wrong with the file and what would be right; never what is in it.
pub(crate) fn read(control: &Control, path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = control.open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(&format_args!("is larger than the {MAX_FILE} bytes of a secret")));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(wrong(&"is empty"));
    }
    Ok(bytes)
}

/// The same for a secret that is text.
///
/// # Errors
/// As [`read`], and text that is no UTF-8.
pub(crate) fn read_text(control: &Control, path: &Path) -> Result<String, String> {
    String::from_utf8(read(control, path)?).map_err(|_| format!("{}: is not UTF-8 text", path.display()))
}

/// What must never be shown.
#[derive(Default)]
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Adds one.
    pub(crate) fn add(&mut self, secret: impl Into<Vec<u8>>) {
        let secret = squeeze(&secret.into());
        if !secret.is_empty() {
            self.0.push(secret);
        }
    }

    /// The beginning of a foreign text, on one line, or a note in its place if it repeats a secret or a part of one;
    /// `None` if there is nothing to show.
    pub(crate) fn excerpt(&self, text: &[u8]) -> Option<String> {
        if self.occur_in(&squeeze(text)) {
            return Some("(its text repeats a secret and is not shown)".to_owned());
        }
        let text = String::from_utf8_lossy(text);
        let mut shown = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            if word.is_empty() {
                continue;
            }
            if !shown.is_empty() {
                shown.push(' ');
            }
            shown.push_str(word);
        }
        if let Some((end, _)) = shown.char_indices().nth(MAX_SHOWN) {
            shown.truncate(end);
            shown.push('…');
        }
        (!shown.is_empty()).then_some(shown)
    }

    fn occur_in(&self, text: &[u8]) -> bool {
        let windows: HashSet<&[u8]> = text.windows(WINDOW).collect();
        self.0.iter().any(|secret| {
            if secret.len() < WINDOW {
                text.windows(secret.len()).any(|part| part == secret)
            } else {
                secret.windows(WINDOW).any(|part| windows.contains(part))
            }
        })
    }
}

/// Without what JSON puts before a slash, and without white space that a line break may have added.
fn squeeze(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(|byte| *byte != b'\\' && !byte.is_ascii_whitespace())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    use auditmon_core::privileged::ConfiguredFile;

    use super::*;

    fn control(path: &Path) -> Control {
        let file = ConfiguredFile {
            path: path.to_owned(),
            secret: true,
        };
        Control::of_caller(vec![file]).unwrap()
    }

    fn read(path: &Path) -> Result<Vec<u8>, String> {
        super::read(&control(path), path)
    }

    fn read_text(path: &Path) -> Result<String, String> {
        super::read_text(&control(path), path)
    }

    fn file(dir: &tempfile::TempDir, mode: u32, bytes: &[u8]) -> std::path::PathBuf {
        use std::io::Write as _;
        let path = dir.path().join(format!("{mode:o}"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_its_owners() {
        let dir = tempfile::TempDir::new().unwrap();
        for mode in [0o600, 0o400] {
            assert_eq!(read(&file(&dir, mode, b"hush")).unwrap(), b"hush");
        }
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
            let error = read(&file(&dir, mode, b"hush")).unwrap_err();
            assert!(error.contains(&format!("mode {mode:04o} ")), "{error}");
            assert!(error.contains("chmod 600") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn one_line_end_is_no_part_of_it() {
        let dir = tempfile::TempDir::new().unwrap();
        for (bytes, secret) in [
            (&b"a b\n"[..], &b"a b"[..]),
            (b"ab\r\n", b"ab"),
            (b"ab\n\n", b"ab\n"),
            (b" ab ", b" ab "),
            (b"\xff\x00", b"\xff\x00"),
        ] {
            assert_eq!(read(&file(&dir, 0o600, bytes)).unwrap(), secret);
        }
        assert!(read_text(&file(&dir, 0o600, b"\xff")).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn what_is_no_secret_file_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        assert!(read(dir.path()).unwrap_err().contains("not a regular file"));
        assert!(read(&dir.path().join("none")).unwrap_err().contains("No such file"));
        for empty in [&b""[..], b"\n", b"\r\n"] {
            assert!(read(&file(&dir, 0o600, empty)).unwrap_err().contains("is empty"));
        }
        let largest = vec![b'x'; 16 << 10];
        assert_eq!(read(&file(&dir, 0o600, &largest)).unwrap(), largest);
        let larger = vec![b'x'; (16 << 10) + 1];
        assert!(read(&file(&dir, 0o600, &larger)).unwrap_err().contains("is larger"));
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        let secrets = Secrets::default();
        assert_eq!(secrets.excerpt(b" \r\n\t "), None);
        assert_eq!(
            secrets.excerpt(b"no\n\tsuch\x1b[31m  user\xff"),
            Some("no such [31m user".to_owned())
        );
        let long = secrets.excerpt("ä".repeat(300).as_bytes()).unwrap();
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn no_part_of_a_secret_is_shown() {
        let mut secrets = Secrets::default();
        secrets.add("Bearer abcd/efgh/ijkl0123456789");
        secrets.add("pin42");
        secrets.add("");
        for text in [
            "bad token: Bearer abcd/efgh/ijkl0123456789",
            "bad token: abcd/efgh",
            r#"{"token":"abcd\/efgh\/ijkl"}"#,
            "cut in the middle: ijkl0123",
            "wrapped: ijkl0123\n456789",
            "pin42",
        ] {
            let shown = secrets.excerpt(text.as_bytes()).unwrap();
            assert!(
                shown.contains("is not shown") && !shown.contains("ijkl"),
                "{text}: {shown}"
            );
        }
        for text in ["Bearer token required", "abcd/ef", "pin4 2x is fine? no"] {
            let withheld = secrets.excerpt(text.as_bytes()).unwrap().contains("is not shown");
            assert_eq!(withheld, text.contains("pin4 2"), "{text}");
        }
    }
}
