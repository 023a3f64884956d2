//! The reserve: space that is given up when the disk is full, so that the
//! agent can still end in order and remove what may go.

use std::io;

use crate::fs::Fs;
use crate::layout::Layout;

/// Bytes that the reserve has now.
pub(crate) fn size(fs: &dyn Fs, layout: &Layout) -> u64 {
    fs.open_read(&layout.reserve())
        .and_then(|file| file.size())
        .unwrap_or(0)
}

/// Makes the reserve as large as `len` and really allocated.
pub(crate) fn fill(fs: &dyn Fs, layout: &Layout, len: u64) -> io::Result<()> {
    if size(fs, layout) == len {
        return Ok(());
    }
    let path = layout.reserve();
    let file = match fs.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs.create(&path)?,
        opened => opened?,
    };
    let filled = file.set_len(0).and_then(|()| match len {
        0 => Ok(()),
        _ => file.allocate(len),
    });
    if filled.is_err() {
        // Half a reserve would only take away what is left.
        let _ = file.set_len(0);
    }
    filled
}

/// Gives the space back; false if there was none.
pub(crate) fn release(fs: &dyn Fs, layout: &Layout) -> bool {
    if size(fs, layout) == 0 {
        return false;
    }
    fs.open(&layout.reserve()).and_then(|file| file.set_len(0)).is_ok()
}
