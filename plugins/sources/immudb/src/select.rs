//! Which databases are audited.

/// The server's own database, which it never lists.
pub(crate) const SYSTEM: &str = "systemdb";

/// Names, patterns and prefixes of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    patterns: Vec<String>,
    prefixes: Vec<String>,
    system: bool,
}

impl Selection {
    /// Upper and lower case are the same: servers know lower case alone.
    pub(crate) fn new(patterns: &[String], prefixes: &[String], system: bool) -> Self {
        let lower = |list: &[String]| list.iter().map(|name| name.to_lowercase()).collect();
        Self {
            patterns: lower(patterns),
            prefixes: lower(prefixes),
            system,
        }
    }

    /// Whether a database is audited.
    pub(crate) fn takes(&self, name: &str) -> bool {
        if name == SYSTEM {
            return self.system;
        }
        (self.patterns.is_empty() && self.prefixes.is_empty())
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
            || self
                .patterns
                .iter()
                .any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// Databases that are named in full: they are audited, listed or not.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        let named = self.patterns.iter().filter(|name| !name.contains(['*', '?']));
        let named = named.map(String::as_str).filter(|name| *name != SYSTEM);
        named.chain(self.system.then_some(SYSTEM))
    }
}

/// `*` stands for any bytes, `?` for one character. Time: pattern × name at most.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                from += 1;
                while name.get(from).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    from += 1;
                }
            }
            Some(byte) if *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((star_at, star_from)) => {
                    at = star_at + 1;
                    from = star_from + 1;
                    star = Some((star_at, star_from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str], prefixes: &[&str], system: bool) -> Selection {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Selection::new(&own(patterns), &own(prefixes), system)
    }

    #[test]
    fn names_prefixes_and_patterns() {
        let all = selection(&[], &[], false);
        assert!(all.takes("a") && !all.takes("systemdb"));
        let some = selection(&["Orders", "log_*_20??"], &["pay"], true);
        for (name, taken) in [
            ("orders", true),
            ("orders2", false),
            ("log_a_b_2024", true),
            ("log_2024", false),
            ("log_a_20244", false),
            ("pay", true),
            ("payments", true),
            ("repay", false),
            ("systemdb", true),
        ] {
            assert_eq!(some.takes(name), taken, "{name}");
        }
        assert_eq!(some.named().collect::<Vec<_>>(), ["orders", "systemdb"]);
    }

    #[test]
    fn stars_take_any_and_marks_one_character() {
        for (pattern, name, taken) in [
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("?", "ä", true),
            ("?", "", false),
            ("a?", "ab", true),
            ("*a", "ba", true),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), taken, "{pattern} {name}");
        }
    }
}
