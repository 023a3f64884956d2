//! Our configuration as YAML, each line with where it comes from.

use std::path::Path;

/// The name under which it is loaded.
pub const NAME: &str = "audit-mode";
/// Where a value is from that nobody gave.
pub const DEFAULT: &str = "default";
/// The key of the data directory.
const DATA_DIR: &str = "data_dir";

/// A configuration that is being written.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<Row>);

#[derive(Clone, Debug)]
struct Row {
    depth: usize,
    key: String,
    /// As YAML; empty where the value stands below.
    value: String,
    secret: bool,
    origin: String,
}

impl Settings {
    /// A key whose value stands below it.
    pub fn section(&mut self, depth: usize, key: &str) {
        self.row(depth, key, String::new(), false, "");
    }

    /// A text.
    pub fn text(&mut self, depth: usize, key: &str, value: &str, origin: &str) {
        self.row(depth, key, quoted(value), false, origin);
    }

    /// A number, a switch or a list, as YAML has it.
    pub fn plain(&mut self, depth: usize, key: &str, value: impl std::fmt::Display, origin: &str) {
        self.row(depth, key, value.to_string(), false, origin);
    }

    /// The data directory, at the top level, in place of another one.
    pub fn data_dir(&mut self, dir: &Path, origin: &str) {
        // It fails where there is no working directory; then the path is refused for what it is.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let value = quoted(&dir.to_string_lossy());
        if self.0.iter().any(|row| row.is_data_dir() && row.value == value) {
            return;
        }
        self.0.retain(|row| !row.is_data_dir());
        self.row(0, DATA_DIR, value, false, origin);
        self.0.rotate_right(1);
    }

    /// A list of texts.
    pub fn list(&mut self, depth: usize, key: &str, values: &[String], origin: &str) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.row(depth, key, format!("[{}]", values.join(", ")), false, origin);
    }

    /// A text that is not shown.
    pub fn secret(&mut self, depth: usize, key: &str, value: &str, origin: &str) {
        self.row(depth, key, quoted(value), true, origin);
    }

    fn row(&mut self, depth: usize, key: &str, value: String, secret: bool, origin: &str) {
        self.0.push(Row {
            depth,
            key: key.to_owned(),
            value,
            secret,
            origin: origin.to_owned(),
        });
    }

    /// The file, secrets too.
    pub fn yaml(&self) -> String {
        self.0.iter().map(|row| row.line(&row.value)).collect()
    }

    /// The file for people's eyes: secrets stand as remarks, and each line says where it comes from.
    pub fn shown(&self) -> String {
        let line = |row: &Row| {
            let remark = match row.origin.as_str() {
                "" => String::new(),
                origin => format!("  # {}", origin.replace(['\n', '\r'], " ")),
            };
            if row.secret {
                let indent = "  ".repeat(row.depth);
                return format!("{indent}# {}: ********{remark}\n", row.key);
            }
            let line = row.line(&row.value);
            format!("{}{remark}\n", line.trim_end())
        };
        self.0.iter().map(line).collect()
    }

    /// Faults of the configuration, each with what was given in place of a line of a file that nobody has seen.
    pub fn blame(&self, faults: &[String]) -> Vec<String> {
        let one = |fault: &String| {
            let place = || {
                let (place, rest) = fault.split_once(": ")?;
                Some(match self.origin(place)? {
                    "" => rest.to_owned(),
                    origin => format!("{origin}: {rest}"),
                })
            };
            place().unwrap_or_else(|| fault.clone())
        };
        faults.iter().map(one).collect()
    }

    /// What was given that stands at such a place of the file; empty where nobody gave it. `None` for other places.
    pub fn origin(&self, place: &str) -> Option<&str> {
        let (line, _column) = place.strip_prefix(NAME)?.strip_prefix(':')?.split_once(':')?;
        let row = self.0.get(line.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(match row.origin.as_str() {
            DEFAULT => "",
            origin => origin,
        })
    }
}

impl Row {
    fn is_data_dir(&self) -> bool {
        self.depth == 0 && self.key == DATA_DIR
    }

    fn line(&self, value: &str) -> String {
        let indent = "  ".repeat(self.depth);
        // An item's first key stands behind its dash, the others below it.
        if value.is_empty() {
            format!("{indent}{}:\n", self.key)
        } else {
            format!("{indent}{}: {value}\n", self.key)
        }
    }
}

/// A text as JSON writes it, which is YAML, too.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            // Letters that YAML wants written as numbers.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Settings {
        let mut settings = Settings::default();
        settings.section(0, "sources");
        settings.section(1, "immudb");
        settings.text(2, "interval", "60s", "--audit-interval");
        settings.section(2, "servers");
        settings.text(3, "- address", "db1:3322", "-a");
        settings.secret(4, "password", "T0P\"5ECRET", "environment IMMUCLIENT_AUDIT_PASSWORD");
        settings
    }

    #[test]
    fn the_data_directory_stands_once_and_first() {
        let mut settings = some();
        settings.data_dir(Path::new("/a"), "--data-dir");
        settings.data_dir(Path::new("/a"), "this command");
        assert!(
            settings
                .shown()
                .starts_with("data_dir: \"/a\"  # --data-dir\nsources:\n")
        );
        settings.data_dir(Path::new("/b"), "this command");
        let yaml = settings.yaml();
        assert!(yaml.starts_with("data_dir: \"/b\"\nsources:\n  immudb:\n"), "{yaml}");
        assert_eq!(yaml.matches("data_dir").count(), 1);
    }

    #[test]
    fn secrets_are_written_and_not_shown() {
        assert_eq!(
            some().yaml(),
            "sources:\n  immudb:\n    interval: \"60s\"\n    servers:\n      - address: \"db1:3322\"\n        \
             password: \"T0P\\\"5ECRET\"\n"
        );
        let shown = some().shown();
        assert!(!shown.contains("5ECRET"), "{shown}");
        assert!(
            shown.contains("\n    interval: \"60s\"  # --audit-interval\n"),
            "{shown}"
        );
        assert!(
            shown.ends_with("        # password: ********  # environment IMMUCLIENT_AUDIT_PASSWORD\n"),
            "{shown}"
        );
    }

    #[test]
    fn faults_name_what_was_given() {
        let faults = [
            "audit-mode:5:9: sources.immudb.servers[0].address: expected host:port".to_owned(),
            "audit-mode:1:1: sources: x".to_owned(),
            "environment AUDITMON_X: y".to_owned(),
            "audit-mode:99:1: z".to_owned(),
        ];
        assert_eq!(
            some().blame(&faults),
            [
                "-a: sources.immudb.servers[0].address: expected host:port",
                "sources: x",
                "environment AUDITMON_X: y",
                "audit-mode:99:1: z"
            ]
        );
    }
}
