//! Reading a data directory without opening the journal, beside a running
//! agent too: which generations and segments there are.

use std::io;
use std::path::Path;

use crate::fs::{Fs, read_small};
use crate::layout::{Layout, SegFile, generation_origin};

/// One generation as it was found.
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) layout: Layout,
    pub(crate) origin: String,
    /// First seqs, ascending.
    pub(crate) segs: Vec<u64>,
    /// First seqs of leaf files, ascending.
    pub(crate) leaves: Vec<u64>,
}

impl Generation {
    /// Where the segment that begins at `first_seq` ends, `None` for the newest:
    /// where another one began, even if only its leaves are left.
    pub(crate) fn end_of(&self, first_seq: u64) -> Option<u64> {
        let segs = self.segs.iter().chain(&self.leaves);
        segs.copied().filter(|first| *first > first_seq).min()
    }
}

/// All generations, oldest first.
pub(crate) fn generations(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<Generation>> {
    let journal = Layout::new(dir, 1).journal();
    let origin = read_small(fs, &journal.join("origin"), 512)?;
    let origin = String::from_utf8_lossy(&origin);
    let mut numbers: Vec<u32> = fs
        .list(&journal)?
        .iter()
        .filter_map(|name| Layout::parse_generation(name))
        .collect();
    numbers.sort_unstable();
    let mut found = Vec::new();
    for number in numbers {
        let layout = Layout::new(dir, number);
        let mut generation = Generation {
            number,
            origin: generation_origin(origin.trim_end(), number),
            segs: Vec::new(),
            leaves: Vec::new(),
            layout,
        };
        for name in fs.list(&generation.layout.seg_dir())? {
            match Layout::parse_seg(&name) {
                Some(SegFile::Seg(first)) => generation.segs.push(first),
                Some(SegFile::Leaf(first)) => generation.leaves.push(first),
                _ => {}
            }
        }
        generation.segs.sort_unstable();
        generation.leaves.sort_unstable();
        found.push(generation);
    }
    Ok(found)
}
