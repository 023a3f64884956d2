//! The generation that another one took the place of: why it did, and what of it can still be read.
//!
//! The newer one's directory says so in the file `former`: the number of the former, 1 + the largest seq that anything
//! named there, and `damaged` or `contradicted`, with blanks between. So sinks that were behind are given what is left.

use std::io;
use std::sync::Arc;

use crate::format::LEAF;
use crate::fs::{Fs, read_small, replace};
use crate::layout::{FORMER, Layout, MAX_SEQ, SegFile, generation_of, generation_origin};
use crate::shared::{Segment, Shared};

/// Longest file: three words.
const MAX_FILE: usize = 64;

/// What a generation says of its former.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    /// The former's number.
    pub(crate) generation: u32,
    /// 1 + the largest seq that anything named there.
    pub(crate) end: u64,
    /// Leaves are missing there and nothing else is wrong: nobody has to accept that before sinks go on.
    pub(crate) damaged: bool,
}

/// Writes it for the generation of this layout.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, link: &Link) -> io::Result<()> {
    let why = if link.damaged { "damaged" } else { "contradicted" };
    let text = format!("{} {} {why}\n", link.generation, link.end);
    replace(fs, &layout.generation_dir(), FORMER, text.as_bytes())
}

/// What the generation of this layout says; `None` if it is the first.
///
/// # Errors
/// `InvalidData` for a damaged file, or what the system says.
pub(crate) fn read(fs: &dyn Fs, layout: &Layout) -> io::Result<Option<Link>> {
    if layout.generation() == 1 {
        return Ok(None);
    }
    let bytes = match read_small(fs, &layout.former(), MAX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let link = parse(&bytes).filter(|link| link.generation < layout.generation());
    let damaged = || {
        let reason = format!(
            "{} is not `GENERATION END damaged` or `GENERATION END contradicted`; without the file sinks get nothing \
             more of the former generation",
            layout.former().display()
        );
        io::Error::new(io::ErrorKind::InvalidData, reason)
    };
    link.map(Some).ok_or_else(damaged)
}

fn parse(bytes: &[u8]) -> Option<Link> {
    let mut words = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split(' ');
    let link = Link {
        generation: words.next()?.parse().ok().filter(|generation| *generation > 0)?,
        end: words.next()?.parse().ok().filter(|end| *end <= MAX_SEQ)?,
        damaged: match words.next()? {
            "damaged" => true,
            "contradicted" => false,
            _ => return None,
        },
    };
    words.next().is_none().then_some(link)
}

/// What readers need of the former generation; `None` if there is none, or if its files were removed.
pub(crate) fn open_former(current: &Shared) -> io::Result<Option<Shared>> {
    let Some(link) = read(&*current.fs, &current.layout)? else {
        return Ok(None);
    };
    let Some((base, _)) = generation_of(&current.origin) else {
        return Ok(None);
    };
    let layout = current.layout.of(link.generation);
    let names = match current.fs.list(&layout.seg_dir()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    let origin = generation_origin(base, link.generation);
    let former = Shared::new(Arc::clone(&current.fs), layout, origin);
    for name in names {
        let size = |path| former.fs.open_read(path).and_then(|file| file.size());
        match Layout::parse_seg(&name) {
            Some(SegFile::Seg(first)) => {
                let path = former.layout.seg(first);
                let segment = Segment::new(first, path.clone(), u64::MAX, size(&path)?);
                former.segments.write().insert(first, Arc::new(segment));
            }
            Some(SegFile::Leaf(first)) => {
                let count = size(&former.layout.leaf(first))? / LEAF as u64;
                former.leaves.write().insert(first, count);
            }
            _ => {}
        }
    }
    former.set_durable(link.end);
    Ok(Some(former))
}

/// Origin of the former generation and 1 + the largest seq that anything named there, if its files were removed.
pub(crate) fn gone_former(current: &Shared) -> io::Result<Option<(String, u64)>> {
    let Some(link) = read(&*current.fs, &current.layout)? else {
        return Ok(None);
    };
    let Some((base, _)) = generation_of(&current.origin) else {
        return Ok(None);
    };
    match current.fs.list(&current.layout.of(link.generation).seg_dir()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Some((generation_origin(base, link.generation), link.end)))
        }
        listed => listed.map(|_| None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::fs::RealFs;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), 3);
        std::fs::create_dir_all(layout.generation_dir()).unwrap();
        assert_eq!(read(&RealFs, &layout).unwrap(), None);
        for damaged in [true, false] {
            let link = Link {
                generation: 1,
                end: MAX_SEQ,
                damaged,
            };
            write(&RealFs, &layout, &link).unwrap();
            assert_eq!(read(&RealFs, &layout).unwrap(), Some(link));
        }
        for bad in [
            "",
            "1 2 damaged",
            "1 2 lost\n",
            "0 2 damaged\n",
            "3 2 damaged\n",
            "1 4611686018427387904 damaged\n",
            "1 9223372036854775807 damaged\n",
            "1 2 damaged \n",
            "1 -2 damaged\n",
        ] {
            std::fs::write(layout.former(), bad).unwrap();
            let error = read(&RealFs, &layout).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
        let first = Layout::new(dir.path(), 1);
        std::fs::create_dir_all(first.generation_dir()).unwrap();
        std::fs::write(first.former(), "1 2 damaged\n").unwrap();
        assert_eq!(read(&RealFs, &first).unwrap(), None, "it has none");
    }
}
