//! Golden vectors: published ones, those of this project's references, and the journal's.

use std::collections::HashMap;

use auditmon_merkle::{
    Checkpoint, Ed25519Signer, Ed25519Verifier, EventProof, Frontier, Hash, Note, TileNodes, TileReader, Tiler,
    TlogProof, TreeHead, Verifier as _, event_proof, leaf_hash, prove_consistency, prove_inclusion, sign_note,
    verify_consistency,
};
use serde_json::Value;

use crate::naive::{Leaves, Read, Tree as _};

/// Leaves of the Certificate Transparency test tree.
const CT_LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Its roots for sizes 0–8.
const CT_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

const CT_CONSISTENCY_3_7: [&str; 4] = [
    "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
    "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e",
];

/// Checkpoint of that tree at size 7, with a witness's line below.
pub const WITNESSED: &str = "\
audit.example.com/store/host-a
7
3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw=

\u{2014} audit.example.com/store/host-a 32Kc3TPOzBC1vSf+yD45swH4TVrmWI+6Rw1lrpYODblIX8PMxvgBarIjlQGF6EWxhtpzcWGhX6cRRjVnVAszezQlDAY=
\u{2014} audit.example.com/witness/host-b w13jFwAAAABpVbkAafTFxe7o1ToSthrOyINILcEt0nFj2nDVBYwr/7XBaTBc9SKDPULwTVImlJBSRxJ2HCpaZXzo4aih3u4D3n40Bg==
";
pub const LOG_VKEY: &str = "audit.example.com/store/host-a+df629cdd+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
pub const WITNESS_VKEY: &str = "audit.example.com/witness/host-b+c35de317+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
pub const LOG_SEED: [u8; 32] = [1; 32];

/// The note in C2SP signed-note, "Example".
pub const SPEC_NOTE: &str = "\
This is an example message.

\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
";
pub const SPEC_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

pub fn journal() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/journal-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn hash(hex: &str) -> Hash {
    <[u8; 32]>::try_from(hex::decode(hex).unwrap()).unwrap().into()
}

fn ct_leaves() -> Leaves {
    Leaves(CT_LEAVES.map(|leaf| hex::decode(leaf).unwrap()).to_vec())
}

#[test]
fn roots_of_the_certificate_transparency_tree() {
    let mut tree = Frontier::new();
    assert_eq!(tree.root(), hash(CT_ROOTS[0]));
    for (leaf, root) in CT_LEAVES.iter().zip(&CT_ROOTS[1..]) {
        tree.push(leaf_hash(&hex::decode(leaf).unwrap())).unwrap();
        assert_eq!(tree.root(), hash(root), "size {}", tree.size());
    }
}

#[test]
fn consistency_of_the_certificate_transparency_tree() {
    let expected = CT_CONSISTENCY_3_7.map(hash);
    let mut leaves = ct_leaves();
    let proof = prove_consistency(&mut Read::new(&mut leaves), 3, 7).unwrap();
    assert_eq!(proof, expected);
    let head = |size: usize| TreeHead {
        size: size as u64,
        root: hash(CT_ROOTS[size]),
    };
    verify_consistency(&head(3), &head(7), &expected).unwrap();
}

#[test]
fn the_specifications_note_is_verified_by_its_key() {
    let key: Ed25519Verifier = SPEC_VKEY.parse().unwrap();
    assert_eq!(key.to_string(), SPEC_VKEY);
    let note = Note::parse(SPEC_NOTE).unwrap();
    assert_eq!(note.text(), "This is an example message.\n");
    let verified = note.verify(&[&key]).unwrap();
    assert_eq!(verified.len(), 1);
    assert_eq!((verified[0].name, verified[0].id), (key.name(), key.id()));
}

#[test]
fn our_checkpoint_is_signed_and_opened_as_written() {
    let signer = Ed25519Signer::from_seed("audit.example.com/store/host-a", &LOG_SEED).unwrap();
    assert_eq!(signer.verifier().to_string(), LOG_VKEY);
    let mut tree = Frontier::new();
    ct_leaves().hashes().take(7).for_each(|leaf| tree.push(leaf).unwrap());
    let checkpoint = Checkpoint::new("audit.example.com/store/host-a", tree.head()).unwrap();
    let note = checkpoint.sign(&[&signer]).unwrap();
    let unwitnessed: String = WITNESSED.split_inclusive('\n').take(5).collect();
    assert_eq!(note, unwitnessed);

    let log: Ed25519Verifier = LOG_VKEY.parse().unwrap();
    assert_eq!(Checkpoint::open(WITNESSED, &[&log]), Ok(checkpoint));
}

/// Tiles of a journal in memory.
struct Tiles(HashMap<String, Vec<u8>>);

impl TileReader for Tiles {
    type Error = std::convert::Infallible;

    fn read(&mut self, tile: auditmon_merkle::TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(&tile.to_string()).cloned())
    }
}

