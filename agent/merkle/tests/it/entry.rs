//! What the fuzz targets run, and `arbitrary` with bounded random bytes. Each
//! function panics if a promise is broken, and only then.

use std::convert::Infallible;

use auditmon_merkle::{
    Checkpoint, Ed25519Signer, Ed25519Verifier, EventProof, Frontier, Hash, MAX_SIZE, NodeId, NodeReader, Note,
    TILE_BYTES, TileId, TileNodes, TileReader, Tiler, TlogProof, TreeHead, Vkey, event_proof, node_hash,
    prove_consistency, prove_inclusion, split_checkpoints, verify_consistency, verify_inclusion,
};

/// A key that has signed none of what arrives here.
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

/// Keys: what is read is written again.
pub fn keys(text: &str) {
    if let Ok(key) = text.parse::<Vkey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<Ed25519Verifier>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = Ed25519Signer::parse(text) {
        assert_eq!(key.private_text().as_str(), text);
    }
}

/// A note: its parts are all of it.
pub fn note(text: &str) {
    if let Ok(note) = Note::parse(text) {
        let lines = text.strip_prefix(note.text()).and_then(|rest| rest.strip_prefix('\n'));
        assert_eq!(lines.map(|lines| lines.lines().count()), Some(note.signatures().len()));
        let key: Result<Ed25519Verifier, _> = VKEY.parse();
        assert!(key.is_ok_and(|key| note.verify(&[&key]).is_err() || note.text() == "This is an example message.\n"));
    }
}

/// A checkpoint's text, a signed one, and a file of them: what is read is written again.
pub fn checkpoint(text: &str) {
    for text in [Some(text), Note::parse(text).ok().map(|note| note.text())]
        .into_iter()
        .flatten()
    {
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            assert_eq!(checkpoint.to_string(), text);
        }
    }
    assert_eq!(split_checkpoints(text).collect::<String>(), text);
    assert!(split_checkpoints(text).all(|part| !part.is_empty()));
}

/// A proof for any log: what is read is written again, and not believed.
pub fn tlog_proof(text: &str) {
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        assert!(proof.verify(&[0; 32].into(), &[]).is_err());
    }
}

/// A file of proofs of events: likewise.
pub fn event_proofs(text: &str) {
    let mut length = 0;
    for part in event_proof::split(text) {
        length += part.len() + "---\n".len();
        if let Ok(proof) = EventProof::parse(part) {
            assert_eq!(proof.to_string(), part);
            assert!(proof.verify(&[]).is_err());
        }
    }
    assert_eq!(length, text.len() + "---\n".len());
}

/// A tile's path: what is read is written again, and lies in the largest tree.
pub fn tile(text: &str) {
    if let Ok(tile) = text.parse::<TileId>() {
        assert_eq!(tile.to_string(), text);
        assert!(tile.leaves().end <= MAX_SIZE);
        assert!((32..=TILE_BYTES).contains(&tile.bytes()));
    }
}

/// A frontier: what is read is written again, and can be used.
pub fn frontier(bytes: &[u8]) {
    if let Some(mut tree) = Frontier::decode(bytes) {
        assert_eq!(tree.encode(), bytes);
        let full = tree.size() == MAX_SIZE;
        let _ = tree.root();
        assert_eq!(tree.push([0; 32].into()).is_err(), full);
    }
}

/// Takes a number and then hashes off the bytes; verifies them as proofs, and
/// makes proofs of a tree whose leaves are alike, which must hold.
pub fn proofs(bytes: &[u8]) {
    let mut rest = bytes;
    let mut number = || {
        let (head, behind) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        rest = behind;
        u64::from_be_bytes(*head)
    };
    let (a, b) = (number(), number());
    let proof: Vec<Hash> = rest.as_chunks().0.iter().map(|bytes| Hash::from(*bytes)).collect();
    let root = proof.last().copied().unwrap_or_else(|| [0; 32].into());
    let head = |size| TreeHead { size, root };
    if verify_inclusion(&root, a, &proof, &head(b)).is_ok() {
        assert!(a < b && b == 1);
    }
    if verify_consistency(&head(a), &head(b), &proof).is_ok() {
        assert!(a <= b && b <= MAX_SIZE);
    }

    let mut alike = Alike::new();
    if let Ok(proof) = prove_inclusion(&mut alike, a, b) {
        assert_eq!(verify_inclusion(&alike.0[0], a, &proof, &alike.head(b)), Ok(()));
        let tiles = TileNodes::new(&mut alike, b);
        assert!(tiles.is_ok_and(|mut tiles| prove_inclusion(&mut tiles, a, b).is_ok_and(|same| same == proof)));
    }
    if let Ok(proof) = prove_consistency(&mut alike, a, b) {
        assert_eq!(verify_consistency(&alike.head(a), &alike.head(b), &proof), Ok(()));
    }
}

/// The hash of each level of a tree whose leaves are alike.
struct Alike(Vec<Hash>);

impl Alike {
    fn new() -> Self {
        let mut levels = vec![Hash::from([7; 32])];
        for level in 0..63 {
            levels.push(node_hash(&levels[level], &levels[level]));
        }
        Self(levels)
    }

    fn head(&self, size: u64) -> TreeHead {
        let mut bytes = size.to_be_bytes().to_vec();
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            bytes.extend_from_slice(self.0[level].as_bytes());
        }
        Frontier::decode(&bytes).map_or_else(|| Frontier::new().head(), |tree| tree.head())
    }
}

impl NodeReader for Alike {
    type Error = Infallible;

    fn node(&mut self, node: NodeId) -> Result<Hash, Infallible> {
        Ok(self.0[usize::from(node.level())])
    }
}

impl TileReader for Alike {
    type Error = Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        let hash = self.0[usize::from(tile.level()) * 8];
        Ok(Some(hash.as_bytes().repeat(tile.width().into())))
    }
}

/// A size and tiles of any bytes: a tree that can be grown, or a reason.
pub fn resume(bytes: &[u8]) {
    let (size, rest) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let size = u64::from_be_bytes(*size);
    if let Ok(mut tree) = Tiler::resume(size, &mut Any(rest)) {
        assert_eq!(tree.size(), size);
        for _ in 0..3 {
            let full = tree.size() == MAX_SIZE;
            assert_eq!(tree.push([0; 32].into()).is_err(), full);
            let _ = (tree.filled().count(), tree.partials().count(), tree.root());
        }
    }
}

/// Gives the same bytes as every tile, or none.
struct Any<'a>(&'a [u8]);

impl TileReader for Any<'_> {
    type Error = Infallible;

    fn read(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok((tile.index() % 3 < 2 || tile.is_full()).then(|| self.0.to_vec()))
    }
}
