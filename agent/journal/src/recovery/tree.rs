//! Directories and the origin: made once, found ever after.

use std::path::Path;

use auditmon_merkle::check_name;

use crate::fs::{Fs, read_small, replace};
use crate::layout::{Layout, generation_origin};
use crate::options::{OpenError, Options};

/// Longest text of an origin: a host name and 17 bytes, with room to spare.
const MAX_ORIGIN: usize = 512;

/// Makes what is missing; returns the newest generation's layout, origin and number.
pub(super) fn prepare(fs: &dyn Fs, options: &mut Options) -> Result<(Layout, String, u32), OpenError> {
    let first = Layout::new(&options.dir, 1);
    let journal = first.journal();
    make(fs, &options.dir, &journal)?;
    make(fs, &options.dir, &first.positions())?;
    let names = fs.list(&journal).map_err(OpenError::io(&journal))?;
    let generation = names
        .iter()
        .filter_map(|name| Layout::parse_generation(name))
        .max()
        .unwrap_or(1);
    let origin = origin(fs, &journal, options)?;
    let layout = Layout::new(&options.dir, generation);
    make(fs, &journal, &layout.generation_dir())?;
    make(fs, &layout.generation_dir(), &layout.seg_dir())?;
    Ok((layout, generation_origin(&origin, generation), generation))
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
