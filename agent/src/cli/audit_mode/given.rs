//! What was given: flags before environment before file, each value with where it comes from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use auditmon_config::{did_you_mean, within_slips};
use clap::ArgMatches;

use super::flat;
use super::keys::{self, Effect, KEYS, Key, LETTERS, Program};

/// Most slips in the name of a variable that is taken for one of an auditor.
const SLIPS: usize = 2;

/// A value and its place: `--immudb-port`, `environment IMMUCLIENT_IMMUDB_PORT`, `immuclient.toml:3: immudb-port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Value {
    /// As it was given.
    pub text: String,
    /// Where.
    pub origin: String,
}

/// Flags as they were given, not yet of one program.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Of keys, with where on the command line they stand.
    long: BTreeMap<&'static str, (usize, String)>,
    /// Of letters, likewise.
    short: BTreeMap<char, (usize, String)>,
}

impl Flags {
    /// Takes them from the command line.
    pub fn of(matches: &ArgMatches) -> Self {
        let one = |id: &str| {
            let text: &String = matches.get_one(id)?;
            Some((matches.index_of(id).unwrap_or_default(), text.clone()))
        };
        Self {
            long: KEYS.iter().filter_map(|key| Some((key.name, one(key.name)?))).collect(),
            short: LETTERS
                .into_iter()
                .filter_map(|(letter, id)| Some((letter, one(id)?)))
                .collect(),
        }
    }
}

/// All that was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Value>,
    /// What is known to have no effect, a sentence each.
    pub warnings: Vec<String>,
    /// What can't be taken, a sentence each.
    pub faults: Vec<String>,
}

/// Where a program's values come from.
pub struct Sources<'a> {
    /// The program.
    pub program: Program,
    /// Flags of the command line.
    pub flags: &'a Flags,
    /// All variables.
    pub environment: &'a [(OsString, OsString)],
    /// The file that was named, or what is looked for.
    pub file: Option<PathBuf>,
}

impl Sources<'_> {
    /// Puts them together.
    pub fn gather(&self) -> Given {
        let mut given = Given::default();
        // The last to be put counts.
        if let Some(file) = self.file.clone().or_else(|| self.searched()) {
            given.read(&file);
        }
        given.environment(self.program, self.environment);
        given.flags(self.program, self.flags);
        given.settle();
        given
    }

    /// The file that the program looks for by itself, if it is there.
    fn searched(&self) -> Option<PathBuf> {
        let home = variable(self.environment, "HOME").filter(|home| !home.is_empty())?;
        let file = Path::new(home).join(format!("{}.toml", self.program.name()));
        file.is_file().then_some(file)
    }
}

/// A variable.
pub fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    let mut all = environment.iter();
    all.find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

/// Names of keys that say something about the audit.
fn used() -> impl Iterator<Item = &'static str> {
    let used = KEYS.iter().filter(|key| key.effect == Effect::Used);
    used.map(|key| key.name)
}

/// The variable that a key has.
fn variable_of(program: Program, key: &str) -> String {
    format!("{}{}", program.prefix(), key.to_uppercase().replace('-', "_"))
}

/// A warning for each variable that is none of an auditor, and looks as if it were meant for one: others with the same
/// beginning belong to the interactive client, or to the gateway.
fn strange(program: Program, environment: &[(OsString, OsString)]) -> Vec<String> {
    let given = environment.iter().filter(|(_, value)| !value.is_empty());
    let warning = |name: &str| {
        let word = name.strip_prefix(program.prefix())?;
        if KEYS.iter().any(|key| variable_of(program, key.name) == name) {
            return None;
        }
        let near = within_slips(SLIPS, word, used());
        if near.is_empty() && !word.starts_with("AUDIT_") {
            return None;
        }
        // What all have in common says nothing about what is near.
        let near: Vec<String> = near.into_iter().map(|key| variable_of(program, key)).collect();
        let near = did_you_mean(name, near.iter().map(String::as_str));
        Some(format!("environment {name}: is no variable of an auditor{near}"))
    };
    let mut warnings: Vec<String> = given.filter_map(|(name, _)| warning(name.to_str()?)).collect();
    warnings.sort_unstable();
    warnings
}

