//! A rule as a line that the grammar reads back.

use std::fmt;

use crate::field::{self, Kind, number};
use crate::layout::{Action, List, Op, UNSET};
use crate::machine::Machine;
use crate::names;
use crate::record_types::RECORD_TYPES;
use crate::rule::{Rule, Test, Value};

impl Rule {
    /// The rule as one line of a rules file, without its end. Bytes, because
    /// paths and keys need not be UTF-8. Spaces and backslashes in values are
    /// escaped with a backslash.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        if let Some(line) = self.watch_line() {
            return line;
        }
        let mut out = Vec::new();
        let letter = if self.prepend { 'A' } else { 'a' };
        let head = format!("-{letter} {},{}", self.action.name(), self.list.name());
        out.extend_from_slice(head.as_bytes());
        // `arch` must stand before -S, and the other fields behind it.
        let arch = self
            .tests
            .iter()
            .position(|test| test.field == number::ARCH && matches!(test.op, Op::Equal | Op::NotEqual));
        let calls_after = arch.unwrap_or(usize::MAX);
        if arch.is_none() {
            self.push_calls(&mut out, None);
        }
        for (index, test) in self.tests.iter().enumerate() {
            push_test(&mut out, test);
            if index == calls_after {
                self.push_calls(&mut out, Some(test));
            }
        }
        out
    }

    fn push_calls(&self, out: &mut Vec<u8>, arch: Option<&Test>) {
        let filtered = matches!(self.list, List::Exit | List::IoUring);
        if !filtered {
            return;
        }
        if self.mask.is_all() {
            // With arch and perm the grammar would fill in the calls itself.
            out.extend_from_slice(b" -S all");
            return;
        }
        let machine = match arch.map(|test| (&test.value, test.op)) {
            Some((Value::Number(arch), Op::Equal)) => Machine::from_audit_arch(*arch),
            Some(_) => None,
            None => Some(Machine::native()),
        };
        for (index, call) in self.mask.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b" -S " } else { b"," });
            let name = match self.list {
                List::IoUring => names::uring_op_name(call),
                _ => machine.and_then(|machine| machine.syscall_name(call)),
            };
            match name {
                Some(name) => out.extend_from_slice(name.as_bytes()),
                None => out.extend_from_slice(call.to_string().as_bytes()),
            }
        }
    }

    /// `-w PATH -p PERMS -k KEY`, if the rule has just that form.
    fn watch_line(&self) -> Option<Vec<u8>> {
        if self.list != List::Exit || self.action != Action::Always || self.prepend {
            return None;
        }
        if !self.mask.is_all() {
            return None;
        }
        let (path, perm, key) = match self.tests.as_slice() {
            [path, perm] => (path, perm, None),
            [path, perm, key] => (path, perm, Some(key)),
            _ => return None,
        };
        if !matches!(path.field, number::PATH | number::DIR) || path.op != Op::Equal {
            return None;
        }
        let Value::Text(path) = &path.value else {
            return None;
        };
        let Value::Number(perms) = perm.value else {
            return None;
        };
        if perm.field != number::PERM || perm.op != Op::Equal || path.ends_with(b"/") {
            return None;
        }
        let mut out = b"-w ".to_vec();
        push_escaped(&mut out, path);
        out.extend_from_slice(b" -p ");
        out.extend_from_slice(perm_letters(perms)?.as_bytes());
        if let Some(key) = key {
            if key.field != number::KEY || key.op != Op::Equal {
                return None;
            }
            push_keys(&mut out, key);
        }
        Some(out)
    }
}

impl fmt::Display for Rule {
    /// The line with bytes that are not UTF-8 replaced and control
    /// characters escaped: for people and logs, not for loading.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::fault::shown(&self.to_line()))
    }
}

fn push_test(out: &mut Vec<u8>, test: &Test) {
    if test.field == number::KEY && test.op == Op::Equal {
        push_keys(out, test);
        return;
    }
    if test.field == number::COMPARE
        && let Value::Number(pair) = test.value
        && let Some((left, right)) = names::comparison_names(pair)
    {
        let text = format!(" -C {left}{}{right}", test.op.text());
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.extend_from_slice(b" -F ");
    let known = field::by_number(test.field);
    match known {
        Some(field) => out.extend_from_slice(field.name.as_bytes()),
        None => out.extend_from_slice(format!("f{}", test.field).as_bytes()),
    }
    out.extend_from_slice(test.op.text().as_bytes());
    match &test.value {
        Value::Text(text) => push_escaped(out, text),
        Value::Number(value) => {
            let text = known
                .and_then(|field| special(field.kind, *value))
                .unwrap_or_else(|| value.to_string());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// How a number is written where its kind has names.
fn special(kind: Kind, value: u32) -> Option<String> {
    match kind {
        Kind::Auid | Kind::Session if value == UNSET => Some("unset".into()),
        Kind::Arch => Some(match Machine::from_audit_arch(value) {
            Some(machine) if machine == Machine::native() => "b64".into(),
            Some(machine) if Some(machine) == Machine::native().compat() => "b32".into(),
            Some(machine) => machine.name().into(),
            None => format!("{value:#x}"),
        }),
        Kind::RecordType => names::by_number(RECORD_TYPES, value).map(str::to_owned),
        Kind::FileType => names::by_number(names::FILE_TYPES, value).map(str::to_owned),
        Kind::FsType => names::by_number(names::FILE_SYSTEMS, value)
            .map_or_else(|| Some(format!("{value:#x}")), |name| Some(name.to_owned())),
        Kind::Perm => perm_letters(value),
        Kind::Exit => {
            let negative = value.wrapping_neg();
            match names::errno_name(negative) {
                Some(name) => Some(format!("-{name}")),
                None if value > i32::MAX as u32 => Some((value as i32).to_string()),
                None => None,
            }
        }
        _ => None,
    }
}

fn perm_letters(perms: u32) -> Option<String> {
    let letters: String = names::PERMS
        .iter()
        .filter(|(_, bit)| perms & bit != 0)
        .map(|(letter, _)| char::from(*letter))
        .collect();
    (perms != 0 && perms < 16).then_some(letters)
}

fn push_keys(out: &mut Vec<u8>, test: &Test) {
    let Value::Text(text) = &test.value else {
        return;
    };
    for key in text.split(|byte| *byte == crate::layout::KEY_SEPARATOR) {
        out.extend_from_slice(b" -k ");
        push_escaped(out, key);
    }
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if matches!(byte, b' ' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}
