//! Known answers: the protocol reference, appendix A.

use immudb_verify::export::{Exported, Layout, split_message};
use immudb_verify::{
    Alh, Hash, HeaderVersion, LeafIndex, Part, State, Tree, TreeSize, TxHeader, TxId, TxMetadata, leaf_hash,
    path_length, signed_bytes, verify_consistency, verify_inclusion, verify_last, wire,
};

use crate::naive;

fn d(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

#[test]
fn headers() {
    let (prev, eh, root) = (d("prev"), d("eh"), d("blroot"));
    let header = |version, metadata| wire::TxHeader {
        id: 2,
        prev_alh: prev.as_bytes(),
        ts: 1_609_459_200,
        nentries: 1,
        eh: eh.as_bytes(),
        bl_tx_id: 1,
        bl_root: root.as_bytes(),
        version,
        metadata,
    };
    let metadata = |truncated_tx_id, extra: &'static [u8]| Some(wire::TxMetadata { truncated_tx_id, extra });
    let cases = [
        (
            header(0, None),
            "",
            "86812b06f6f74a9c9d6380dafd4e8a6ebe3ba3e3ad38c8b01eb59eb91c6b83a6",
            "e9cb7bedd6b286e20583e8cac66ab5dd43574e68981feba30e37e45538789de3",
        ),
        (
            header(1, None),
            "",
            "5b9411feb79376f592f56e8a44bd58deeff85dcfa0c6fb4eac38a3666e6ed04d",
            "afde4f425e6feb2acb90ef4f9f5348f4b4b0af84a8b178b7354cf0c6dec83136",
        ),
        (
            header(1, metadata(7, &[])),
            "000000000000000007",
            "9e36cb926b1ce82560965d2eeace8453c8adcf4b7941ba56d23ff5946db952a0",
            "bf0833e3fedec9b6959ffda6ed38c09f81c92b348c7632de80a2fc069a9e353d",
        ),
        (
            header(1, metadata(0, &[1, 2])),
            "0100020102",
            "da66dc68f61d7568fc05f0dba917d19dbc98c9049db4f31d7ad1a7e8391ac7b9",
            "ea9ae63e49e057e45dfe0d474132aaa249b909adbf2cd6e6e3cb86f264add3ce",
        ),
        (
            header(1, metadata(7, &[1, 2])),
            "0000000000000000070100020102",
            "48ba6bef934d596abb2fe3986813c6796b4f99dcdbdc8fdfb64ea01ef91dfad5",
            "5315e6ed1ae8936d76c5541d4f14c0f8cdcd86831dd01446c6313b81b251bf87",
        ),
    ];
    for (received, bytes, inner, alh) in cases {
        let header = TxHeader::new(&received).unwrap();
        let mut encoded = Vec::new();
        header.metadata().encode(&mut encoded);
        assert_eq!(hex::encode(&encoded), bytes);
        assert_eq!(TxMetadata::decode(&encoded).as_ref(), Some(header.metadata()));
        assert_eq!(header.inner().to_string(), inner);
        assert_eq!(header.alh().to_string(), alh);
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        assert_eq!(TxHeader::decode(&encoded), Ok(header));
    }
}

#[test]
fn headers_that_could_share_a_hash_are_refused() {
    let good = wire::TxHeader {
        id: 2,
        prev_alh: &[1; 32],
        nentries: 1,
        eh: &[2; 32],
        bl_tx_id: 1,
        bl_root: &[3; 32],
        ..wire::TxHeader::default()
    };
    assert!(TxHeader::new(&good).is_ok());
    let extra = |extra| {
        Some(wire::TxMetadata {
            truncated_tx_id: 0,
            extra,
        })
    };
    let cases = [
        (wire::TxHeader { version: 2, ..good }, "header-version"),
        (wire::TxHeader { version: -1, ..good }, "header-version"),
        (
            wire::TxHeader {
                version: 65_537,
                ..good
            },
            "header-version",
        ),
        (
            wire::TxHeader {
                nentries: 65_537,
                ..good
            },
            "nentries",
        ),
        (wire::TxHeader { nentries: -1, ..good }, "nentries"),
        (
            wire::TxHeader {
                nentries: -1,
                version: 1,
                ..good
            },
            "nentries",
        ),
        (
            wire::TxHeader {
                metadata: extra(&[1]),
                ..good
            },
            "metadata-version",
        ),
        (
            wire::TxHeader {
                metadata: extra(&[1; 257]),
                version: 1,
                ..good
            },
            "extra-length",
        ),
        (wire::TxHeader { bl_tx_id: 2, ..good }, "tree-too-large"),
        (wire::TxHeader { bl_tx_id: 0, ..good }, "not-zero"),
        (wire::TxHeader { id: 0, ..good }, "tree-too-large"),
        (
            wire::TxHeader {
                prev_alh: &[1; 31],
                ..good
            },
            "digest-length",
        ),
        (wire::TxHeader { eh: &[1; 33], ..good }, "digest-length"),
        (wire::TxHeader { bl_root: &[], ..good }, "digest-length"),
    ];
    for (header, code) in cases {
        assert_eq!(TxHeader::new(&header).unwrap_err().code(), code);
    }
    let empty = wire::TxHeader {
        metadata: extra(&[]),
        ..good
    };
    assert_eq!(TxHeader::new(&empty), TxHeader::new(&good));
}

#[test]
fn entry_digests() {
    let h_value = hex::decode("9d0727eaa35cfb8038c15459141ba4199aa4a06cab03fb87656a99f4c6bd5beb").unwrap();
    let none = wire::KvMetadata::default();
    let deleted = wire::KvMetadata { deleted: true, ..none };
    let expires = wire::KvMetadata {
        expires_at: Some(1_700_000_000),
        ..none
    };
    let hidden = wire::KvMetadata {
        non_indexable: true,
        ..none
    };
    let all = wire::KvMetadata {
        deleted: true,
        non_indexable: true,
        ..expires
    };
    let cases = [
        (
            HeaderVersion::V0,
            none,
            "",
            "28d61cefcbb45af79114ff90fe1f22e6bbd0a84d85d79197553ef48e7d5c6553",
        ),
        (
            HeaderVersion::V1,
            none,
            "",
            "22914491419e2a9c34b012903287297600e90947b9869ac2042106fbf2c50f82",
        ),
        (
            HeaderVersion::V1,
            deleted,
            "00",
            "fc50e38db66f78fb45c9471ecf6d1cac15982dd0ede91d970f020d881b7eea18",
        ),
        (
            HeaderVersion::V1,
            expires,
            "01000000006553f100",
            "f7fe30cff61ca81198e2528d5687f2157a6d1855e80da5426087babc249a0e7e",
        ),
        (
            HeaderVersion::V1,
            hidden,
            "02",
            "6b608f6f9d61c715ad94c86f2b233fa0c12b57f96540f2699b547de724802343",
        ),
        (
            HeaderVersion::V1,
            all,
            "0001000000006553f10002",
            "458c927cc862c38b99691cac0d6c858c0d35887d316cd5ec8472f1a260b3e083",
        ),
    ];
    for (version, metadata, bytes, digest) in cases {
        let entry = wire::TxEntry {
            key: b"\x00k1",
            h_value: &h_value,
            v_len: 3,
            metadata: Some(metadata),
        };
        let (encoded, length) = metadata.encode();
        assert_eq!(hex::encode(&encoded[..length]), bytes);
        assert_eq!(wire::KvMetadata::decode(&encoded[..length]), Some(metadata));
        assert_eq!(entry.digest(version).unwrap().0.to_string(), digest);
        assert!(entry.verify_value(b"\x00v1").is_ok());
        if !metadata.is_empty() {
            assert_eq!(entry.digest(HeaderVersion::V0).unwrap_err().code(), "entry-metadata");
        }
    }
    let long = [0; 65_536];
    let entry = wire::TxEntry {
        key: &long,
        h_value: &h_value,
        ..wire::TxEntry::default()
    };
    assert_eq!(entry.digest(HeaderVersion::V1).unwrap_err().code(), "key-length");
    let zero = wire::KvMetadata {
        expires_at: Some(0),
        ..none
    };
    assert_eq!(zero.encode(), ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 9));
}

