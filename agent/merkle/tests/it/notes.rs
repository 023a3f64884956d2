//! Keys, notes and checkpoints: what is refused, and a second signature type.

use auditmon_merkle::{
    Checkpoint, CheckpointError, ED25519, EMPTY_ROOT, Ed25519Signer, Ed25519Verifier, KeyError, KeyId, MAX_KEY_TEXT,
    MAX_NOTE, MAX_SIGNATURES, MAX_SIZE, Note, NoteError, Signer, TreeHead, Verifier, Vkey, leaf_hash, sign_note,
    signature_line, split_checkpoints,
};
use rand::SeedableRng as _;

use crate::vectors::{LOG_SEED, LOG_VKEY, SPEC_NOTE, SPEC_VKEY, WITNESS_VKEY, WITNESSED};

fn signer(name: &str) -> Ed25519Signer {
    Ed25519Signer::from_seed(name, &[9; 32]).unwrap()
}

/// Timestamped cosignatures, type 0x04: the other algorithm that a checkpoint
/// is checked by, to show that a [`Verifier`] of one's own is enough.
///
/// Source: C2SP tlog-cosignature, "Ed25519 signed message".
struct Witness {
    key: Vkey,
    /// Checks the message; only the type byte and the message differ.
    ed25519: Ed25519Verifier,
}

impl Witness {
    fn new(vkey: &str) -> Self {
        let key: Vkey = vkey.parse().unwrap();
        let material = key.expect(0x04).unwrap().try_into().unwrap();
        let ed25519 = Ed25519Verifier::new(key.name(), material).unwrap();
        Self { key, ed25519 }
    }
}

impl Verifier for Witness {
    fn name(&self) -> &str {
        self.key.name()
    }

    fn id(&self) -> KeyId {
        self.key.id()
    }

    fn verify(&self, text: &str, signature: &[u8]) -> bool {
        signature.split_first_chunk().is_some_and(|(time, signature)| {
            let message = format!("cosignature/v1\ntime {}\n{text}", u64::from_be_bytes(*time));
            self.ed25519.verify(&message, signature)
        })
    }
}

#[test]
fn another_signature_type_plugs_in() {
    let log: Ed25519Verifier = LOG_VKEY.parse().unwrap();
    let witness = Witness::new(WITNESS_VKEY);
    assert_eq!(witness.key.to_string(), WITNESS_VKEY);
    let note = Note::parse(WITNESSED).unwrap();
    let verified = note.verify(&[&log, &witness]).unwrap();
    assert_eq!(verified.len(), 2);
    assert_eq!(verified[1].signature[..8], 1_767_225_600_u64.to_be_bytes());

    // Another time is another message.
    let late = WITNESSED.replace("w13jFwAAAABpVbkA", "w13jFwAAAABpVbkB");
    let forged = Note::parse(&late).unwrap().verify(&[&log, &witness]).unwrap_err();
    assert!(matches!(forged, NoteError::Forged { name, .. } if name == witness.name()));
    // A witness is no log.
    let opened = Checkpoint::open(WITNESSED, &[&witness]);
    let origin = log.name().to_owned();
    assert_eq!(opened, Err(CheckpointError::Foreign { origin }));
}

#[test]
fn a_key_of_one_type_is_none_of_another() {
    let kind = KeyError::Kind {
        expected: ED25519,
        found: 0x04,
    };
    assert_eq!(WITNESS_VKEY.parse::<Ed25519Verifier>(), Err(kind));
    let log: Vkey = LOG_VKEY.parse().unwrap();
    assert_eq!((log.kind(), log.material().len()), (ED25519, 32));
    // The same 32 bytes as a witness key have another id.
    let witness = Vkey::new(log.name(), 0x04, log.material()).unwrap();
    assert_ne!(witness.id(), log.id());
}