impl Given {
    /// What a key was given; nothing where that is empty, as both programs have it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.text.trim().is_empty())
    }

    /// The value of the first of these keys that was given.
    pub fn first(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Adds a fault at a value's place.
    pub fn fault(&mut self, origin: &str, text: impl std::fmt::Display) {
        self.faults.push(format!("{origin}: {text}"));
    }

    /// Whether a key is on.
    pub fn is_on(&mut self, name: &str) -> bool {
        let Some(value) = self.get(name).cloned() else {
            return false;
        };
        match value.text.trim().to_lowercase().as_str() {
            "true" | "1" | "t" => true,
            "false" | "0" | "f" => false,
            _ => {
                self.fault(&value.origin, "expected true or false, found neither");
                false
            }
        }
    }

    /// A number.
    pub fn number(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(name)?.clone();
        let number = value
            .text
            .trim()
            .parse::<u64>()
            .ok()
            .filter(|number| range.contains(number));
        if number.is_none() {
            let found = super::duration::shown(&value.text);
            let text = format!(
                "expected a number from {} to {}, found `{found}`",
                range.start(),
                range.end()
            );
            self.fault(&value.origin, text);
        }
        number
    }

    fn put(&mut self, key: &'static Key, text: String, origin: String) {
        self.values.insert(key.name, Value { text, origin });
    }

    /// Takes a file's keys.
    pub fn read(&mut self, file: &Path) {
        let name = file.display();
        let text = auditmon_config::read_file(file)
            .map_err(|error| format!("can't be read: {error}"))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "expected UTF-8".to_owned()));
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.faults.push(format!("{name}: {error}")),
        };
        match flat::read(file, &text) {
            Ok(lines) => {
                for line in lines {
                    let origin = match line.number {
                        0 => format!("{name}: {}", line.key),
                        number => format!("{name}:{number}: {}", line.key),
                    };
                    match keys::key(&line.key) {
                        Some(key) => self.put(key, line.value, origin),
                        None => {
                            let near = did_you_mean(&line.key, used());
                            self.warnings.push(format!("{origin}: is no key of an auditor{near}"));
                        }
                    }
                }
            }
            Err(error) => self.faults.push(format!("{name}:{error}")),
        }
    }

    fn environment(&mut self, program: Program, environment: &[(OsString, OsString)]) {
        let text = |name: &str| {
            let value = variable(environment, name)?;
            // An empty variable is none, as both programs have it.
            (!value.is_empty()).then(|| (value.to_str().map(str::to_owned), format!("environment {name}")))
        };
        // immuclient's own variable for this: no other has a name like it.
        let legacy = (program == Program::Immuclient).then_some("audit-agent-interval");
        let named = KEYS.iter().map(|key| (key, variable_of(program, key.name)));
        let interval = keys::key("audit-interval").zip(legacy.map(str::to_owned));
        for (key, name) in interval.into_iter().chain(named) {
            match text(&name) {
                None => {}
                Some((Some(text), origin)) => self.put(key, text, origin),
                Some((None, origin)) => self.fault(&origin, "expected UTF-8"),
            }
        }
        self.warnings.extend(strange(program, environment));
    }

    fn flags(&mut self, program: Program, flags: &Flags) {
        let mut at = BTreeMap::new();
        for (name, (index, text)) in &flags.long {
            if let Some(key) = keys::key(name) {
                at.insert(key.name, *index);
                self.put(key, text.clone(), format!("--{name}"));
            }
        }
        for (letter, (index, text)) in &flags.short {
            match program.of_letter(*letter).and_then(keys::key) {
                // The last one counts.
                Some(key) if at.get(key.name).is_none_or(|long| long < index) => {
                    self.put(key, text.clone(), format!("-{letter}"));
                }
                Some(_) => {}
                None => {
                    let text = format!(
                        "expected a flag of {}; `auditmon audit-mode --help` lists them",
                        program.name()
                    );
                    self.fault(&format!("-{letter}"), text);
                }
            }
        }
    }

    /// Names what has no effect.
    fn settle(&mut self) {
        for key in KEYS {
            if let (Effect::None(why), Some(value)) = (key.effect, self.get(key.name)) {
                let warning = format!("{}: {why}", value.origin);
                self.warnings.push(warning);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn flags(pairs: &[(&'static str, &str)]) -> Flags {
        let mut flags = Flags::default();
        for (index, (name, value)) in pairs.iter().enumerate() {
            let value = (index, (*value).to_owned());
            match name.chars().next().filter(|_| name.len() == 1) {
                Some(letter) => flags.short.insert(letter, value),
                None => flags.long.insert(*name, value),
            };
        }
        flags
    }

    fn gather(
        program: Program,
        given: &[(&'static str, &str)],
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Given {
        let dir = tempfile::tempdir().unwrap();
        let path = file.map(|text| {
            let path = dir.path().join("immuclient.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let sources = Sources {
            program,
            flags: &flags(given),
            environment: &environment(variables),
            file: path,
        };
        sources.gather()
    }

    #[test]
    fn every_key_is_a_flag_a_variable_and_a_key_of_the_file() {
        for program in [Program::Immuclient, Program::Immugw] {
            for key in KEYS {
                let variable = format!("{}{}", program.prefix(), key.name.to_uppercase().replace('-', "_"));
                let file = format!("{} = \"of the file\"\n", key.name);
                let variables = [(variable.as_str(), "of the environment")];
                let flag = [(key.name, "of the flag")];
                let value = |given: Given| {
                    given
                        .get(key.name)
                        .map(|value| (value.text.clone(), value.origin.clone()))
                };
                let (text, origin) = value(gather(program, &[], &[], Some(&file))).unwrap();
                assert_eq!(text, "of the file");
                assert!(
                    origin.ends_with(&format!("immuclient.toml:1: {}", key.name)),
                    "{origin}"
                );
                let (text, origin) = value(gather(program, &[], &variables, Some(&file))).unwrap();
                assert_eq!(
                    (text.as_str(), origin),
                    ("of the environment", format!("environment {variable}"))
                );
                let (text, origin) = value(gather(program, &flag, &variables, Some(&file))).unwrap();
                assert_eq!((text.as_str(), origin), ("of the flag", format!("--{}", key.name)));
                let given = gather(program, &flag, &[], None);
                assert_eq!(
                    given.warnings.len(),
                    usize::from(key.effect != Effect::Used),
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn letters_are_those_of_the_program_and_the_last_flag_counts() {
        let given = gather(
            Program::Immuclient,
            &[("a", "db1"), ("p", "1"), ("m", "true")],
            &[],
            None,
        );
        for (key, text) in [("immudb-address", "db1"), ("immudb-port", "1"), ("mtls", "true")] {
            assert_eq!(given.get(key).unwrap().text, text);
        }
        let given = gather(
            Program::Immugw,
            &[("k", "db1"), ("j", "1"), ("a", "0.0.0.0")],
            &[],
            None,
        );
        for (key, text) in [("immudb-address", "db1"), ("immudb-port", "1"), ("address", "0.0.0.0")] {
            assert_eq!(given.get(key).unwrap().text, text);
        }
        let given = gather(Program::Immuclient, &[("k", "db1")], &[], None);
        assert!(
            given.faults[0].starts_with("-k: expected a flag of immuclient"),
            "{:?}",
            given.faults
        );
        for (pairs, text) in [
            ([("immudb-port", "1"), ("p", "2")], "2"),
            ([("p", "2"), ("immudb-port", "1")], "1"),
        ] {
            let given = gather(Program::Immuclient, &pairs, &[], None);
            assert_eq!(given.get("immudb-port").unwrap().text, text);
        }
    }

    #[test]
    fn intervals_have_a_variable_of_their_own_and_empty_values_are_none() {
        let legacy = ("audit-agent-interval", "10s");
        let given = gather(Program::Immuclient, &[], &[legacy], None);
        assert_eq!(given.get("audit-interval").unwrap().text, "10s");
        let both = [legacy, ("IMMUCLIENT_AUDIT_INTERVAL", "20s")];
        let given = gather(Program::Immuclient, &[], &both, None);
        assert_eq!(given.get("audit-interval").unwrap().text, "20s");
        assert!(
            gather(Program::Immugw, &[], &[legacy], None)
                .get("audit-interval")
                .is_none()
        );
        let empty = [("IMMUGW_PKEY", ""), ("IMMUCLIENT_DIR", "x")];
        let given = gather(Program::Immugw, &[("dir", "")], &empty, Some("certificate = \"\"\n"));
        assert!(
            ["pkey", "dir", "certificate"]
                .iter()
                .all(|key| given.get(key).is_none())
        );
    }

    #[test]
    fn what_is_hardly_another_word_is_told_with_the_nearest_one() {
        let file = "audit-pasword = \"x\"\nzzzz = 1\n";
        let given = gather(Program::Immuclient, &[], &[], Some(file));
        let [near, far] = &given.warnings[..] else {
            panic!("{:?}", given.warnings)
        };
        assert!(
            near.ends_with(":1: audit-pasword: is no key of an auditor, did you mean `audit-password`?"),
            "{near}"
        );
        assert!(far.ends_with(":2: zzzz: is no key of an auditor"), "{far}");

        let variables = [
            ("IMMUCLIENT_AUDIT_USRNAME", "x"),
            ("IMMUCLIENT_IMUDB_ADDRESS", "x"),
            ("IMMUCLIENT_AUDIT_COLOUR_OF_IT", "x"),
            // The interactive client's, or nobody's.
            ("IMMUCLIENT_PASSWORD_OF_MINE", "x"),
            ("IMMUCLIENT_AUDIT_EMPTY", ""),
            ("IMMUGW_AUDIT_USRNAME", "x"),
            ("AUDIT_USRNAME", "x"),
        ];
        let given = gather(Program::Immuclient, &[], &variables, None);
        assert_eq!(
            given.warnings,
            [
                "environment IMMUCLIENT_AUDIT_COLOUR_OF_IT: is no variable of an auditor",
                "environment IMMUCLIENT_AUDIT_USRNAME: is no variable of an auditor, did you mean \
                 `IMMUCLIENT_AUDIT_USERNAME`?",
                "environment IMMUCLIENT_IMUDB_ADDRESS: is no variable of an auditor, did you mean \
                 `IMMUCLIENT_IMMUDB_ADDRESS`?",
            ]
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line() {
        let given = gather(Program::Immuclient, &[], &[], Some("mtls = maybe\n"));
        assert!(
            given.faults[0].contains("immuclient.toml:1: expected"),
            "{:?}",
            given.faults
        );
        let given = gather(Program::Immuclient, &[], &[], Some("audit-user = \"a\"\n"));
        assert!(
            given.warnings[0].contains("audit-user: is no key"),
            "{:?}",
            given.warnings
        );
        let mut given = gather(
            Program::Immuclient,
            &[("mtls", "maybe"), ("immudb-port", "0x")],
            &[],
            None,
        );
        assert!(!given.is_on("mtls"));
        assert_eq!(given.number("immudb-port", 1..=65_535), None);
        assert_eq!(given.faults.len(), 2);
        assert!(given.faults[1].starts_with("--immudb-port: expected a number from 1 to 65535"));
    }
}
