//! Directories and the origin: made once, found ever after.

use std::io;
use std::path::Path;

use auditmon_merkle::check_name;

use crate::core::FIRST_FRAME;
use crate::format::{Kind, RecordIter};
use crate::fs::{Fs, read_small, replace};
use crate::layout::{Layout, SegFile, generation_origin};
use crate::link::{self, Link};
use crate::options::{OpenError, Options};
use crate::scan::{FrameReader, Probe};

/// Longest text of an origin: a host name and 17 bytes, with room to spare.
const MAX_ORIGIN: usize = 512;

/// More generations than this no journal has had.
pub(super) const MOST_GENERATIONS: u32 = 1_000_000;

/// A generation's place.
pub(super) struct Place {
    pub(super) layout: Layout,
    pub(super) origin: String,
    pub(super) generation: u32,
    /// The origin of the first.
    base: String,
}

/// Makes what is missing; returns the newest generation.
pub(super) fn prepare(fs: &dyn Fs, options: &mut Options) -> Result<Place, OpenError> {
    let first = Layout::new(&options.dir, 1);
    let journal = first.journal();
    make(fs, &options.dir, &journal)?;
    make(fs, &options.dir, &first.positions())?;
    let names = fs.list(&journal).map_err(OpenError::io(&journal))?;
    let mut generations: Vec<u32> = names.iter().filter_map(|name| Layout::parse_generation(name)).collect();
    generations.sort_unstable();
    let begun = generations
        .iter()
        .rev()
        .find(|generation| **generation > 1 && has_begun(fs, &Layout::new(&options.dir, **generation)));
    let generation = begun.copied().unwrap_or(1);
    let origin = origin(fs, &journal, options)?;
    place(fs, options, origin, generation)
}

/// Whether a generation behind the first has said that it took the place of another, which is its first event. If
/// not, the one before is looked at again.
fn has_begun(fs: &dyn Fs, layout: &Layout) -> bool {
    let names = fs.list(&layout.seg_dir()).unwrap_or_default();
    let segments = names.iter().filter_map(|name| match Layout::parse_seg(name) {
        Some(SegFile::Seg(first) | SegFile::Leaf(first) | SegFile::Sub(first)) => Some(first),
        _ => None,
    });
    match segments.max() {
        None => false,
        // What can't be read is no sign that nothing was there.
        Some(0) => has_event(fs, &layout.seg(0)).unwrap_or(true),
        Some(_) => true,
    }
}

/// Whether a segment has anything but what sources remember.
fn has_event(fs: &dyn Fs, path: &Path) -> io::Result<bool> {
    let file = fs.open_read(path)?;
    let size = file.size()?;
    let mut frames = FrameReader::new(file, size);
    let mut offset = FIRST_FRAME;
    loop {
        match frames.probe(offset)? {
            Probe::Frame(head) => {
                let mut records = RecordIter::new(frames.records(offset, &head)?).flatten();
                if records.any(|record| record.prefix.kind != Kind::State) {
                    return Ok(true);
                }
                offset += head.len() as u64;
            }
            Probe::Zero | Probe::End => return Ok(false),
            Probe::Bad => return Ok(true),
        }
    }
}

/// Begins the generation behind another one, and behind any that was `named`. `end` and `damaged` are what its
/// [`Link`] says.
pub(super) fn begin(
    fs: &dyn Fs,
    options: &Options,
    before: &Place,
    named: u32,
    (end, damaged): (u64, bool),
) -> Result<Place, OpenError> {
    // One that nobody can have begun is no reason to go there: it could not be passed.
    let named = if named < MOST_GENERATIONS { named } else { 0 };
    let generation = before.generation.max(named).saturating_add(1);
    let begun = place(fs, options, before.base.clone(), generation)?;
    // Nobody can have accepted it yet.
    match fs.remove(&begun.layout.accepted()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(OpenError::io(begun.layout.accepted())(error));
        }
        _ => {}
    }
    let link = Link {
        generation: before.generation,
        end,
        damaged,
    };
    link::write(fs, &begun.layout, &link).map_err(OpenError::io(begun.layout.former()))?;
    Ok(begun)
}

fn place(fs: &dyn Fs, options: &Options, base: String, generation: u32) -> Result<Place, OpenError> {
    let layout = Layout::new(&options.dir, generation);
    make(fs, &layout.journal(), &layout.generation_dir())?;
    make(fs, &layout.generation_dir(), &layout.seg_dir())?;
    Ok(Place {
        layout,
        origin: generation_origin(&base, generation),
        generation,
        base,
    })
}

/// A directory is there only once its parent is synced.
fn make(fs: &dyn Fs, parent: &Path, dir: &Path) -> Result<(), OpenError> {
    fs.create_dir(dir)
        .and_then(|()| fs.sync_dir(parent))
        .map_err(OpenError::io(dir))
}

fn origin(fs: &dyn Fs, journal: &Path, options: &mut Options) -> Result<String, OpenError> {
    let path = journal.join("origin");
    match read_small(fs, &path, MAX_ORIGIN) {
        Ok(bytes) => {
            let Some(origin) = parse(&bytes) else {
                return Err(OpenError::Origin { path });
            };
            match check_name(&origin) {
                Ok(()) => Ok(origin),
                Err(_) => Err(OpenError::OriginName { path, origin }),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut random = [0; 8];
            (options.entropy)(&mut random);
            let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let origin = format!("{}/{hex}", key_name(&options.host));
            replace(fs, journal, "origin", origin.as_bytes()).map_err(OpenError::io(&path))?;
            Ok(origin)
        }
        Err(error) => Err(OpenError::io(path)(error)),
    }
}

fn parse(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\n');
    let printable = text.chars().all(|c| !c.is_control());
    (!text.is_empty() && bytes.len() < MAX_ORIGIN && printable).then(|| text.to_owned())
}

/// The host's name as the front of a key's name, which has no blanks and no `+`.
fn key_name(host: &str) -> String {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    host.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}
