//! Every key of the two auditors: one row is a flag, an environment variable and a key of the file.

use clap::{Arg, ArgAction, Command};

/// Whose auditor it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// `immuclient audit-mode`.
    Immuclient,
    /// The auditor inside of immugw.
    Immugw,
}

impl Program {
    /// What its variables begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Immuclient => "IMMUCLIENT_",
            Self::Immugw => "IMMUGW_",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Immuclient => "immuclient",
            Self::Immugw => "immugw",
        }
    }

    /// The name of its listener.
    pub fn listener(self) -> &'static str {
        self.name()
    }

    /// The key that a flag of one letter stands for.
    pub fn of_letter(self, letter: char) -> Option<&'static str> {
        let letters: &[(char, &str)] = match self {
            Self::Immuclient => &[('a', "immudb-address"), ('p', "immudb-port"), ('m', "mtls")],
            Self::Immugw => &[
                ('k', "immudb-address"),
                ('j', "immudb-port"),
                ('a', "address"),
                ('p', "port"),
                ('m', "mtls"),
                ('d', "detached"),
                ('t', "time"),
            ],
        };
        letters.iter().find(|(known, _)| *known == letter).map(|(_, key)| *key)
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It says something about the audit.
    Used,
    /// It is taken with a warning that says this.
    None(&'static str),
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name of the flag and in the file.
    pub name: &'static str,
    /// Whether it is `true` where no value follows.
    pub switch: bool,
    /// What becomes of it.
    pub effect: Effect,
    /// What help says of it.
    pub help: &'static str,
}

const SHELL: Effect = Effect::None("belongs to the interactive client: an audit has no use for it");
const GATEWAY: Effect = Effect::None("belongs to the REST gateway, which this is not");

const fn text(name: &'static str, help: &'static str) -> Key {
    Key {
        name,
        switch: false,
        effect: Effect::Used,
        help,
    }
}

const fn switch(name: &'static str, help: &'static str) -> Key {
    Key {
        switch: true,
        ..text(name, help)
    }
}

const fn idle(key: Key, effect: Effect) -> Key {
    Key { effect, ..key }
}

/// All keys, of both programs and of ours, in the order of the help.
pub const KEYS: &[Key] = &[
    text(
        "immudb-address",
        "The server's host; also -a, with --immugw -k [default: 127.0.0.1]",
    ),
    text(
        "immudb-port",
        "The server's port; also -p, with --immugw -j [default: 3322]",
    ),
    text(
        "audit-username",
        "The user to log in as [default: none; with --immugw immugwauditor]",
    ),
    text(
        "audit-password",
        "The user's password, plain or `enc:` and base64; a file keeps it from the list of processes",
    ),
    text(
        "audit-password-file",
        "A file that holds the password instead; readable by its owner only",
    ),
    text(
        "audit-interval",
        "From one audit to the next, such as 1m0s [default: 1m0s; with --immugw 5m0s]",
    ),
    text(
        "audit-databases",
        "Names of databases or their beginnings, separated by commas [default: all]",
    ),
    switch("audit-verify-values", "Check values, too; they are unless it is false"),
    text("audit-notification-url", "Where results are posted to"),
    text(
        "audit-notification-username",
        "A user's name for the body of what is posted",
    ),
    text(
        "audit-notification-password",
        "A password for the body of what is posted",
    ),
    text(
        "audit-notification-password-file",
        "A file that holds that password instead",
    ),
    switch(
        "audit-notification-on-change",
        "Post changes of the result and one result an hour, not every audit",
    ),
    text(
        "audit-monitoring-host",
        "Address of the monitoring server [default: 0.0.0.0]",
    ),
    text("audit-monitoring-port", "Port of the monitoring server [default: 9477]"),
    text("prometheus-host", "The same as --audit-monitoring-host, up to 1.0.1"),
    text("prometheus-port", "The same as --audit-monitoring-port, up to 1.0.1"),
    text(
        "server-signing-pub-key",
        "A file with the public key that signs states, in PEM form",
    ),
    switch("mtls", "Speak TLS with a certificate of our own; also -m"),
    text(
        "servername",
        "The name that the server's certificate is for, with --mtls [default: localhost]",
    ),
    text("certificate", "Our certificate, with --mtls"),
    text("pkey", "Our certificate's private key, with --mtls"),
    text(
        "clientcas",
        "The authorities that the server's certificate may come from, with --mtls",
    ),
    text(
        "max-recv-msg-size",
        "The largest answer that is taken, in bytes [default: 16777216]",
    ),
    text(
        "dir",
        "The state directory: what is remembered lies in `auditmon` below it",
    ),
    text("roots-filepath", "The same as --dir"),
    text("pidfile", "A file for the number of the process"),
    text("logfile", "A file for the log lines that immuclient has on stdout"),
    idle(text("username", "Taken without effect"), SHELL),
    idle(text("password", "Taken without effect"), SHELL),
    idle(text("database", "Taken without effect"), SHELL),
    idle(
        text("tokenfile", "Taken without effect"),
        Effect::None("has no use here: no token is kept in a file"),
    ),
    idle(switch("value-only", "Taken without effect"), SHELL),
    idle(text("revision-separator", "Taken without effect"), SHELL),
    idle(
        switch("auth", "Taken without effect"),
        Effect::None("has no use here: with --audit-username there is a login"),
    ),
    idle(
        text("audit-signature", "Taken without effect"),
        Effect::None("has no use here: signatures are always checked; see --server-signing-pub-key"),
    ),
    idle(
        switch("audit", "Taken without effect"),
        Effect::None("has no use here: auditing is all that this does"),
    ),
    idle(text("address", "Taken without effect"), GATEWAY),
    idle(text("port", "Taken without effect"), GATEWAY),
    idle(
        switch("detached", "Taken without effect"),
        Effect::None("has no use here: `auditmon audit-mode install` makes a service of it"),
    ),
    idle(
        text("time", "Taken without effect"),
        Effect::None("has no use here: a service ends in order by itself"),
    ),
];

/// Flags of one letter with the names of their arguments; what each stands for depends on the program.
pub const LETTERS: [(char, &str); 7] = [
    ('a', "letter-a"),
    ('p', "letter-p"),
    ('m', "letter-m"),
    ('k', "letter-k"),
    ('j', "letter-j"),
    ('d', "letter-d"),
    ('t', "letter-t"),
];

/// The key of this name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Adds all flags.
pub fn add_to(command: Command) -> Command {
    let keys = KEYS.iter().map(|key| {
        let arg = Arg::new(key.name).long(key.name).action(ArgAction::Set).help(key.help);
        let arg = if key.switch {
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false")
        } else {
            arg.allow_hyphen_values(true).value_name("VALUE")
        };
        // What does nothing is in nobody's way.
        arg.hide(key.effect != Effect::Used)
    });
    let letters = LETTERS.into_iter().map(|(letter, id)| {
        let arg = Arg::new(id).short(letter).action(ArgAction::Set);
        let arg = if matches!(letter, 'm' | 'd') {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg.allow_hyphen_values(true)
        };
        arg.hide(true).help("Short for another flag")
    });
    command.args_override_self(true).args(keys).args(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_and_letters_are_of_keys() {
        let mut seen = std::collections::HashSet::new();
        assert!(KEYS.iter().all(|key| seen.insert(key.name)));
        for program in [Program::Immuclient, Program::Immugw] {
            for (letter, _) in LETTERS {
                if let Some(name) = program.of_letter(letter) {
                    assert!(key(name).is_some(), "-{letter}: {name}");
                }
            }
        }
    }
}
