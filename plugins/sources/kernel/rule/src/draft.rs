//! A rule in the making: what the options of one line have said so far.

use crate::fault::piece;
use crate::field::number;
use crate::host::Host;
use crate::layout::{Action, List, MAX_FIELDS, Op};
use crate::machine::Machine;
use crate::mask::Mask;
use crate::names;
use crate::parse::{check_key, join_keys};
use crate::perm;
use crate::rule::{Rule, Test, Value};
use crate::value::{self, Given, Wrong, wrong};

#[derive(Default)]
pub(crate) struct Draft {
    head: Option<(List, Action, bool)>,
    watch: Option<Vec<u8>>,
    perms: Option<u32>,
    calls: Vec<Vec<u8>>,
    arch: Option<(Op, Option<Machine>)>,
    tests: Vec<Test>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) delete_all: bool,
    /// What was noticed on the way; taken by [`Draft::into_rule`].
    noticed: Vec<Wrong>,
}

impl Draft {
    /// Whether any option asked for a rule.
    pub(crate) fn has_rule(&self) -> bool {
        self.head.is_some()
            || self.watch.is_some()
            || self.perms.is_some()
            || !self.calls.is_empty()
            || !self.tests.is_empty()
    }

    pub(crate) fn list(&mut self, value: &[u8], prepend: bool) -> Result<(), Wrong> {
        let letter = if prepend { 'A' } else { 'a' };
        if self.head.is_some() {
            return wrong("a second -a or -A on one line", "one rule a line");
        }
        let mut halves = value.splitn(2, |byte| *byte == b',');
        let first = halves.next().unwrap_or_default();
        let second = halves.next().unwrap_or_default();
        for half in [first, second] {
            if half == b"possible" || half == b"entry" {
                return wrong(
                    format!("{} no longer exists in the kernel", piece(half)),
                    "write always,exit",
                );
            }
        }
        let either = |list, action| Some((List::from_name(list)?, Action::from_name(action)?));
        match either(first, second).or(either(second, first)) {
            Some((list, action)) => {
                self.head = Some((list, action, prepend));
                Ok(())
            }
            None => wrong(
                format!("-{letter} {} is no list and action", piece(value)),
                "write ACTION,LIST: always or never, and one of user task exit exclude filesystem io_uring",
            ),
        }
    }

    pub(crate) fn calls(&mut self, value: Vec<u8>) -> Result<(), Wrong> {
        self.calls.push(value);
        Ok(())
    }

    pub(crate) fn field(&mut self, text: &[u8], host: &dyn Host) -> Result<(), Wrong> {
        let Some((list, ..)) = self.head else {
            return wrong(
                format!("-F {} stands before the list", piece(text)),
                "begin the line with -a ACTION,LIST",
            );
        };
        match value::parse(text, list, host)? {
            Given::Key(key) => self.key(key),
            Given::Test(test) => {
                match test.field {
                    number::ARCH => self.note_arch(text, &test, host)?,
                    number::EXIT => self.note_exit(text, &test),
                    _ => {}
                }
                self.tests.push(test);
                Ok(())
            }
        }
    }

    fn note_arch(&mut self, text: &[u8], test: &Test, host: &dyn Host) -> Result<(), Wrong> {
        if !self.calls.is_empty() {
            return wrong(
                "-F arch= stands behind -S",
                "write arch before -S: it decides which numbers the names mean",
            );
        }
        if self.arch.is_some() {
            return wrong("a second -F arch=", "one architecture a rule");
        }
        let value = value::split(text).map_or(&[][..], |(_, _, value)| value);
        let (_, machine) = value::arch(value, host)?;
        self.arch = Some((test.op, machine));
        Ok(())
    }

    /// Tests of the exit value that the kernel takes and that never do what
    /// they seem to say.
    fn note_exit(&mut self, text: &[u8], test: &Test) {
        let name = value::split(text).is_some_and(|(_, _, value)| value.starts_with(b"E"));
        let (what, right) = match (test.op, &test.value) {
            (Op::Equal, _) if name => (
                "exit with a positive errno never matches".to_owned(),
                "failures are negative: write a minus before the name",
            ),
            (Op::Less, Value::Number(0)) => (
                "exit<0 never matches: the kernel compares unsigned".to_owned(),
                "use success=0",
            ),
            (Op::GreaterOrEqual, Value::Number(0)) => (
                "exit>=0 always matches: the kernel compares unsigned".to_owned(),
                "use success=1",
            ),
            _ => return,
        };
        self.noticed.push((what, right.to_owned()));
    }

    pub(crate) fn compare(&mut self, text: &[u8]) -> Result<(), Wrong> {
        match self.head {
            Some((List::Exit | List::IoUring, ..)) => {}
            Some(_) => return wrong("-C works on the exit list only", ""),
            None => {
                return wrong("-C stands before the list", "begin the line with -a ACTION,LIST");
            }
        }
        self.tests.push(value::compare(text)?);
        Ok(())
    }

