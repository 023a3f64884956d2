//! Signatures: whose they are, and what is none.

use immudb_verify::{
    Alh, Class, EMPTY, Hash, KeyError, Keys, PublicKey, Signed, State, TxId, signed_bytes, verify_signature, wire,
};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use prost::Message;

use crate::proto;
use crate::recorded::files;

const DB: &str = "defaultdb";

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from_point(&point(key)).unwrap()
}

fn state(tx: u64) -> State {
    State {
        tx: TxId(tx),
        alh: Alh(Hash::of(b"state")),
    }
}

/// Signature in fixed length, and as it travels.
fn sign(key: &SigningKey, db: &str, state: &State) -> Signature {
    key.sign(&signed_bytes(db, state))
}

fn verdict(keys: Keys<'_>, key: &[u8], signature: &[u8]) -> Result<Signed, &'static str> {
    let received = wire::Signature {
        public_key: key,
        signature,
    };
    verify_signature(keys, DB, &state(3), Some(&received)).map_err(|reason| reason.code())
}

#[test]
fn recorded_states() {
    let (mut good, mut bad, mut empty) = (0, 0, 0);
    for file in files() {
        let Some(key) = file.key() else { continue };
        for call in file.calls.iter().filter(|call| call.method() == "CurrentState") {
            let answer = proto::ImmutableState::decode(call.answer().unwrap()).unwrap();
            let claimed = State::new(&answer.db, &answer.wire()).unwrap();
            let signature = answer.signature.as_ref().map(proto::Signature::wire);
            let found = verify_signature(Keys::Configured(&[key]), &answer.db, &claimed, signature.as_ref());
            let unknown = verify_signature(Keys::Unknown, &answer.db, &claimed, signature.as_ref()).unwrap();
            match found {
                Ok(signed) => {
                    assert_eq!((signed, unknown), (Signed::By(key), Signed::FirstSeen(key)));
                    good += 1;
                    empty += usize::from(claimed.is_empty());
                }
                Err(reason) => {
                    assert_eq!(reason.class(), Class::Signature);
                    let pinned = verify_signature(Keys::Pinned(&key), &answer.db, &claimed, signature.as_ref());
                    assert_eq!(pinned.unwrap_err().class(), Class::Identity);
                    bad += usize::from(call.expected.starts_with("tampered:signature"));
                    assert!(unknown == Signed::Unsigned || call.expected.starts_with("tampered:signature"));
                }
            }
        }
    }
    assert_eq!((good, bad, empty), (38, 12, 4));
}

#[test]
fn keys_known_and_unknown() {
    let (mine, other) = (signer(1), signer(2));
    let der = sign(&mine, DB, &state(3)).to_der();
    let (der, from) = (der.as_bytes(), &point(&mine));
    let (mine, other) = (public(&mine), public(&other));
    assert_eq!(
        verdict(Keys::Configured(&[other, mine]), from, der),
        Ok(Signed::By(mine))
    );
    assert_eq!(
        verdict(Keys::Configured(&[other]), from, der),
        Err("key-not-configured")
    );
    assert_eq!(verdict(Keys::Configured(&[]), from, der), Err("key-not-configured"));
    assert_eq!(verdict(Keys::Pinned(&mine), from, der), Ok(Signed::By(mine)));
    assert_eq!(verdict(Keys::Pinned(&other), from, der), Err("key-changed"));
    assert_eq!(verdict(Keys::Unknown, from, der), Ok(Signed::FirstSeen(mine)));
    // Another's key beside the signature.
    assert_eq!(
        verdict(Keys::Configured(&[mine, other]), &other.to_point(), der),
        Err("bad-signature")
    );
    assert_eq!(verdict(Keys::Unknown, &other.to_point(), der), Err("bad-signature"));
    assert_eq!(
        verdict(Keys::Pinned(&mine), &other.to_point(), der),
        Err("bad-signature")
    );

    let unsigned = |keys| verify_signature(keys, DB, &state(3), None).map_err(|reason| reason.code());
    let configured = [mine];
    assert_eq!(unsigned(Keys::Configured(&configured)), Err("unsigned"));
    assert_eq!(unsigned(Keys::Pinned(&mine)), Err("no-longer-signed"));
    assert_eq!(unsigned(Keys::Unknown), Ok(Signed::Unsigned));
}

#[test]
fn a_signature_is_of_one_state_of_one_database() {
    let key = signer(1);
    let mine = [public(&key)];
    for (db, tx) in [("defaultdb2", 3), ("", 3), (DB, 2), (DB, 4)] {
        let der = sign(&key, db, &state(tx)).to_der();
        assert_eq!(
            verdict(Keys::Configured(&mine), &point(&key), der.as_bytes()),
            Err("bad-signature")
        );
    }
    let other = State {
        alh: Alh(EMPTY),
        ..state(3)
    };
    let der = sign(&key, DB, &other).to_der();
    assert_eq!(
        verdict(Keys::Configured(&mine), &point(&key), der.as_bytes()),
        Err("bad-signature")
    );
}

/// DER of two numbers, whatever they are.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let mut bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        if bytes.first().is_none_or(|byte| *byte >= 0x80) {
            bytes.insert(0, 0);
        }
        [&[2, bytes.len() as u8], &bytes[..]].concat()
    };
    let body = [number(r), number(s)].concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// The other signature that the same r has: order - s.
