//! The argument of `-F` and `-C`: field, operator, value.

use crate::fault::piece;
use crate::field::{self, Field, Kind};
use crate::host::Host;
use crate::layout::{List, MAX_PATH_LEN, Op, UNSET};
use crate::machine::Machine;
use crate::names;
use crate::record_types::RECORD_TYPES;
use crate::rule::{Test, Value};

/// What is wrong, what would be right.
pub(crate) type Wrong = (String, String);

/// Shorthand for the error of a value.
pub(crate) fn wrong<T>(what: impl Into<String>, right: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), right.into()))
}

/// What `-F` gives.
pub(crate) enum Given {
    Test(Test),
    /// Collected like `-k`.
    Key(Vec<u8>),
}

/// Splits at the operator: they are searched one after the other anywhere in
/// the argument, so the first *kind* wins, not the first place.
pub(crate) fn split(text: &[u8]) -> Option<(&[u8], Op, &[u8])> {
    Op::SEARCH_ORDER.into_iter().find_map(|op| {
        let sign = op.text().as_bytes();
        let at = text.windows(sign.len()).position(|window| window == sign)?;
        Some((text.get(..at)?, op, text.get(at + sign.len()..)?))
    })
}

/// Parses the argument of `-F` for a rule of this list.
pub(crate) fn parse(text: &[u8], list: List, host: &dyn Host) -> Result<Given, Wrong> {
    let Some((name, op, value)) = split(text) else {
        return wrong(
            format!("-F {} has no operator", piece(text)),
            "write -F FIELD=VALUE with one of != >= <= &= = > < &",
        );
    };
    let Some(field) = field::by_name(name) else {
        return Err(unknown_field(name, op));
    };
    let shown = format!("-F {}", piece(text));
    if field.kind == Kind::Compare {
        return wrong(
            format!("{shown}: two fields are compared by -C"),
            "for example -C uid!=euid",
        );
    }
    if field.lists & list.bit() == 0 {
        return wrong(
            format!(
                "{shown}: the field {} is not valid on the {} list",
                field.name,
                list.name()
            ),
            format!("it works on: {}", field::list_names(field.lists)),
        );
    }
    if field.ops & op.bit() == 0 {
        return wrong(
            format!(
                "{shown}: the field {} cannot be compared with {}",
                field.name,
                op.text()
            ),
            format!("use one of {}", field::op_names(field.ops)),
        );
    }
    if value.is_empty() {
        return wrong(format!("{shown} has no value"), "");
    }
    if field.kind == Kind::Key {
        return Ok(Given::Key(value.to_vec()));
    }
    let value = parse_value(field, value, host).map_err(|(what, right)| (format!("{shown}: {what}"), right))?;
    Ok(Given::Test(Test {
        field: field.number,
        op,
        value,
    }))
}

fn unknown_field(name: &[u8], op: Op) -> Wrong {
    let what = format!("-F: unknown field {}", piece(name));
    // A path that contains an operator earlier in the search order.
    if name.contains(&b'/') || name.contains(&b'=') {
        return (
            what,
            format!(
                "the line was split at the first {}, wherever it stands: such a value cannot be written",
                op.text()
            ),
        );
    }
    let lower = name.to_ascii_lowercase();
    let near = field::FIELDS.iter().find(|field| {
        field.name.as_bytes() == lower
            || field.name.replace('_', "").as_bytes() == lower
            || (lower.len() > 2 && field.name.as_bytes().starts_with(&lower))
    });
    let right = match near {
        Some(field) => format!("did you mean {}?", field.name),
        None => {
            let names: Vec<&str> = field::FIELDS.iter().map(|field| field.name).collect();
            format!("known are: {}", names.join(" "))
        }
    };
    (what, right)
}

fn parse_value(field: &Field, value: &[u8], host: &dyn Host) -> Result<Value, Wrong> {
    let number = match field.kind {
        Kind::Number => signed(value)?,
        Kind::Flag => match value {
            b"0" => 0,
            b"1" => 1,
            _ => return wrong("not 0 or 1", "1 is yes, 0 is no"),
        },
        Kind::Uid => id(value, |name| host.uid(name), "user")?,
        Kind::Gid => id(value, |name| host.gid(name), "group")?,
        Kind::Auid if unset(value) => UNSET,
        Kind::Auid => id(value, |name| host.uid(name), "user")?,
        Kind::Session if unset(value) => UNSET,
        Kind::Session => signed(value)?,
        Kind::Arch => arch(value, host)?.0,
        Kind::RecordType => names::by_name(RECORD_TYPES, value)
            .or_else(|| unsigned(value))
            .ok_or_else(|| {
                (
                    "unknown record type".to_owned(),
                    "write its name (CWD, USER_LOGIN) or number".to_owned(),
                )
            })?,
        Kind::Exit => exit(value)?,
        Kind::Perm => perms(value)?,
        Kind::FileType => match names::by_name(names::FILE_TYPES, value) {
            Some(number) => number,
            None => {
                let known = names::listed(names::FILE_TYPES);
                return wrong("unknown file type", format!("one of {known}"));
            }
        },
        Kind::FsType => match names::by_name(names::FILE_SYSTEMS, value).or(unsigned(value)) {
            Some(number) => number,
            None => {
                let known = names::listed(names::FILE_SYSTEMS);
                return wrong(
                    "unknown file system",
                    format!("one of {known}, or the number in linux/magic.h"),
                );
            }
        },
        Kind::Path | Kind::Exe => {
            absolute(value)?;
            if value.ends_with(b"/") {
                return wrong(
                    "a path that ends in / is refused by the kernel",
                    "for a directory and all below it use dir=",
                );
            }
            return Ok(Value::Text(value.to_vec()));
        }
        Kind::Dir => {
            absolute(value)?;
            return Ok(Value::Text(value.to_vec()));
        }
        Kind::Text | Kind::Key => return Ok(Value::Text(value.to_vec())),
        Kind::Compare => return wrong("two fields are compared by -C", ""),
    };
    if field.name == "saddr_fam" && number > 45 {
        return wrong(
            "no such address family",
            "2 is IPv4, 10 is IPv6, 1 is unix; the highest is 45",
        );
    }
    Ok(Value::Number(number))
}