    pub(crate) fn key(&mut self, key: Vec<u8>) -> Result<(), Wrong> {
        if key.is_empty() {
            return wrong("an empty key", "");
        }
        self.keys.push(key);
        Ok(())
    }

    pub(crate) fn watch(&mut self, path: Vec<u8>) -> Result<(), Wrong> {
        if self.watch.is_some() {
            return wrong("a second -w on one line", "one watch a line");
        }
        let end = path.iter().rposition(|byte| *byte != b'/');
        let Some(path) = end.and_then(|end| path.get(..=end)) else {
            return wrong(
                "-w / would watch everything, which the kernel refuses",
                "name the directories that matter",
            );
        };
        value::absolute(path)?;
        self.watch = Some(path.to_vec());
        Ok(())
    }

    pub(crate) fn perms(&mut self, value: &[u8]) -> Result<(), Wrong> {
        self.perms = Some(value::perms(value)?);
        Ok(())
    }

    /// The rule that the line described.
    pub(crate) fn into_rule(mut self, host: &dyn Host, warnings: &mut Vec<Wrong>) -> Result<Rule, Vec<Wrong>> {
        warnings.append(&mut self.noticed);
        let one = |what: &str, right: &str| Err(vec![(what.to_owned(), right.to_owned())]);
        let key = join_keys(&self.keys);
        check_key(&key).map_err(|fault| vec![fault])?;
        let key = (!key.is_empty()).then_some(Test {
            field: number::KEY,
            op: Op::Equal,
            value: Value::Text(key),
        });
        let mut rule = match (&self.head, &self.watch) {
            (Some(_), Some(_)) => return one("-w together with -a", "use -F path= or -F dir="),
            (None, None) => return one("no list", "begin the line with -a ACTION,LIST"),
            (None, Some(_)) => self.into_watch(host, warnings)?,
            (Some(head), None) => {
                let head = *head;
                if self.perms.is_some() {
                    return one("-p without -w", "use -F perm=");
                }
                self.into_filter(head, host, warnings)?
            }
        };
        rule.tests.extend(key);
        if rule.tests.len() > MAX_FIELDS {
            let what = format!("{} fields", rule.tests.len());
            return one(&what, "the kernel takes 64, the key included");
        }
        Ok(rule)
    }

    fn into_watch(self, host: &dyn Host, warnings: &mut Vec<Wrong>) -> Result<Rule, Vec<Wrong>> {
        if !self.calls.is_empty() {
            let what = "-S together with -w".to_owned();
            let right = "use -a always,exit -F path= instead".to_owned();
            return Err(vec![(what, right)]);
        }
        let path = self.watch.unwrap_or_default();
        warn_path(&path, warnings);
        let field = if host.is_dir(&path) { number::DIR } else { number::PATH };
        let perm = Test {
            field: number::PERM,
            op: Op::Equal,
            value: Value::Number(self.perms.unwrap_or(15)),
        };
        let path = Test {
            field,
            op: Op::Equal,
            value: Value::Text(path),
        };
        Ok(Rule {
            list: List::Exit,
            action: Action::Always,
            prepend: false,
            mask: Mask::ALL,
            tests: vec![path, perm],
        })
    }

