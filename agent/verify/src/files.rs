//! Which files a data directory has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

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
            match segment_name(&name) {
                Some((first, "seg")) => found.entry(first).or_default().seg = true,
                Some((first, "leaf")) => found.entry(first).or_default().leaf = true,
                Some((first, _)) => found.entry(first).or_default().sub = true,
                None => {}
            }
        }
        Ok(found)
    }
}

/// First seq and ending of a name in `seg`, if it is one of ours.
pub(crate) fn segment_name(name: &str) -> Option<(u64, &str)> {
    let (digits, ending) = name.split_once('.')?;
    let ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let first = digits.parse().ok().filter(|_| ours)?;
    matches!(ending, "seg" | "leaf" | "sub").then_some((first, ending))
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
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
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

/// Whether the path leads to nothing: also where a file stands in the place of a directory, or links lead in a circle.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Opens a file for reading. What has its name and is none isn't there ([`crate::strange`] tells of it); it is neither
/// waited for nor opened, since that alone does something to some devices.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let missing = |error: io::Error| match is_missing(&error) {
        true => io::ErrorKind::NotFound.into(),
        false => error,
    };
    if !path.metadata().map_err(missing)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // It may be another one by now.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(missing)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Reads a file of which no more than `most` bytes are of use; `None` if it isn't there.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open(path) {
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