#[test]
fn texts_that_are_no_keys() {
    let cases = [
        ("", KeyError::Verifier),
        ("name", KeyError::Verifier),
        ("name+530d903a", KeyError::Verifier),
        ("+530d903a+AA==", KeyError::Name),
        ("na me+530d903a+AA==", KeyError::Name),
        ("na\u{a0}me+530d903a+AA==", KeyError::Name),
        ("na\nme+530d903a+AA==", KeyError::Name),
        ("name+530d903+AA==", KeyError::Verifier),
        ("name+530D903A+AA==", KeyError::Verifier),
        ("name++30d903a+AA==", KeyError::Verifier),
        ("name+530d903a+", KeyError::Verifier),
        ("name+530d903a+AA", KeyError::Verifier),
        ("name+530d903a+AAA=+", KeyError::Verifier),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Vkey>(), Err(error), "{text}");
    }
    let long = format!("{}+530d903a+AA==", "n".repeat(MAX_KEY_TEXT));
    assert_eq!(long.parse::<Vkey>(), Err(KeyError::Length));
}

#[test]
fn a_key_whose_parts_do_not_belong_together() {
    let id = SPEC_VKEY.replace("530d903a", "530d903b");
    assert_eq!(id.parse::<Ed25519Verifier>(), Err(KeyError::Id));
    let name = SPEC_VKEY.replace("foo", "bar");
    assert_eq!(name.parse::<Ed25519Verifier>(), Err(KeyError::Id));
    let key = SPEC_VKEY.replace("AekyeR", "AekyeS");
    assert_eq!(key.parse::<Ed25519Verifier>(), Err(KeyError::Id));
}

#[test]
fn weak_public_keys_and_wrong_lengths_are_refused() {
    // The neutral element, a point of order 4, and no point at all.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut none = [0; 32];
    none[0] = 2;
    for key in [neutral, [0; 32], none] {
        assert_eq!(Ed25519Verifier::new("name", &key), Err(KeyError::Material));
    }
    for length in [0, 31, 33] {
        let vkey = Vkey::new("name", ED25519, &vec![3; length]).unwrap();
        assert_eq!(Ed25519Verifier::try_from(&vkey), Err(KeyError::Material));
    }
}

#[test]
fn private_keys_are_read_back_and_never_shown() {
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let key = Ed25519Signer::generate("host/0011", &mut random).unwrap();
    let other = Ed25519Signer::generate("host/0011", &mut random).unwrap();
    assert_ne!(key.verifier(), other.verifier());
    let text = key.private_text();
    let read = Ed25519Signer::parse(&text).unwrap();
    assert_eq!(read.private_text(), text);
    assert_eq!(read.verifier(), key.verifier());
    assert_eq!(format!("{key:?}"), format!("Ed25519Signer(host/0011+{})", key.id()));

    let next = key.renamed("host/0011/gen/2").unwrap();
    assert_eq!(next.verifier().vkey().material(), key.verifier().vkey().material());
    assert_ne!(next.id(), key.id());
    assert!(matches!(key.renamed("a b"), Err(KeyError::Name)));
}

#[test]
fn texts_that_are_no_private_keys() {
    let good = signer("name").private_text();
    let refused = |text: &str| Ed25519Signer::parse(text).map(|_| ()).unwrap_err();
    assert_eq!(refused(""), KeyError::Private);
    assert_eq!(refused(&good.replace("PRIVATE", "private")), KeyError::Private);
    assert_eq!(refused(&good[..good.len() - 4]), KeyError::Private);
    assert_eq!(refused(&format!("{}\n", *good)), KeyError::Private);
    assert_eq!(refused(&good.replace("+name+", "+mane+")), KeyError::Id);
    assert_eq!(
        refused(&good.replace("+AQ", "+BQ")),
        KeyError::Kind { expected: 1, found: 5 }
    );
    assert_eq!(refused(SPEC_VKEY), KeyError::Private);
    assert_eq!(
        refused(&format!("PRIVATE+KEY+{}", "n".repeat(MAX_KEY_TEXT))),
        KeyError::Length
    );
}

