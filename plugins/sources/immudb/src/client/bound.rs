//! Answers whose decoded form is not much larger than what was received: an element of two bytes may take a hundred in
//! memory. So they are counted before anything is decoded.

use std::marker::PhantomData;

use auditmon_proto::immudb as proto;
use prost::Message;
use prost::bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Most elements of an answer to which no number was asked for: databases, and parts of a proof over a tree that lags.
pub(crate) const MANY: usize = 100_000;
/// Bytes of a hash.
const HASH: usize = 32;
/// Fewest bytes of an entry, in either layout: it holds a hash.
const ENTRY: usize = HASH + 2;

/// A field that takes memory beside its bytes.
pub(crate) struct Field {
    number: u32,
    /// Fewest bytes of it.
    least: usize,
    /// Whether it is one of those that are counted.
    counted: bool,
    within: &'static [Field],
}

impl Field {
    /// One, with others in it.
    const fn one(number: u32, within: &'static [Self]) -> Self {
        Self {
            number,
            least: 0,
            counted: false,
            within,
        }
    }

    /// Many, each of at least so many bytes.
    const fn many(number: u32, least: usize) -> Self {
        Self {
            number,
            least,
            counted: false,
            within: &[],
        }
    }

    /// Many of any length.
    const fn counted(number: u32, within: &'static [Self]) -> Self {
        Self {
            number,
            least: 0,
            counted: true,
            within,
        }
    }
}

/// What a server answers with.
pub(crate) trait Answered: Message + Default + Send + 'static {
    /// Its fields that take memory beside their bytes.
    const FIELDS: &'static [Field] = &[];
}

const INCLUSION: &[Field] = &[Field::many(3, HASH)];
const DUAL: &[Field] = &[
    Field::many(3, HASH),
    Field::many(4, HASH),
    Field::many(6, HASH),
    Field::one(7, &[Field::many(3, HASH)]),
    Field::one(8, &[Field::many(1, HASH), Field::counted(2, INCLUSION)]),
];

impl Answered for proto::Empty {}
impl Answered for proto::HealthResponse {}
impl Answered for proto::LoginResponse {}
impl Answered for proto::OpenSessionResponse {}
impl Answered for proto::UseDatabaseReply {}
impl Answered for proto::ImmutableState {}
impl Answered for proto::DatabaseListResponse {
    const FIELDS: &'static [Field] = &[Field::counted(1, &[])];
}
impl Answered for proto::DatabaseListResponseV2 {
    const FIELDS: &'static [Field] = &[Field::counted(1, &[])];
}
impl Answered for proto::TxList {
    const FIELDS: &'static [Field] = &[Field::counted(1, &[])];
}
impl Answered for proto::FullTxList {
    const FIELDS: &'static [Field] = &[Field::counted(1, &[Field::many(2, ENTRY)])];
}
impl Answered for proto::VerifiableTx {
    const FIELDS: &'static [Field] = &[Field::one(2, DUAL)];
}
impl Answered for proto::VerifiableEntry {
    const FIELDS: &'static [Field] = &[Field::one(2, &[Field::one(2, DUAL)]), Field::one(3, INCLUSION)];
}

/// Counts what a message holds; `left` is how many elements it still may.
fn count(mut bytes: &[u8], fields: &[Field], left: &mut usize) -> Result<(), String> {
    let cut = || "it ends in the middle".to_owned();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).map_err(|error| error.to_string())?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut bytes).map_err(|error| error.to_string())?;
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(|error| error.to_string())?;
                usize::try_from(length).map_err(|_| cut())?
            }
            WireType::StartGroup | WireType::EndGroup => return Err("it holds a group".to_owned()),
        };
        let (inner, rest) = bytes.split_at_checked(length).ok_or_else(cut)?;
        bytes = rest;
        let Some(field) = fields.iter().find(|field| field.number == number) else {
            continue;
        };
        if length < field.least {
            let least = field.least;
            return Err(format!(
                "field {number} has {length} bytes, at least {least} are expected"
            ));
        }
        if field.counted {
            let less = left.checked_sub(1);
            *left = less.ok_or_else(|| format!("field {number} comes more often than was asked for"))?;
        }
        if !field.within.is_empty() {
            count(inner, field.within, left)?;
        }
    }
    Ok(())
}