#[test]
fn trees() {
    let roots = |name: &str, count: usize, from: usize| {
        let mut tree = Tree::new();
        let mut roots = vec![tree.root().to_string()];
        for n in 0..count {
            tree.push(leaf_hash(&d(&format!("{name}{}", n + from))));
            assert_eq!(Tree::from_peaks(tree.size(), tree.peaks()).as_ref(), Ok(&tree));
            roots.push(tree.root().to_string());
        }
        roots
    };
    let entries = roots("e", 7, 0);
    for (n, root) in [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "1c941fb764b67604da3aa3e088b3e5804c2f9f647cce7e73b7bdd9e405b5927a"),
        (2, "789894cd1c3c0660f51b28e009b4dd79c665c8060a3b34bfbe95ab8fbc51b658"),
        (3, "fee878d2c6f4d29801c680602a38852f09a37a91b6f7a7183e69191bdbac835d"),
        (5, "ce1834a09f806e04b54e7a70faa7061084788af15a2186d036eec3c5730e702d"),
        (7, "dbbe28c05c993cb7bc95c9a924366152cd46591d2a0b9a1a4249dc33c9fd019b"),
    ] {
        assert_eq!(entries[n], root, "{n} entries");
    }
    let txs = roots("a", 9, 1);
    for (n, root) in [
        (1, "b0803b447bfdac73f0100d2439fe18c088e4175d7c63d2243cbb96c8a554d4b3"),
        (2, "6b880ae5c63a1dee1bc8c26d4a0f96e1442c875a2d024c98a6a8379f5806495f"),
        (3, "a4efacd25279d7592d962b3d39810f2d48542422269a85bd66c6a0f09a774e75"),
        (4, "8d82883a6c261fe31963ebb43ff1358420daea512825800188ddb4bf214eeeaf"),
        (5, "ad7e70639f3bff3f584cb9d2ca6e24ba4b55a035801e2fe78e4d8fe78b4a99f1"),
        (6, "65f0cc0c72a84571c5dc6eb9ed17a948044ca39c7bf3b2c8128320875da29ff1"),
        (7, "929566d8b36e6e3b6ff54a006bd07e996e117c69f6c97a93ac0bbd3fe4fb7efb"),
        (8, "a569052281e0735085824aa767fe8a162f79645832a85c562a6dda1cb229dc83"),
        (9, "b03f2ab78cd565916181884ffd375329569902a8e2142db8bfea93f49abe45e8"),
    ] {
        assert_eq!(txs[n], root, "{n} transactions");
    }
}