#[test]
fn texts_that_are_no_notes() {
    let line = signature_line("text\n", &signer("a")).unwrap();
    let cases = [
        (String::new(), NoteError::Unsigned),
        ("text\n".to_owned(), NoteError::Unsigned),
        ("text\n\n".to_owned(), NoteError::Unsigned),
        (format!("text\n{line}"), NoteError::Unsigned),
        (format!("text\n\n{}", line.trim_end()), NoteError::Unsigned),
        (format!("text\n\n{line}\n"), NoteError::Unsigned),
        (format!("text\r\n\n{line}"), NoteError::Control),
        (format!("te\txt\n\n{line}"), NoteError::Control),
        (format!("text\n\n{line}x\n"), NoteError::Line { line: 2 }),
        (format!("text\n\n {line}"), NoteError::Line { line: 1 }),
        (
            format!("text\n\n{}", line.replace('\u{2014}', "-")),
            NoteError::Line { line: 1 },
        ),
        (
            format!("text\n\n{}", line.replace(" a ", "  ")),
            NoteError::Line { line: 1 },
        ),
        (
            format!("text\n\n{}", line.replace(" a ", " a+b ")),
            NoteError::Line { line: 1 },
        ),
        (
            format!("text\n\n{}", line.replace(" a ", " a b ")),
            NoteError::Line { line: 1 },
        ),
        (
            format!("text\n\n{}", line.replace('\n', " \n")),
            NoteError::Line { line: 1 },
        ),
        ("text\n\n\u{2014} a AAAAAA==\n".to_owned(), NoteError::Line { line: 1 }),
        ("text\n\n\u{2014} a AAAA\n".to_owned(), NoteError::Line { line: 1 }),
    ];
    for (note, error) in cases {
        assert_eq!(Note::parse(&note).map(|_| ()), Err(error), "{note:?}");
    }
}

#[test]
fn the_number_of_signatures_and_the_length_are_limited() {
    let line = signature_line("text\n", &signer("a")).unwrap();
    let most = format!("text\n\n{}", line.repeat(MAX_SIGNATURES));
    assert_eq!(Note::parse(&most).unwrap().signatures().len(), MAX_SIGNATURES);
    assert_eq!(Note::parse(&format!("{most}{line}")), Err(NoteError::Signatures));

    let pad = MAX_NOTE - line.len() - 2;
    let long = |pad: usize| format!("{}\n\n{line}", "x".repeat(pad));
    Note::parse(&long(pad)).unwrap();
    assert_eq!(Note::parse(&long(pad + 1)), Err(NoteError::Long));
}

#[test]
fn only_texts_that_can_be_read_back_are_signed() {
    let key = signer("a");
    assert_eq!(sign_note("text", &[&key]), Err(NoteError::Text));
    assert_eq!(sign_note("", &[&key]), Err(NoteError::Text));
    assert_eq!(sign_note("te\rxt\n", &[&key]), Err(NoteError::Control));
    assert_eq!(sign_note("text\n", &[]), Err(NoteError::Unsigned));
    let keys = vec![&key as &dyn Signer; MAX_SIGNATURES + 1];
    assert_eq!(sign_note("text\n", &keys), Err(NoteError::Signatures));
    assert_eq!(
        sign_note(&format!("{}\n", "x".repeat(MAX_NOTE)), &[&key]),
        Err(NoteError::Long)
    );
    for text in ["\n", "a\n", "a\n\n", "\n\n", "a\n\n\u{2014} a AAAAAAA=\n"] {
        let note = sign_note(text, &[&key]).unwrap();
        assert_eq!(Note::parse(&note).unwrap().text(), text);
    }
}

/// A key that would accept nothing.
struct Stranger(KeyId);

impl Verifier for Stranger {
    fn name(&self) -> &str {
        "stranger"
    }

    fn id(&self) -> KeyId {
        self.0
    }