#[test]
fn the_journals_roots_checkpoint_and_proof_are_made_to_the_byte() {
    let vectors = journal();
    let records = vectors["records"].as_array().unwrap();
    let roots = vectors["roots"].as_array().unwrap();
    let mut tree = Tiler::new();
    assert_eq!(tree.root(), hash(text(&roots[0])));
    for (record, root) in records.iter().zip(&roots[1..]) {
        let leaf = leaf_hash(&hex::decode(text(&record["leaf"])).unwrap());
        assert_eq!(leaf, hash(text(&record["leaf_hash"])));
        tree.push(leaf).unwrap();
        assert_eq!(tree.root(), hash(text(root)));
    }
    assert_eq!(tree.size(), 4);

    let origin = text(&vectors["origin"]);
    let seed: [u8; 32] = hex::decode(text(&vectors["log_key_seed"])).unwrap().try_into().unwrap();
    let signer = Ed25519Signer::from_seed(origin, &seed).unwrap();
    assert_eq!(signer.verifier().to_string(), text(&vectors["vkey"]));
    let checkpoint = Checkpoint::new(origin, tree.head()).unwrap().sign(&[&signer]).unwrap();
    assert_eq!(checkpoint, text(&vectors["checkpoint"]));

    let tiles = tree
        .partials()
        .map(|(tile, bytes)| (tile.to_string(), bytes.to_vec()))
        .collect();
    let mut nodes = TileNodes::new(Tiles(tiles), 4).unwrap();
    let path = prove_inclusion(&mut nodes, 1, 4).unwrap();
    let record = &records[1];
    let field = |name: &str| hex::decode(text(&record[name])).unwrap();
    let proof = EventProof::new(
        field("payload_hex"),
        field("salt").try_into().unwrap(),
        field("leaf").try_into().unwrap(),
        TlogProof::new(1, path, &checkpoint).unwrap(),
    );
    assert_eq!(proof.unwrap().to_string(), text(&vectors["proof_of_seq_1"]));
}

#[test]
fn the_journals_proof_is_verified_by_its_key_alone() {
    let vectors = journal();
    let key: Ed25519Verifier = text(&vectors["vkey"]).parse().unwrap();
    let proof = EventProof::parse(text(&vectors["proof_of_seq_1"])).unwrap();
    let proven = proof.verify(&[&key]).unwrap();
    assert_eq!(proven.event, text(&vectors["records"][1]["payload"]));
    assert_eq!(proven.seq, 1);
    assert_eq!(proven.received_ns, 1_767_225_600_000_000_002);
    assert_eq!(proven.checkpoint.origin(), text(&vectors["origin"]));
    assert_eq!(proven.checkpoint.head().size, 4);
    assert_eq!(proven.checkpoint.head().root, hash(text(&vectors["roots"][4])));
}

#[test]
fn proofs_of_one_file_are_split_where_they_were_joined() {
    let vectors = journal();
    let text = text(&vectors["proof_of_seq_1"]);
    let proof = EventProof::parse(text).unwrap();
    let file = event_proof::join([&proof, &proof, &proof]);
    assert_eq!(file, format!("{text}---\n{text}---\n{text}"));
    assert_eq!(event_proof::split(&file).collect::<Vec<_>>(), [text, text, text]);
    assert_eq!(event_proof::split(text).collect::<Vec<_>>(), [text]);
    assert_eq!(event_proof::split("").collect::<Vec<_>>(), [""]);
    assert_eq!(event_proof::split("a\n---\n").collect::<Vec<_>>(), ["a\n", ""]);
}

#[test]
fn the_naive_tree_has_the_published_roots_and_proof() {
    let mut leaves = ct_leaves();
    for (size, root) in CT_ROOTS.iter().enumerate() {
        assert_eq!(Hash::from(leaves.mth(0, size as u64)), hash(root));
    }
    assert_eq!(leaves.proof(3, 7), CT_CONSISTENCY_3_7.map(hash));
}

#[test]
fn a_signed_note_is_its_text_a_blank_line_and_a_line_a_key() {
    let one = Ed25519Signer::from_seed("one", &[1; 32]).unwrap();
    let two = Ed25519Signer::from_seed("two", &[2; 32]).unwrap();
    let note = sign_note("a\n\nb\n", &[&one, &two]).unwrap();
    let lines: Vec<_> = note.lines().collect();
    assert_eq!(lines[..4], ["a", "", "b", ""]);
    assert!(lines[4].starts_with("\u{2014} one ") && lines[5].starts_with("\u{2014} two "));
    assert_eq!(lines.len(), 6);
    let (one, two) = (one.verifier(), two.verifier());
    let note = Note::parse(&note).unwrap();
    assert_eq!(note.text(), "a\n\nb\n");
    assert_eq!(note.verify(&[&two, &one]).unwrap().len(), 2);
}
