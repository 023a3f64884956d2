//! A PATH record.

use std::borrow::Cow;

use super::text_of;
use crate::fields::{Value, fields};

/// A path that a system call used.
///
/// The name is what the program said, relative to the working directory or to a directory
/// descriptor; names of `PARENT` entries of calls with a descriptor are known to be wrong
/// (reference, section 16). Inode and device are what was really met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<'a> {
    /// Place in the order of collection.
    pub item: Option<u32>,
    name: Option<Value<'a>>,
    /// `NORMAL`, `PARENT`, `CREATE`, `DELETE`, `UNKNOWN` (never resolved).
    pub nametype: &'a [u8],
    /// Inode number; `None` if the path was not resolved.
    pub inode: Option<u64>,
    /// Device as `major:minor` in hex.
    pub dev: Option<&'a [u8]>,
    /// File type and permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub ouid: Option<u32>,
    /// Group.
    pub ogid: Option<u32>,
}

impl<'a> Path<'a> {
    /// Reads the body of a PATH record.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Self {
        let mut path = Self::default();
        for field in fields(body) {
            let value = field.value;
            match field.name {
                b"item" => path.item = value.id(),
                b"name" => path.name = Some(value),
                b"nametype" => path.nametype = value.text,
                b"inode" => path.inode = value.decimal(),
                b"dev" => path.dev = Some(value.text),
                b"mode" => path.mode = octal(value.text),
                b"ouid" => path.ouid = value.id(),
                b"ogid" => path.ogid = value.id(),
                _ => {}
            }
        }
        path
    }

    /// The name; `None` if the file is known by its inode alone.
    #[must_use]
    pub fn name(&self) -> Option<Cow<'a, [u8]>> {
        self.name.and_then(text_of)
    }
}

fn octal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 8).then_some(value << 3 | u32::from(digit))
    })
}
