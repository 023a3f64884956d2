//! Which files a data directory has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// More than any small file of ours has.
pub(crate) const SMALL: u64 = 512 << 10;

/// What is left of a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Parts {
    pub(crate) seg: bool,
    pub(crate) leaf: bool,
    pub(crate) sub: bool,
}

impl Parts {
    /// Only hashes over many records are left.
    pub(crate) fn is_collapsed(self) -> bool {
        self.sub && !self.leaf && !self.seg
    }
}

/// One generation of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) dir: PathBuf,
    pub(crate) origin: String,
}

impl Generation {
    /// A place in it, as faults name it.
    pub(crate) fn place(&self, file: impl std::fmt::Display) -> String {
        format!("journal/{}/{file}", self.number)
    }

    pub(crate) fn seg_name(first_seq: u64) -> String {
        format!("seg/{first_seq:020}.seg")
    }

    pub(crate) fn leaf_name(first_seq: u64) -> String {
        format!("seg/{first_seq:020}.leaf")
    }

    pub(crate) fn sub_name(first_seq: u64) -> String {
        format!("seg/{first_seq:020}.sub")
    }

    /// All segments of which something is there, by first seq.
    pub(crate) fn segments(&self) -> io::Result<BTreeMap<u64, Parts>> {
        let mut found: BTreeMap<u64, Parts> = BTreeMap::new();
        for name in names(&self.dir.join("seg"))? {
            let Some((digits, extension)) = name.split_once('.') else {
                continue;
            };
            if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let Ok(first) = digits.parse::<u64>() else { continue };
            match extension {
                "seg" => found.entry(first).or_default().seg = true,
                "leaf" => found.entry(first).or_default().leaf = true,
                "sub" => found.entry(first).or_default().sub = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The number of the generation with this origin, if it is one of the journal that another origin is of.
pub(crate) fn number_in(origin: &str, journal: &str) -> Option<u32> {
    let base = journal.split_once("/gen/").map_or(journal, |(base, _)| base);
    let rest = origin.strip_prefix(base)?;
    if rest.is_empty() {
        return Some(1);
    }
    let digits = rest.strip_prefix("/gen/")?;
    let number: u32 = digits.parse().ok()?;
    (number > 1 && digits == number.to_string()).then_some(number)
}

/// Names in a directory that are UTF-8, in order; none if it isn't there.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// All generations of a data directory, oldest first; `origin` is the text of the first.
pub(crate) fn generations(data_dir: &Path, origin: &str) -> io::Result<Vec<Generation>> {
    let journal = data_dir.join("journal");
    let mut numbers: Vec<u32> = names(&journal)?
        .iter()
        .filter_map(|name| {
            let number: u32 = name.parse().ok()?;
            (number > 0 && *name == number.to_string()).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers
        .into_iter()
        .map(|number| Generation {
            dir: journal.join(number.to_string()),
            origin: match number {
                1 => origin.to_owned(),
                _ => format!("{origin}/gen/{number}"),
            },
            number,
        })
        .collect())
}

/// Reads a file of which no more than `most` bytes are of use; `None` if it isn't there.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Reads a small text; bytes that are no UTF-8 give a text that nothing accepts.
pub(crate) fn read_text(path: &Path) -> io::Result<Option<String>> {
    Ok(read(path, SMALL)?.map(|bytes| String::from_utf8(bytes).unwrap_or_else(|_| "\u{fffd}".to_owned())))
}
