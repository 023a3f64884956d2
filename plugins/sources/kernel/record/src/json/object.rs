//! The fields of any record as a JSON object.

use smallvec::SmallVec;

use super::text::{append_hex, is_number, number, string};
use super::{Names, key_of};
use crate::fields::{Field, Quote, Value, fields};
use crate::table::{Kind, hash, info};
use crate::untrusted::append_untrusted;
use crate::view::{Keys, MAX_FIELDS, split_keys, text_of};

/// Writes objects; `scratch` is memory for decoded strings.
pub(super) struct Writer<'w, N: Names + ?Sized> {
    pub(super) out: &'w mut Vec<u8>,
    pub(super) names: &'w N,
    pub(super) scratch: &'w mut Vec<u8>,
    /// A record had more fields than are decoded.
    pub(super) fields_cut: bool,
}

/// Name under which words without `=` stand.
const WORDS: &[u8] = b"words";

impl<N: Names + ?Sized> Writer<'_, N> {
    /// Writes a body as an object.
    pub(super) fn body(&mut self, body: &[u8], nested: bool) {
        let mut list: SmallVec<[Field<'_>; 32]> = SmallVec::new();
        for field in fields(body) {
            if list.len() == MAX_FIELDS {
                self.fields_cut = true;
                break;
            }
            list.push(field);
        }
        self.object(&list, nested);
    }

    /// Writes fields as an object: a member per name, with a list where a name is repeated.
    ///
    /// `nested`: these are fields inside `msg='…'`, in which no further ones are looked for.
    pub(super) fn object(&mut self, list: &[Field<'_>], nested: bool) {
        let repeated = repeated(list);
        let start = self.out.len();
        for (at, field) in list.iter().enumerate() {
            let name = name_of(field);
            self.out.push(if self.out.len() == start { b'{' } else { b',' });
            if !repeated.contains(name) {
                self.member(list, name, &field.value, nested);
                continue;
            }
            let is_same = |other: &&Field<'_>| name_of(other) == name;
            if list.iter().take(at).any(|other| is_same(&other)) {
                // Written where the name came first; take the comma back.
                self.out.pop();
                continue;
            }
            let values: SmallVec<[Value<'_>; 8]> =
                list.iter().skip(at).filter(is_same).map(|field| field.value).collect();
            match values.as_slice() {
                [value] => self.member(list, name, value, nested),
                values => self.repeated(list, name, values, nested),
            }
        }
        if self.out.len() == start {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    fn member(&mut self, list: &[Field<'_>], name: &[u8], value: &Value<'_>, nested: bool) {
        key_of(name, self.out);
        match self.value(list, name, value, nested) {
            Aside::Nothing => {}
            Aside::Hex => {
                if self.sibling(list, name, b"_hex") {
                    self.out.push(b'"');
                    append_hex(self.scratch, self.out);
                    self.out.push(b'"');
                }
            }
            Aside::Id(kind, id) => self.name_of_id(list, name, kind, id),
            Aside::Keys(keys) => self.keys_hex(list, name, &keys),
        }
    }

    /// Writes a list; ids get no names here, raw bytes an object of index and hex.
    fn repeated(&mut self, list: &[Field<'_>], name: &[u8], values: &[Value<'_>], nested: bool) {
        key_of(name, self.out);
        let mut hex: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, value) in values.iter().enumerate() {
            self.out.push(if at == 0 { b'[' } else { b',' });
            if let Aside::Hex = self.value(list, name, value, nested) {
                hex.push((at, self.scratch.clone()));
            }
        }
        self.out.push(b']');
        if !hex.is_empty() && self.sibling(list, name, b"_hex") {
            hex_by_index(hex.iter().map(|(at, bytes)| (*at, bytes.as_slice())), self.out);
        }
    }

    /// Writes a value and tells what belongs beside it. After [`Aside::Hex`] the bytes are in
    /// `scratch`.
    fn value<'v>(&mut self, list: &[Field<'_>], name: &[u8], value: &Value<'v>, nested: bool) -> Aside<'v> {
        if value.quote == Quote::Single && !nested {
            self.body(value.text, true);
            return Aside::Nothing;
        }
        let kind = match info(name).kind {
            Kind::Change if is_make_equiv(list) => Kind::Untrusted,
            Kind::Change => Kind::Number,
            kind => kind,
        };
        match kind {
            Kind::Number if is_number(value) => self.out.extend_from_slice(value.text),
            Kind::User | Kind::Group if let Some(id) = value.id() => {
                number(u64::from(id), self.out);
                return Aside::Id(kind, id);
            }
            Kind::Untrusted | Kind::Keys if value.is_null() => {
                self.out
                    .extend_from_slice(if kind == Kind::Keys { b"[]" } else { b"null" });
            }
            Kind::Keys => return self.keys(value),
            Kind::Untrusted => {
                self.scratch.clear();
                append_untrusted(value, self.scratch);
                if !string(self.scratch, self.out) {
                    return Aside::Hex;
                }
            }
            _ => {
                if !string(value.text, self.out) {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(value.text);
                    return Aside::Hex;
                }
            }
        }
        Aside::Nothing
    }

    fn keys<'v>(&mut self, value: &Value<'v>) -> Aside<'v> {
        let mut keys = Keys::new();
        if let Some(text) = text_of(*value) {
            split_keys(text, &mut keys);
        }
        let good = strings(keys.iter().map(AsRef::as_ref), self.out);
        if good { Aside::Nothing } else { Aside::Keys(keys) }
    }

    fn keys_hex(&mut self, list: &[Field<'_>], name: &[u8], keys: &Keys<'_>) {
        if self.sibling(list, name, b"_hex") {
            hex_by_index(not_utf8(keys.iter().map(AsRef::as_ref)), self.out);
        }
    }

    fn name_of_id(&mut self, list: &[Field<'_>], name: &[u8], kind: Kind, id: u32) {
        let Some(text) = id_name(self.names, kind, id) else {
            return;
        };
        if self.sibling(list, name, b"_name") {
            string(text.as_bytes(), self.out);
        }
    }

    /// Starts a member `<name><suffix>`, unless the record has a field of that name itself.
    fn sibling(&mut self, list: &[Field<'_>], name: &[u8], suffix: &[u8]) -> bool {
        let taken = list
            .iter()
            .any(|field| field.name.strip_prefix(name).is_some_and(|rest| rest == suffix));
        if !taken {
            self.out.push(b',');
            self.out.push(b'"');
            self.out.extend_from_slice(name);
            self.out.extend_from_slice(suffix);
            self.out.extend_from_slice(b"\":");
        }
        !taken
    }
}

/// What belongs beside a value.
enum Aside<'v> {
    Nothing,
    Hex,
    Id(Kind, u32),
    Keys(Keys<'v>),
}

/// The name of an id: `unset` for 4294967295, else what the caller knows.
pub(super) fn id_name<N: Names + ?Sized>(names: &N, kind: Kind, id: u32) -> Option<&str> {
    if id == u32::MAX {
        return Some("unset");
    }
    if kind == Kind::Group {
        names.group(id)
    } else {
        names.user(id)
    }
}

/// Writes a list of strings; `false` if some are not UTF-8.
pub(super) fn strings<'s>(list: impl Iterator<Item = &'s [u8]>, out: &mut Vec<u8>) -> bool {
    let mut good = true;
    let start = out.len();
    for text in list {
        out.push(if out.len() == start { b'[' } else { b',' });
        good &= string(text, out);
    }
    if out.len() == start {
        out.push(b'[');
    }
    out.push(b']');
    good
}

/// Picks the strings that are not UTF-8, with their index.
pub(super) fn not_utf8<'s>(list: impl Iterator<Item = &'s [u8]>) -> impl Iterator<Item = (usize, &'s [u8])> {
    list.enumerate().filter(|(_, text)| std::str::from_utf8(text).is_err())
}

/// Writes `{"index":"hex",…}`.
pub(super) fn hex_by_index<'s>(list: impl Iterator<Item = (usize, &'s [u8])>, out: &mut Vec<u8>) {
    let start = out.len();
    for (at, bytes) in list {
        out.push(if out.len() == start { b'{' } else { b',' });
        out.push(b'"');
        number(at as u64, out);
        out.extend_from_slice(b"\":\"");
        append_hex(bytes, out);
        out.push(b'"');
    }
    if out.len() == start {
        out.push(b'{');
    }
    out.push(b'}');
}

fn name_of<'f>(field: &Field<'f>) -> &'f [u8] {
    if field.name.is_empty() { WORDS } else { field.name }
}

fn is_make_equiv(list: &[Field<'_>]) -> bool {
    list.iter()
        .any(|field| field.name == b"op" && field.value.text == b"make_equiv")
}

/// Which names may be repeated: a set by hash, so that the usual record, in which none is, needs
/// no comparisons.
struct Repeated(u128);

impl Repeated {
    const fn bit(name: &[u8]) -> u128 {
        1 << (hash(name) & 127)
    }

    const fn contains(&self, name: &[u8]) -> bool {
        self.0 & Self::bit(name) != 0
    }
}

fn repeated(list: &[Field<'_>]) -> Repeated {
    let (mut once, mut twice) = (0, 0);
    for field in list {
        let bit = Repeated::bit(name_of(field));
        twice |= once & bit;
        once |= bit;
    }
    Repeated(twice)
}
