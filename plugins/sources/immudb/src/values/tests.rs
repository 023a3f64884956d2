use immudb_verify::{EMPTY, Hash, HeaderVersion, Tree};

use super::*;

const NOW: Nanos = 1_700_000_000_000_000_000;

fn stored(key: &[u8], value: &[u8]) -> proto::TxEntry {
    proto::TxEntry {
        key: key.to_vec(),
        h_value: Hash::of(value).as_bytes().to_vec(),
        v_len: value.len() as i32,
        metadata: None,
        value: value.to_vec(),
    }
}

fn expiring(key: &[u8], seconds: i64) -> proto::TxEntry {
    let expires_at = NOW as i64 / 1_000_000_000 + seconds;
    proto::TxEntry {
        metadata: Some(proto::KvMetadata {
            expiration: Some(proto::Expiration { expires_at }),
            ..proto::KvMetadata::default()
        }),
        ..stored(key, b"\0x")
    }
}

/// Header of a first transaction with these entries.
fn header(entries: &[proto::TxEntry]) -> TxHeader {
    let mut tree = Tree::new();
    for entry in entries {
        tree.push(wire::tx_entry(entry).digest(HeaderVersion::V1).unwrap().leaf());
    }
    let message = proto::TxHeader {
        id: 1,
        prev_alh: EMPTY.as_bytes().to_vec(),
        nentries: entries.len() as i32,
        eh: tree.root().as_bytes().to_vec(),
        bl_root: vec![0; 32],
        version: 1,
        ..proto::TxHeader::default()
    };
    TxHeader::new(&wire::header(&message)).unwrap()
}

fn judged(all: &[proto::TxEntry], with: Option<&[proto::TxEntry]>) -> Result<bool, (&'static str, Vec<Vec<u8>>)> {
    match transaction(&header(all), all, with, NOW) {
        Ok(given) => Ok(given.all),
        Err(Stop::Found(finding)) => {
            assert_eq!(finding.tx, Some(1));
            Err((finding.reason, finding.keys))
        }
        Err(_) => panic!("no finding"),
    }
}

#[test]
fn values_are_held_to_their_entries() {
    let all = [stored(b"\0a", b"\0one"), stored(b"\0b", b"\0two"), stored(b"\0c", b"")];
    assert_eq!(judged(&all, Some(&all)), Ok(true));
    assert_eq!(judged(&all, None), Ok(false));
    assert_eq!(judged(&[], Some(&[])), Ok(true));

    let mut other = all.clone();
    other[1].value = b"\0twO".to_vec();
    assert_eq!(judged(&all, Some(&other)), Err(("value-hash", vec![b"\0b".to_vec()])));
    // Its length is part of what was set, too.
    let mut longer = all.clone();
    longer[1].v_len += 1;
    assert_eq!(
        judged(&longer, Some(&longer)),
        Err(("value-hash", vec![b"\0b".to_vec()]))
    );

    let lacking = [all[0].clone(), all[2].clone()];
    assert_eq!(
        judged(&all, Some(&lacking)),
        Err(("value-withheld", vec![b"\0b".to_vec()]))
    );
    let more = [&all[..], &[stored(b"\0d", b"\0four")]].concat();
    assert_eq!(judged(&all, Some(&more)), Err(("value-surplus", vec![b"\0d".to_vec()])));

    // Of a server that gives none: only those that are empty count as given.
    let without = all.clone().map(|entry| proto::TxEntry {
        value: Vec::new(),
        ..entry
    });
    assert_eq!(judged(&all, Some(&without)), Ok(false));
    assert_eq!(judged(&all[2..], Some(&without[2..])), Ok(true));
}

/// One that gives values blanks none: in the same page, or in one before.
#[test]
fn a_blank_value_beside_others_is_damaged() {
    let all = [stored(b"\0a", b"\0one"), stored(b"\0b", b"\0two")];
    let header = header(&all);
    let state = State {
        tx: header.id(),
        alh: header.alh(),
    };
    let mut message = proto::TxHeader {
        id: 1,
        prev_alh: EMPTY.as_bytes().to_vec(),
        nentries: 2,
        bl_root: vec![0; 32],
        version: 1,
        ..proto::TxHeader::default()
    };
    message.eh = header.eh().as_bytes().to_vec();
    let page = |blank: &[usize]| {
        let mut entries = all.clone();
        for at in blank {
            entries[*at].value.clear();
        }
        let tx = proto::FullTx {
            header: Some(message.clone()),
            entries: entries.iter().map(proto::TxEntry::encode_to_vec).collect(),
        };
        Page {
            txs: vec![tx],
            whole: None,
        }
    };
    let judged = |blank: &[usize], gives| {
        let down = Descent::new(state, 0);
        match check(&down, &page(blank), (Ask::Values, gives), NOW) {
            Ok(sound) => Ok((sound.gives, sound.not_given)),
            Err(Stop::Found(finding)) => Err((finding.reason, finding.tx, finding.keys)),
            Err(_) => panic!("no finding"),
        }
    };
    assert_eq!(judged(&[], false), Ok((true, 0)));
    assert_eq!(judged(&[0, 1], false), Ok((false, 1)));
    let found = |keys: &[&[u8]]| Err(("value-hash", Some(1), keys.iter().map(|key| key.to_vec()).collect()));
    assert_eq!(judged(&[1], false), found(&[b"\0b"]));
    assert_eq!(judged(&[0, 1], true), found(&[b"\0a", b"\0b"]));
}

#[test]
fn what_a_server_may_leave_out() {
    let all = [
        stored(b"\0a", b"\0one"),
        stored(b"\x03document", b"x"),
        expiring(b"\0past", -1),
    ];
    assert_eq!(judged(&all, Some(&all[..1])), Ok(false));
    let all = [stored(b"\0a", b"\0one"), expiring(b"\0later", CLOCK + 1)];
    assert_eq!(
        judged(&all, Some(&all[..1])),
        Err(("value-withheld", vec![b"\0later".to_vec()]))
    );
}

#[test]
fn entries_are_held_to_the_header() {
    let all = [stored(b"\0a", b"\0one"), stored(b"\0b", b"\0two")];
    let header = header(&all);
    let mut other = all.clone();
    other[0].key = b"\0z".to_vec();
    for entries in [&all[..1], &other, &[all[1].clone(), all[0].clone()]] {
        let Err(Stop::Found(finding)) = transaction(&header, entries, None, NOW) else {
            panic!("taken");
        };
        assert_eq!((finding.code, finding.tx), (Code::Proof, Some(1)));
    }
}

/// Bytes of a server of version 1.0, where field 3 is an offset and field 4 a number.
#[test]
fn both_layouts_of_an_entry() {
    let hash = [7; 32];
    let old = [&[0x0a, 3][..], b"\0k1", &[0x12, 32], &hash, &[0x18, 99, 0x20, 2]].concat();
    let read = entry(&old).unwrap();
    assert_eq!(
        (&read.key[..], &read.h_value[..], read.v_len),
        (&b"\0k1"[..], &hash[..], 2)
    );
    let new = stored(b"\0k1", b"\0value");
    assert_eq!(entry(&new.encode_to_vec()).unwrap(), new);
    assert!(entry(&[0xff; 9]).is_err());
}