    fn verify(&self, _text: &str, _signature: &[u8]) -> bool {
        false
    }
}

#[test]
fn unknown_keys_are_ignored_and_known_ones_must_be_right() {
    let (a, b) = (signer("a"), signer("b"));
    let note = sign_note("text\n", &[&a, &b]).unwrap();
    let (va, vb, vc) = (a.verifier(), b.verifier(), signer("c").verifier());
    let parsed = Note::parse(&note).unwrap();
    assert_eq!(parsed.verify(&[&va, &vc]).unwrap().len(), 1);
    assert_eq!(parsed.verify(&[&vc]), Err(NoteError::Unknown));
    assert_eq!(parsed.verify(&[]), Err(NoteError::Unknown));

    // A known key's signature over another text, beside a good one.
    let forged = format!(
        "{}{}",
        sign_note("text\n", &[&a]).unwrap(),
        signature_line("other\n", &b).unwrap()
    );
    let forged = Note::parse(&forged).unwrap();
    assert_eq!(forged.verify(&[&va]).unwrap().len(), 1);
    let error = forged.verify(&[&va, &vb]).unwrap_err();
    assert!(matches!(error, NoteError::Forged { name, id } if name == "b" && id == vb.id()));
    // Same id, other name, and the other way round: other keys.
    let stranger = Stranger(b.id());
    assert_eq!(forged.verify(&[&va, &stranger]).unwrap().len(), 1);
    let other = Ed25519Signer::from_seed("b", &[8; 32]).unwrap().verifier();
    assert_eq!(forged.verify(&[&va, &other]).unwrap().len(), 1);
}

#[test]
fn a_signature_has_one_encoding() {
    // S and S + L fit the same equation; only the smaller is a signature (RFC 8032 §5.1.7).
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let key = signer("a");
    let mut signature = key.sign("text\n");
    assert!(key.verifier().verify("text\n", &signature));
    let mut carry = 0;
    for (byte, l) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert!(!key.verifier().verify("text\n", &signature));
}

#[test]
fn texts_that_are_no_checkpoints() {
    let root = leaf_hash(b"").to_string();
    let cases = [
        (String::new(), CheckpointError::Origin),
        ("origin".to_owned(), CheckpointError::Origin),
        (format!("\n1\n{root}\n"), CheckpointError::Origin),
        ("origin\n".to_owned(), CheckpointError::Size),
        (format!("origin\n\n{root}\n"), CheckpointError::Size),
        (format!("origin\n01\n{root}\n"), CheckpointError::Size),
        (format!("origin\n-1\n{root}\n"), CheckpointError::Size),
        (format!("origin\n{}\n{root}\n", MAX_SIZE + 1), CheckpointError::Size),
        (format!("origin\n18446744073709551616\n{root}\n"), CheckpointError::Size),
        ("origin\n1\n".to_owned(), CheckpointError::Root),
        (format!("origin\n1\n{root}"), CheckpointError::Root),
        (format!("origin\n1\n{root}=\n"), CheckpointError::Root),
        (format!("origin\n1\n{}\n", &root[4..]), CheckpointError::Root),
        (format!("origin\n0\n{root}\n"), CheckpointError::EmptyRoot),
        (format!("origin\n1\n{root}\n\n"), CheckpointError::Extension),
        (format!("origin\n1\n{root}\na\n\nb\n"), CheckpointError::Extension),
        (format!("origin\n1\n{root}\na"), CheckpointError::Extension),
    ];
    for (text, error) in cases {
        assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
    }
    for text in [
        format!("origin\n1\n{root}\n"),
        format!("origin\n0\n{EMPTY_ROOT}\n"),
        format!("an origin + a space\n{MAX_SIZE}\n{root}\n"),
        format!("origin\n1\n{root}\nextension\nanother one\n"),
    ] {
        assert_eq!(Checkpoint::parse(&text).unwrap().to_string(), text);
    }
}

