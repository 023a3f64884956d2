use immudb_verify::{Alh, Hash, TxId, signed_bytes};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature as Ecdsa, SigningKey};

use super::*;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from_point(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}

fn state(tx: u64, byte: u8) -> State {
    let alh = Alh(Hash::from([byte; 32]));
    State { tx: TxId(tx), alh }
}

fn signed(key: &SigningKey, state: &State) -> Signature {
    let signature: Ecdsa = key.sign(&signed_bytes("orders", state));
    Signature::new(signature.to_der().as_bytes(), &public(key).to_point()).unwrap()
}

/// Evidence on two states, each signed with a key.
fn evidence(one: (&State, u8), two: (&State, u8)) -> Evidence {
    let signatures = [one, two].map(|(state, byte)| signed(&key(byte), state));
    Evidence::new(
        ("text".to_owned(), serde_json::json!({"name": "db1"}), "orders"),
        &public(&key(1)),
        [("b/00", one.0, &signatures[0]), ("a/00", two.0, &signatures[1])],
        &Between::default(),
        "now".to_owned(),
    )
}

#[test]
fn two_signed_states_of_one_transaction_prove_it() {
    let (one, two) = (state(9, 1), state(9, 2));
    assert_eq!(evidence((&one, 1), (&two, 1)).verify(), Ok(public(&key(1))));
    for (wrong, says) in [
        (evidence((&one, 1), (&one, 1)), "of one history"),
        (evidence((&one, 2), (&two, 1)), "the state of transaction 9"),
        (evidence((&one, 1), (&two, 2)), "the state of transaction 9"),
        // Nobody says what the newer one has at 8.
        (evidence((&state(8, 1), 1), (&two, 1)), "no proof is about both"),
    ] {
        let error = wrong.verify().unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn nothing_of_it_can_be_changed() {
    let good = evidence((&state(9, 1), 1), (&state(9, 2), 1));
    let change = |change: fn(&mut Evidence)| {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(changed.verify().is_err(), "{changed:?}");
    };
    change(|evidence| evidence.database.push('2'));
    change(|evidence| evidence.format.push('1'));
    change(|evidence| evidence.public_key.replace_range(..2, "02"));
    change(|evidence| evidence.states[0].tx += 1);
    change(|evidence| evidence.states[1].hash.replace_range(..2, "03"));
    change(|evidence| evidence.states[1].signature.clear());
    change(|evidence| evidence.proof = Some("AA==".to_owned()));
    change(|evidence| evidence.proof = Some(String::new()));
}

#[test]
fn a_file_is_written_whole_and_read_by_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("below");
    let good = evidence((&state(9, 1), 1), (&state(9, 2), 1));
    let path = good.write(&place).unwrap();
    assert_eq!(good.write(&place).unwrap(), path);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    let proven = verify_evidence(&path, None).unwrap();
    let states = [(9, "01".repeat(32)), (9, "02".repeat(32))];
    assert_eq!((proven.database.as_str(), proven.states), ("orders", states));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&"02".repeat(32), &"03".repeat(32))).unwrap();
    assert!(verify_evidence(&path, None).unwrap_err().contains("transaction 9"));
    fs::write(&path, "{}").unwrap();
    assert!(verify_evidence(&path, None).unwrap_err().starts_with("is no evidence"));
    assert!(
        verify_evidence(&place.join("none"), None)
            .unwrap_err()
            .starts_with("can't be read")
    );
}