#[test]
fn path_lengths() {
    for (size, lengths) in [
        (1, &[0][..]),
        (2, &[1, 1]),
        (3, &[2, 2, 1]),
        (5, &[3, 3, 3, 3, 1]),
        (7, &[3, 3, 3, 3, 3, 3, 2]),
        (u64::MAX, &[64]),
    ] {
        for (leaf, length) in (0..).zip(lengths) {
            assert_eq!(
                path_length(LeafIndex(leaf), TreeSize(size)),
                *length,
                "{leaf} of {size}"
            );
        }
    }
}

#[test]
fn proofs_as_servers_make_them() {
    let alhs: Vec<[u8; 32]> = (1..=7).map(|n| *d(&format!("a{n}")).as_bytes()).collect();
    let starts = |proof: &[[u8; 32]]| {
        proof
            .iter()
            .map(|term| hex::encode(&term[..4]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let inclusion = |i: usize, n: usize| naive::inclusion(&alhs[..n], i - 1);
    let consistency = |i: usize, n: usize| naive::consistency(&alhs[..n], i);
    assert_eq!(starts(&inclusion(2, 5)), "b0803b44 e07d95cc 20f76dde");
    assert_eq!(starts(&inclusion(3, 7)), "96f47e6a 6b880ae5 c77fc06b");
    assert_eq!(starts(&inclusion(5, 5)), "8d82883a");
    assert_eq!(starts(&consistency(3, 7)), "b4e7e292 96f47e6a 6b880ae5 c77fc06b");
    assert_eq!(starts(&consistency(4, 7)), "8d82883a c77fc06b");
    assert_eq!(starts(&consistency(4, 4)), "e07d95cc 6b880ae5");
    assert_eq!(starts(&consistency(1, 1)), "");

    let root = |n: usize| Hash::from(naive::root(&alhs[..n]));
    let leaf = leaf_hash(&Hash::from(alhs[4]));
    let part = Part::InclusionProof;
    let at = |index: u64| verify_inclusion(part, &inclusion(5, 5), TxId(index).leaf(), TreeSize(5), leaf, &root(5));
    assert_eq!(at(5), Ok(()));
    for index in [0, 1, 2, 3, 4, 6] {
        assert!(at(index).is_err(), "{index}");
    }
    assert_eq!(verify_last(&inclusion(5, 5), TreeSize(5), leaf, &root(5)), Ok(()));
    let pair = |i: usize, n: usize| {
        verify_consistency(
            &consistency(i, n),
            (TreeSize(i as u64), &root(i)),
            (TreeSize(n as u64), &root(n)),
        )
    };
    for (i, n) in [(3, 7), (4, 7), (4, 4), (1, 1)] {
        assert_eq!(pair(i, n), Ok(()));
    }
}

#[test]
fn bytes_of_a_signature() {
    let state = State {
        tx: TxId(3),
        alh: Alh(d("state")),
    };
    let bytes = signed_bytes("defaultdb", &state);
    let expected = "0000000964656661756c7464620000000000000003\
                    4ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e";
    assert_eq!(hex::encode(&bytes), expected);
    let hash = "f315a8baf929c239a000777275c399ed681297565d4684622c3e10b91a8aac97";
    assert_eq!(Hash::of(&bytes).to_string(), hash);
}

#[test]
fn an_export_of_1_1() {
    let content = hex::decode(
        "000000000000008d0000007c0000000000000002720972ebfd3dd80a3d783de9715eb4a57b7168be55acf73b7c8dbc98\
         55ffba8b000000006b00bc9f0000000172b5c7986c22663fad9364ee4499d84fae069912ae5f790279db5abb650a41a9\
         0000000000000001cd55ca3dd194fb511d96dd50f4bc82ccffab8e9e28ab6ea59620085798ec2f010000000300000002\
         006b300076",
    )
    .unwrap();
    let (message, rest) = split_message(&content).unwrap();
    assert!(rest.is_empty());
    let exported = Exported::decode(message, Layout::UpTo1_1).unwrap();
    assert_eq!(exported.verify_entries(), Ok(()));
    assert_eq!(exported.header().tree_root(), exported.header().prev_alh().leaf());
    let entry = exported.entries().next().unwrap();
    assert_eq!((entry.key, entry.value), (&b"\x00k0"[..], &b"\x00v"[..]));
    for length in 0..message.len() {
        assert!(Exported::decode(&message[..length], Layout::UpTo1_1).is_err());
        assert!(split_message(&content[..length + 8]).is_none());
    }
    assert!(Exported::decode(&[message, &[0]].concat(), Layout::UpTo1_1).is_err());
}