    fn into_filter(
        self,
        (list, action, prepend): (List, Action, bool),
        host: &dyn Host,
        warnings: &mut Vec<Wrong>,
    ) -> Result<Rule, Vec<Wrong>> {
        let mut faults = Vec::new();
        self.check_tests(list, warnings, &mut faults);
        let mask = match self.mask(list, host, warnings) {
            Ok(mask) => mask,
            Err(more) => {
                faults.extend(more);
                Mask::NONE
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Rule {
            list,
            action,
            prepend,
            mask,
            tests: self.tests,
        })
    }

    /// Combinations that the kernel refuses with a bare "invalid argument",
    /// or takes and never matches.
    fn check_tests(&self, list: List, warnings: &mut Vec<Wrong>, faults: &mut Vec<Wrong>) {
        let count = |fields: &[u32]| {
            let tests = self.tests.iter();
            tests.filter(|test| fields.contains(&test.field)).count()
        };
        if count(&[number::PATH, number::DIR, number::INODE]) > 1 {
            faults.push((
                "more than one of path, dir and inode".to_owned(),
                "the kernel takes one of them a rule: write a rule for each".to_owned(),
            ));
        }
        if count(&[number::EXE]) > 1 {
            faults.push((
                "more than one exe".to_owned(),
                "the kernel takes one a rule: write a rule for each".to_owned(),
            ));
        }
        if list == List::Exclude && self.tests.is_empty() {
            faults.push((
                "an exclude rule without a field suppresses every record".to_owned(),
                "name what to leave out, for example -F msgtype=CWD".to_owned(),
            ));
        }
        for test in &self.tests {
            if let Value::Text(path) = &test.value
                && matches!(test.field, number::PATH | number::DIR)
            {
                warn_path(path, warnings);
            }
        }
    }

    fn mask(&self, list: List, host: &dyn Host, warnings: &mut Vec<Wrong>) -> Result<Mask, Vec<Wrong>> {
        let calls: Vec<&[u8]> = self
            .calls
            .iter()
            .flat_map(|calls| calls.split(|byte| *byte == b','))
            .collect();
        match list {
            List::Exit | List::IoUring => {}
            _ if calls.is_empty() => {
                let task = list == List::Task;
                return Ok(if task { Mask::NONE } else { Mask::ALL });
            }
            _ => {
                let what = format!("-S on the {} list", list.name());
                let right = "system calls are named on the exit and io_uring lists only";
                return Err(vec![(what, right.to_owned())]);
            }
        }
        if calls.is_empty() {
            return Ok(self.default_mask(list, warnings));
        }
        let machine = match self.arch {
            Some((_, machine)) => machine,
            None => Some(host.native()),
        };
        let mut mask = Mask::NONE;
        let mut faults = Vec::new();
        for call in calls {
            if call == b"all" {
                mask = all(list);
                continue;
            }
            match call_number(call, list, machine) {
                Ok(number) if mask.insert(number) => {
                    if self.arch.is_none() && list == List::Exit {
                        warn_arch(call, number, host.native(), warnings);
                    }
                }
                Ok(number) => faults.push((
                    format!("-S: there is no system call {number}"),
                    "numbers go up to 2031".to_owned(),
                )),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(mask) } else { Err(faults) }
    }

    /// The calls of a rule without -S.
    fn default_mask(&self, list: List, warnings: &mut Vec<Wrong>) -> Mask {
        let perm = self.tests.iter().find_map(|test| match test.value {
            Value::Number(perms) if test.field == number::PERM && test.op == Op::Equal => Some(perms),
            _ => None,
        });
        match (perm, self.arch) {
            (Some(perms), Some((Op::Equal, Some(machine)))) if machine.has_syscall_names() => {
                perm::mask(perms, machine)
            }
            (Some(_), None) => {
                warnings.push((
                    "perm without arch is tested on every system call of the host".to_owned(),
                    "put -F arch=b64 before it (and a second rule with b32)".to_owned(),
                ));
                all(list)
            }
            _ => all(list),
        }
    }
}

fn all(list: List) -> Mask {
    if list != List::IoUring {
        return Mask::ALL;
    }
    let mut mask = Mask::NONE;
    for op in names::all_uring_ops() {
        // Every number in the table is in range.
        let _ = mask.insert(op);
    }
    mask
}

fn call_number(call: &[u8], list: List, machine: Option<Machine>) -> Result<u32, Wrong> {
    if call.first().is_some_and(u8::is_ascii_digit) {
        return match value::unsigned(call) {
            Some(number) => Ok(number),
            None => wrong(format!("-S {} is no number", piece(call)), ""),
        };
    }
    let name = std::str::from_utf8(call).unwrap_or_default();
    if list == List::IoUring {
        return names::uring_op(name).ok_or_else(|| {
            (
                format!("-S: no audited io_uring operation is called {}", piece(call)),
                "for example openat, connect, unlinkat, or its number".to_owned(),
            )
        });
    }
    let Some(machine) = machine.filter(|machine| machine.has_syscall_names()) else {
        return wrong(
            format!(
                "-S {}: system calls of this architecture are known by number only",
                piece(call)
            ),
            "write the number",
        );
    };
    machine.syscall_number(name).ok_or_else(|| {
        (
            format!("-S: {} has no system call named {}", machine.name(), piece(call)),
            "see man 2 syscalls; separate several by commas".to_owned(),
        )
    })
}

/// Without arch the rule applies to both kinds of programs, by number.
fn warn_arch(call: &[u8], number: u32, native: Machine, warnings: &mut Vec<Wrong>) {
    let Some(compat) = native.compat() else {
        return;
    };
    let name = std::str::from_utf8(call).unwrap_or_default();
    if native.syscall_number(name).is_none() || compat.syscall_number(name) == Some(number) {
        return;
    }
    let other = compat.syscall_name(number).unwrap_or("another call");
    warnings.push((
        format!("-S {name} without arch also means call {number} of 32-bit programs, which is {other}"),
        "put -F arch=b64 before -S (and a second rule with b32)".to_owned(),
    ));
}

fn warn_path(path: &[u8], warnings: &mut Vec<Wrong>) {
    if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        warnings.push((
            format!("{} contains .., which is not resolved later", piece(path)),
            "write the path without it".to_owned(),
        ));
    }
    if path.iter().any(|byte| matches!(byte, b'*' | b'?')) {
        warnings.push((
            format!("{}: * and ? stand for themselves here", piece(path)),
            "watch the directory with dir=".to_owned(),
        ));
    }
}