fn other_half(s: &[u8]) -> Vec<u8> {
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    let mut out: Vec<u8> = order
        .iter()
        .zip(s)
        .rev()
        .map(|(a, b)| {
            let value = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(value < 0);
            value.rem_euclid(256) as u8
        })
        .collect();
    out.reverse();
    out
}

#[test]
fn forms_of_a_signature() {
    let key = signer(1);
    let mine = [public(&key)];
    let judge = |signature: &[u8]| verdict(Keys::Configured(&mine), &point(&key), signature);
    let fixed = sign(&key, DB, &state(3)).to_bytes();
    let (r, s) = fixed.split_at(32);
    assert_eq!(judge(&der(r, s)), Ok(Signed::By(mine[0])));
    assert_eq!(
        judge(&der(r, &other_half(s))),
        Ok(Signed::By(mine[0])),
        "both halves are valid"
    );
    assert_eq!(judge(&der(s, r)), Err("bad-signature"));
    let order = hex::decode(ORDER).unwrap();
    for (r, s) in [(&[][..], s), (r, &[]), (&order[..], s), (r, &order), (&[0xff; 32], s)] {
        assert_eq!(judge(&der(r, s)), Err("signature-form"));
    }
    let good = der(r, s);
    assert_eq!(judge(&[&good[..], &[0]].concat()), Err("signature-form"));
    assert_eq!(judge(&good[..good.len() - 1]), Err("signature-form"));
    assert_eq!(judge(&[]), Err("signature-form"));
    assert_eq!(judge(&fixed), Err("signature-form"));
    // A length in two bytes where one would do.
    let long = [&[0x30, 0x81], &good[1..]].concat();
    assert_eq!(judge(&long), Err("signature-form"));
    // A number with a zero too many.
    let mut padded = vec![0x30, good[1] + 1, 2, good[3] + 1, 0];
    padded.extend_from_slice(&good[4..]);
    assert_eq!(judge(&padded), Err("signature-form"));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[at] ^= 1 << bit;
            assert!(judge(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn forms_of_a_key() {
    let key = signer(1);
    let der = sign(&key, DB, &state(3)).to_der();
    let judge = |point: &[u8]| verdict(Keys::Unknown, point, der.as_bytes());
    let good = point(&key);
    assert!(judge(&good).is_ok());
    let compressed = key.verifying_key().to_sec1_point(true).as_bytes().to_vec();
    let mut off_curve = good.clone();
    off_curve[64] ^= 1;
    let mut hybrid = good.clone();
    hybrid[0] = 6;
    for bad in [
        &compressed[..],
        &off_curve,
        &hybrid,
        &good[..64],
        &[&good[..], &[0]].concat(),
        &[0],
        &[],
    ] {
        assert_eq!(judge(bad), Err("signature-form"), "{}", hex::encode(bad));
    }
}

/// Servers may sign with other curves: that is no forgery, as long as nobody is known to sign.
#[test]
fn keys_of_other_curves() {
    let key = signer(1);
    let der = sign(&key, DB, &state(3)).to_der();
    for length in [57, 97, 133] {
        let mut point = vec![7; length];
        point[0] = 4;
        let judge = |keys: Keys<'_>| verdict(keys, &point, der.as_bytes());
        assert_eq!(judge(Keys::Unknown), Err("curve"));
        assert_eq!(judge(Keys::Pinned(&public(&key))), Err("key-changed"));
        assert_eq!(judge(Keys::Configured(&[public(&key)])), Err("key-not-configured"));
        point[0] = 2;
        assert_eq!(verdict(Keys::Unknown, &point, der.as_bytes()), Err("signature-form"));
    }
    assert!(
        KeyError::NotP256
            .to_string()
            .contains("P-256 (prime256v1), the only one")
    );
}

#[test]
fn key_files() {
    let key = signer(1);
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    assert_eq!(PublicKey::from_pem(&pem), Ok(public(&key)));
    let around = format!("a remark\n{pem}-----BEGIN CERTIFICATE-----\n");
    assert_eq!(PublicKey::from_pem(&around), Ok(public(&key)));
    assert_eq!(PublicKey::from_pem(&pem.replace('\n', "\r\n")), Ok(public(&key)));
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    // Ed25519, and P-384 with its point left out.
    let ed25519 = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    let p384 = "MBAGByqGSM49AgEGBSuBBAAi";
    for (text, error) in [
        (String::new(), KeyError::NoPem),
        ("MFkwEwYHKoZIzj0CAQ==".to_owned(), KeyError::NoPem),
        (pem.replace("END", "FIN"), KeyError::NoPem),
        (block("EC PRIVATE KEY", "AAAA"), KeyError::OtherBlock),
        (block("PUBLIC KEY", ed25519), KeyError::NotP256),
        (block("PUBLIC KEY", p384), KeyError::NotP256),
        (block("PUBLIC KEY", "!"), KeyError::NotP256),
        ("x".repeat(65_537), KeyError::TooLong { found: 65_537 }),
    ] {
        assert_eq!(PublicKey::from_pem(&text), Err(error));
    }
}