/// A path as a rule may hold it.
pub(crate) fn absolute(path: &[u8]) -> Result<(), Wrong> {
    if !path.starts_with(b"/") {
        return wrong(
            format!("{} is not an absolute path", piece(path)),
            "paths in rules begin with /",
        );
    }
    if path.len() > MAX_PATH_LEN {
        return wrong(
            format!("a path of {} bytes", path.len()),
            format!("the longest the kernel takes is {MAX_PATH_LEN}"),
        );
    }
    Ok(())
}

/// Letters of r, w, x, a in any order, upper or lower case.
pub(crate) fn perms(value: &[u8]) -> Result<u32, Wrong> {
    let mut bits = 0;
    for letter in value.to_ascii_lowercase() {
        match names::PERMS.iter().find(|(known, _)| *known == letter) {
            Some((_, bit)) => bits |= bit,
            None => {
                return wrong(
                    format!("unknown permission {}", piece(&[letter])),
                    "permissions are letters of r (read), w (write), x (execute), a (attribute)",
                );
            }
        }
    }
    if bits == 0 {
        return wrong("no permission", "letters of r, w, x, a");
    }
    Ok(bits)
}

/// The architecture and, if this crate knows it, its machine.
pub(crate) fn arch(value: &[u8], host: &dyn Host) -> Result<(u32, Option<Machine>), Wrong> {
    let native = host.native();
    let machine = if value.eq_ignore_ascii_case(b"b64") {
        native
    } else if value.eq_ignore_ascii_case(b"b32") {
        match native.compat() {
            Some(machine) => machine,
            None => {
                return wrong(
                    format!("{} has no 32-bit programs", native.name()),
                    "leave this rule out",
                );
            }
        }
    } else if let Some(machine) = Machine::from_name(value) {
        machine
    } else if let Some(number) = unsigned(value) {
        return Ok((number, Machine::from_audit_arch(number)));
    } else {
        return wrong(
            "unknown architecture",
            "b64, b32, x86_64, i686, aarch64, ppc64le, s390x, riscv64, loongarch64, or its audit number",
        );
    };
    Ok((machine.audit_arch(), Some(machine)))
}

/// The argument of `-C`.
pub(crate) fn compare(text: &[u8]) -> Result<Test, Wrong> {
    let shown = format!("-C {}", piece(text));
    let (left, op, right) = match split(text) {
        Some((left, op @ (Op::Equal | Op::NotEqual), right)) => (left, op, right),
        _ => {
            return wrong(format!("{shown} is no comparison"), "write FIELD=FIELD or FIELD!=FIELD");
        }
    };
    let Some(pair) = names::comparison(left, right) else {
        return wrong(
            format!("{shown}: the kernel cannot compare these two"),
            "uid, auid, euid, suid, fsuid with each other or obj_uid; gid, egid, sgid, fsgid with each other or obj_gid",
        );
    };
    Ok(Test {
        field: field::number::COMPARE,
        op,
        value: Value::Number(pair),
    })
}

fn unset(value: &[u8]) -> bool {
    matches!(value, b"unset" | b"-1" | b"4294967295")
}

fn id(value: &[u8], resolve: impl Fn(&str) -> Option<u32>, what: &str) -> Result<u32, Wrong> {
    if unset(value) {
        return wrong(format!("a {what} id cannot be unset"), "only auid and sessionid can");
    }
    if value.first().is_some_and(u8::is_ascii_digit) {
        return unsigned(value).ok_or_else(|| ("not a number".to_owned(), "an id is 0 to 4294967294".to_owned()));
    }
    let name = std::str::from_utf8(value).ok();
    name.and_then(resolve).ok_or_else(|| {
        (
            format!("no {what} of that name on this host"),
            "write the number, or create it first: names are looked up once, now".to_owned(),
        )
    })
}

fn exit(value: &[u8]) -> Result<u32, Wrong> {
    if let Ok(number) = signed(value) {
        return Ok(number);
    }
    let (negative, name) = match value.split_first() {
        Some((b'-', name)) => (true, name),
        _ => (false, value),
    };
    let number = std::str::from_utf8(name).ok().and_then(names::errno);
    match number {
        Some(number) if negative => Ok(number.wrapping_neg()),
        Some(number) => Ok(number),
        None => wrong("not a number and no errno", "for example exit=-EACCES or exit=-13"),
    }
}

/// Like strtoul with base 0: decimal, 0x… hexadecimal, 0… octal.
pub(crate) fn unsigned(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // from_str_radix takes a sign, which has no place here.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// A number, or a negative one taken as u32.
fn signed(value: &[u8]) -> Result<u32, Wrong> {
    let number = match value.split_first() {
        Some((b'-', rest)) => unsigned(rest)
            .filter(|number| *number <= i32::MAX as u32 + 1)
            .map(u32::wrapping_neg),
        _ => unsigned(value),
    };
    number.ok_or_else(|| {
        (
            "not a number of 32 bits".to_owned(),
            "decimal, 0x hexadecimal or 0 octal".to_owned(),
        )
    })
}
