//! Where files lie in the data directory, and what their names say.

use std::path::{Path, PathBuf};

use auditmon_merkle::TileId;

/// File of the newest signed checkpoint, in a generation's directory.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Beyond that no journal comes.
pub(crate) const MAX_SEQ: u64 = (1 << 62) - 1;
/// Says that somebody accepted the generation, and why.
pub(crate) const ACCEPTED: &str = "accepted";
/// Which generation it took the place of, and why.
pub(crate) const FORMER: &str = "former";
/// File of the older ones.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Names of one generation's files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
    generation: u32,
}

/// A file in a generation's `seg` directory.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum SegFile {
    /// A segment, by its first seq.
    Seg(u64),
    /// Leaves of a sealed segment, by its first seq.
    Leaf(u64),
    /// Hashes over the leaves of a collapsed segment, by its first seq.
    Sub(u64),
    /// Something that a crash left half-made.
    New,
}

impl Layout {
    pub(crate) fn new(dir: &Path, generation: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            generation,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The same directory's names of another generation.
    pub(crate) fn of(&self, generation: u32) -> Self {
        Self::new(&self.dir, generation)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(crate) fn generation_dir(&self) -> PathBuf {
        self.journal().join(self.generation.to_string())
    }

    pub(crate) fn seg_dir(&self) -> PathBuf {
        self.generation_dir().join("seg")
    }

    pub(crate) fn seg(&self, first_seq: u64) -> PathBuf {
        self.seg_dir().join(format!("{first_seq:020}.seg"))
    }

    /// A segment before it gets its name.
    pub(crate) fn seg_new(&self, first_seq: u64) -> PathBuf {
        self.seg_dir().join(format!("{first_seq:020}.seg.new"))
    }

    pub(crate) fn leaf_name(first_seq: u64) -> String {
        format!("{first_seq:020}.leaf")
    }

    pub(crate) fn leaf(&self, first_seq: u64) -> PathBuf {
        self.seg_dir().join(Self::leaf_name(first_seq))
    }

    pub(crate) fn sub_name(first_seq: u64) -> String {
        format!("{first_seq:020}.sub")
    }

    pub(crate) fn sub(&self, first_seq: u64) -> PathBuf {
        self.seg_dir().join(Self::sub_name(first_seq))
    }

    /// A tile, by its C2SP path.
    pub(crate) fn tile(&self, tile: TileId) -> PathBuf {
        self.generation_dir().join(tile.to_string())
    }

    /// The newest signed checkpoint.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.generation_dir().join(CHECKPOINT)
    }

    /// Those that were signed before it.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.generation_dir().join(CHECKPOINTS)
    }

    /// Why it was accepted that this generation took the place of another.
    pub(crate) fn accepted(&self) -> PathBuf {
        self.generation_dir().join(ACCEPTED)
    }

    /// Which generation this one took the place of.
    pub(crate) fn former(&self) -> PathBuf {
        self.generation_dir().join(FORMER)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    pub(crate) fn positions(&self) -> PathBuf {
        self.dir.join("positions")
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// What a name in `seg` stands for; `None` if it is none of ours.
    pub(crate) fn parse_seg(name: &str) -> Option<SegFile> {
        if name.ends_with(".new") {
            return Some(SegFile::New);
        }
        let (digits, extension) = name.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // Beyond that no journal comes, and numbers behind it must not wrap.
        let first_seq = digits.parse().ok().filter(|seq| *seq <= MAX_SEQ)?;
        match extension {
            "seg" => Some(SegFile::Seg(first_seq)),
            "leaf" => Some(SegFile::Leaf(first_seq)),
            "sub" => Some(SegFile::Sub(first_seq)),
            _ => None,
        }
    }

    /// The number of a generation's directory, `None` if it is another name.
    pub(crate) fn parse_generation(name: &str) -> Option<u32> {
        let number = name.parse().ok()?;
        (number > 0 && name == format!("{number}")).then_some(number)
    }
}

/// What stands before a generation's number in an origin.
pub(crate) const GENERATION: &str = "/gen/";

/// The origin of the first generation, and the number of this one.
pub(crate) fn generation_of(origin: &str) -> Option<(&str, u32)> {
    match origin.split_once(GENERATION) {
        Some((base, number)) => number.parse().ok().map(|number| (base, number)),
        None => Some((origin, 1)),
    }
}

/// Whether an origin is that of an earlier generation of the same journal.
pub(crate) fn is_former(origin: &str, current: &str) -> bool {
    match (generation_of(origin), generation_of(current)) {
        (Some((base, number)), Some((other, current))) => base == other && number < current,
        _ => false,
    }
}

/// The origin of a generation: the text of `journal/origin`, and from the
/// second on `/gen/N`.
pub(crate) fn generation_origin(origin: &str, generation: u32) -> String {
    if generation <= 1 {
        origin.to_owned()
    } else {
        format!("{origin}{GENERATION}{generation}")
    }
}

/// Origins that the generations before the one with this origin have, whether there are any files of them or not; the
/// newest first.
pub fn origins_before(origin: &str) -> impl Iterator<Item = String> {
    let (base, number) = generation_of(origin).unwrap_or((origin, 1));
    (1..number).rev().map(move |number| generation_origin(base, number))
}