#[test]
fn a_checkpoint_that_could_not_be_read_is_not_made() {
    let head = TreeHead {
        size: 1,
        root: leaf_hash(b""),
    };
    for origin in ["", "a\nb", "a\rb"] {
        assert_eq!(Checkpoint::new(origin, head), Err(CheckpointError::Origin));
    }
    let size = MAX_SIZE + 1;
    assert_eq!(
        Checkpoint::new("a", TreeHead { size, ..head }),
        Err(CheckpointError::Size)
    );
    assert_eq!(
        Checkpoint::new("a", TreeHead { size: 0, ..head }),
        Err(CheckpointError::EmptyRoot)
    );
    for extension in ["", "a\nb", "a\u{1}"] {
        let made = Checkpoint::with_extensions("a", head, vec![extension.to_owned()]);
        assert_eq!(made, Err(CheckpointError::Extension));
    }
    // The origin is fine, but no key can have it as a name.
    let signed = Checkpoint::new("a b", head).unwrap().sign(&[&signer("a")]).unwrap();
    assert!(Note::parse(&signed).is_ok());
}

#[test]
fn checkpoints_of_one_file_are_told_apart() {
    let unwitnessed: String = WITNESSED.split_inclusive('\n').take(5).collect();
    let torn = &WITNESSED[..WITNESSED.len() - 1];
    let file = format!("{WITNESSED}{unwitnessed}{unwitnessed}{torn}");
    let parts: Vec<_> = split_checkpoints(&file).collect();
    assert_eq!(parts, [WITNESSED, &unwitnessed, &unwitnessed, torn]);
    let log: Ed25519Verifier = LOG_VKEY.parse().unwrap();
    let opened = parts.iter().map(|part| Checkpoint::open(part, &[&log]).is_ok());
    assert_eq!(opened.collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(split_checkpoints("").count(), 0);
    // Without signatures they are told apart as well, and none is believed.
    assert_eq!(split_checkpoints("a\n\nb\n\n").collect::<Vec<_>>(), ["a\n\n", "b\n\n"]);
    assert_eq!(split_checkpoints("\n\n").collect::<Vec<_>>(), ["\n", "\n"]);
}

#[test]
fn a_checkpoint_is_opened_by_its_own_logs_key_only() {
    let head = TreeHead {
        size: 1,
        root: leaf_hash(b""),
    };
    let (ours, theirs) = (signer("ours"), signer("theirs"));
    let foreign = Checkpoint::new("ours", head).unwrap().sign(&[&theirs]).unwrap();
    let origin = "ours".to_owned();
    let (v_ours, v_theirs) = (ours.verifier(), theirs.verifier());
    assert_eq!(
        Checkpoint::open(&foreign, &[&v_theirs]),
        Err(CheckpointError::Foreign { origin })
    );
    assert_eq!(
        Checkpoint::open(&foreign, &[&v_ours]),
        Err(CheckpointError::Note(NoteError::Unknown))
    );

    // While a key is replaced both sign; either is enough.
    let newer = Ed25519Signer::from_seed("ours", &[8; 32]).unwrap();
    let both = Checkpoint::new("ours", head).unwrap().sign(&[&ours, &newer]).unwrap();
    let v_newer = newer.verifier();
    for known in [&v_ours, &v_newer] {
        assert_eq!(Checkpoint::open(&both, &[&v_theirs, known]).unwrap().head(), head);
    }
    // A note that is signed but is no checkpoint.
    let v_spec: Ed25519Verifier = SPEC_VKEY.parse().unwrap();
    assert_eq!(Checkpoint::open(SPEC_NOTE, &[&v_spec]), Err(CheckpointError::Size));
    // A log whose key is known, with the seed that everybody knows.
    let log = Ed25519Signer::from_seed("audit.example.com/store/host-a", &LOG_SEED).unwrap();
    assert!(Checkpoint::open(WITNESSED, &[&log.verifier()]).is_ok());
}
