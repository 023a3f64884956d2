//! Encoded messages taken apart without decoding what they say: which bytes
//! belong to which field, and lists changed on the bytes.

use std::ops::Range;

/// Which fields are messages, by message and number.
const MESSAGES: &[(&str, u32, &str)] = &[
    ("VerifiableTx", 1, "Tx"),
    ("VerifiableTx", 2, "DualProof"),
    ("VerifiableTx", 3, "Signature"),
    ("VerifiableTxV2", 1, "Tx"),
    ("VerifiableTxV2", 2, "DualProofV2"),
    ("VerifiableTxV2", 3, "Signature"),
    ("VerifiableEntry", 1, "Entry"),
    ("VerifiableEntry", 2, "VerifiableTx"),
    ("VerifiableEntry", 3, "InclusionProof"),
    ("Entry", 4, "Reference"),
    ("Entry", 5, "KVMetadata"),
    ("Reference", 4, "KVMetadata"),
    ("TxList", 1, "Tx"),
    ("Tx", 1, "TxHeader"),
    ("Tx", 2, "TxEntry"),
    ("TxHeader", 9, "TxMetadata"),
    ("TxEntry", 4, "KVMetadata"),
    ("KVMetadata", 2, "Expiration"),
    ("DualProof", 1, "TxHeader"),
    ("DualProof", 2, "TxHeader"),
    ("DualProof", 7, "LinearProof"),
    ("DualProof", 8, "LinearAdvanceProof"),
    ("DualProofV2", 1, "TxHeader"),
    ("DualProofV2", 2, "TxHeader"),
    ("LinearAdvanceProof", 2, "InclusionProof"),
    ("ImmutableState", 4, "Signature"),
];

/// Fields that are lists.
const LISTS: &[(&str, u32)] = &[
    ("Tx", 2),
    ("TxList", 1),
    ("DualProof", 3),
    ("DualProof", 4),
    ("DualProof", 6),
    ("DualProofV2", 3),
    ("DualProofV2", 4),
    ("LinearProof", 3),
    ("LinearAdvanceProof", 1),
    ("LinearAdvanceProof", 2),
    ("InclusionProof", 3),
];

/// A message's name and a field's number.
pub type Name = (&'static str, u32);

/// A field of an encoded message.
#[derive(Clone, Debug)]
pub struct Field {
    pub number: u32,
    /// Tag and length too.
    pub all: Range<usize>,
    /// Set if it is a message: its name and fields.
    pub message: Option<(&'static str, Vec<Field>)>,
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Takes a valid message apart.
pub fn fields(message: &'static str, bytes: &[u8], range: Range<usize>) -> Vec<Field> {
    let mut at = range.start;
    let mut found = Vec::new();
    while at < range.end {
        let start = at;
        let tag = varint(bytes, &mut at);
        let number = u32::try_from(tag >> 3).unwrap();
        let mut from = at;
        match tag & 7 {
            0 => {
                varint(bytes, &mut at);
            }
            1 => at += 8,
            2 => {
                let length = varint(bytes, &mut at);
                from = at;
                at += usize::try_from(length).unwrap();
            }
            other => panic!("wire type {other}"),
        }
        let payload = from..at;
        let inner = MESSAGES.iter().find(|known| (known.0, known.1) == (message, number));
        // In servers up to 1.1 this one is a number.
        let inner = inner.filter(|_| tag & 7 == 2);
        found.push(Field {
            number,
            all: start..at,
            message: inner.map(|known| (known.2, fields(known.2, bytes, payload))),
        });
    }
    found
}

/// The field that each byte belongs to, the innermost.
pub fn owners(message: &'static str, fields: &[Field], owners: &mut [Name]) {
    for field in fields {
        owners[field.all.clone()].fill((message, field.number));
        if let Some((name, inner)) = &field.message {
            self::owners(name, inner, owners);
        }
    }
}

/// Every message with one list changed, one of its own or, if `deep`, also of
/// the messages in it: the list's name, and the bytes.
pub fn changed_lists(message: &'static str, bytes: &[u8], deep: bool) -> Vec<(Name, Vec<u8>)> {
    let fields = fields(message, bytes, 0..bytes.len());
    let mut out = Vec::new();
    if deep {
        change(message, bytes, &fields, &|body| body, &mut out);
    } else {
        let pieces: Vec<&[u8]> = fields.iter().map(|field| &bytes[field.all.clone()]).collect();
        change_own(message, &pieces, &fields, &|body| body, &mut out);
    }
    out
}

type Wrap<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;

fn change(message: &'static str, bytes: &[u8], fields: &[Field], wrap: Wrap<'_>, out: &mut Vec<(Name, Vec<u8>)>) {
    let pieces: Vec<&[u8]> = fields.iter().map(|field| &bytes[field.all.clone()]).collect();
    change_own(message, &pieces, fields, wrap, out);
    for (at, field) in fields.iter().enumerate() {
        let Some((name, inner)) = &field.message else { continue };
        let rewrap = |body: Vec<u8>| {
            let mut wrapped = pieces[..at].concat();
            push_field(&mut wrapped, field.number, &body);
            wrapped.extend(pieces[at + 1..].concat());
            wrap(wrapped)
        };
        change(name, bytes, inner, &rewrap, out);
    }
}

fn change_own(
    message: &'static str,
    pieces: &[&[u8]],
    fields: &[Field],
    wrap: Wrap<'_>,
    out: &mut Vec<(Name, Vec<u8>)>,
) {
    for &(_, number) in LISTS.iter().filter(|list| list.0 == message) {
        let places: Vec<usize> = (0..fields.len()).filter(|at| fields[*at].number == number).collect();
        for pieces in lists(pieces, &places, number) {
            out.push(((message, number), wrap(pieces.concat())));
        }
    }
}

fn push_field(out: &mut Vec<u8>, number: u32, body: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

/// The pieces of a message with the elements at `places` shortened, lengthened, reordered.
fn lists(pieces: &[&[u8]], places: &[usize], number: u32) -> Vec<Vec<Vec<u8>>> {
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let mut out = Vec::new();
    let mut zero = Vec::new();
    push_field(&mut zero, number, &[0; 32]);
    for at in [places.first().copied().unwrap_or(0), pieces.len()] {
        let mut longer = pieces.clone();
        longer.insert(at, zero.clone());
        out.push(longer);
    }
    // Of a long list some elements will do.
    let step = places.len().div_ceil(64).max(1);
    for (nth, &place) in places.iter().enumerate().step_by(step) {
        let mut shorter = pieces.clone();
        shorter.remove(place);
        out.push(shorter);
        let mut twice = pieces.clone();
        twice.insert(place, pieces[place].clone());
        out.push(twice);
        for &other in places[nth + 1..].iter().take(8) {
            let mut swapped = pieces.clone();
            swapped.swap(place, other);
            out.push(swapped);
        }
    }
    if places.len() > 1 {
        let mut none = pieces.clone();
        none.retain(|piece| !places.iter().any(|place| pieces[*place] == *piece));
        out.push(none);
        let mut reversed = pieces.clone();
        for (nth, &place) in places.iter().enumerate() {
            reversed[place] = pieces[places[places.len() - 1 - nth]].clone();
        }
        out.push(reversed);
    }
    out
}