/// Decodes a message of at most so many elements.
///
/// # Errors
/// It is none, or has more.
fn decode<A: Answered>(bytes: prost::bytes::Bytes, most: usize) -> Result<A, Status> {
    // In prost's words, which stand for an answer that can't be read.
    let wrong = |text: String| Status::internal(format!("failed to decode Protobuf message: {text}"));
    count(&bytes, A::FIELDS, &mut { most }).map_err(wrong)?;
    A::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// Writes questions as they are, and reads answers of at most so many elements.
pub(crate) struct Bounded<Q, A> {
    most: usize,
    types: PhantomData<(Q, A)>,
}

impl<Q, A> Bounded<Q, A> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            types: PhantomData,
        }
    }
}

impl<Q: Message + 'static, A: Answered> Codec for Bounded<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = ProstEncoder<Q>;
    type Decoder = Bound<A>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Q, A>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Bound {
            most: self.most,
            types: PhantomData,
        }
    }
}

/// Reads answers.
pub(crate) struct Bound<A> {
    most: usize,
    types: PhantomData<A>,
}

impl<A: Answered> Decoder for Bound<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        decode(bytes, self.most).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many fields without a byte in them.
    fn blank(number: u8, count: usize) -> Vec<u8> {
        [number << 3 | 2, 0].repeat(count)
    }

    fn within(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend(bytes);
        out
    }

    fn read<A: Answered>(bytes: &[u8], most: usize) -> Result<A, String> {
        let read = decode(prost::bytes::Bytes::copy_from_slice(bytes), most);
        read.map_err(|status| status.message().to_owned())
    }

    #[test]
    fn more_elements_than_asked_for_are_not_decoded() {
        let blanks = blank(1, 1_001);
        assert_eq!(read::<proto::TxList>(&blanks[2..], 1_000).unwrap().txs.len(), 1_000);
        assert!(read::<proto::TxList>(&blanks, 1_000).is_err());
        assert!(read::<proto::FullTxList>(&blanks, 1_000).is_err());
        assert!(read::<proto::DatabaseListResponse>(&blanks, 1_000).is_err());
        assert!(read::<proto::DatabaseListResponseV2>(&blanks, 1_000).is_err());
        // As large as an answer may be.
        let says = read::<proto::TxList>(&blank(1, 8 << 20), 1_000).unwrap_err();
        assert!(says.contains("failed to decode Protobuf message"), "{says}");
        // In two parts, that are one when they are decoded.
        let parts = [within(8, &blank(2, 600)), within(8, &blank(2, 600))].concat();
        assert!(read::<proto::VerifiableTx>(&within(2, &parts), 1_000).is_err());
        assert!(read::<proto::VerifiableTx>(&within(2, &parts), 1_200).is_ok());
    }

    #[test]
    fn hashes_and_entries_are_as_long_as_they_must_be() {
        for proof in [
            blank(3, 1),
            blank(4, 1),
            blank(6, 1),
            within(3, &[7; 31]),
            within(7, &blank(3, 1)),
            within(8, &blank(1, 1)),
            within(8, &within(2, &blank(3, 1))),
        ] {
            assert!(
                read::<proto::VerifiableTx>(&within(2, &proof), MANY).is_err(),
                "{proof:?}"
            );
            let entry = within(2, &within(2, &proof));
            assert!(read::<proto::VerifiableEntry>(&entry, MANY).is_err(), "{proof:?}");
        }
        let proof = within(2, &within(3, &[7; 32]));
        assert!(read::<proto::VerifiableTx>(&proof, MANY).is_ok());
        assert!(read::<proto::VerifiableEntry>(&within(3, &blank(3, 1)), MANY).is_err());
        assert!(read::<proto::FullTxList>(&within(1, &blank(2, 1)), MANY).is_err());
        assert!(read::<proto::FullTxList>(&within(1, &within(2, &[7; 34])), MANY).is_ok());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[0x0a][..], &[0x0a, 1], &[0x0b], &[0x0c], &[0xff; 11], &[9, 1], &[0]] {
            assert!(read::<proto::TxList>(bytes, 1).is_err(), "{bytes:?}");
        }
        // What isn't known is passed over, in all forms.
        let unknown = [&[0x78, 1][..], &[0x79, 1, 2, 3, 4, 5, 6, 7, 8], &[0x7d, 1, 2, 3, 4]].concat();
        assert!(read::<proto::TxList>(&unknown, 0).unwrap().txs.is_empty());
    }
}
