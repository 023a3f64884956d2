//! One file: what programs see, and what the disk has.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// Bytes that a disk writes wholly or not at all.
const SECTOR: usize = 512;
/// Sectors that a kernel writes back together.
const PAGE: usize = 8;

/// A file's contents in the page cache and on disk.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// What programs read.
    pub cache: Vec<u8>,
    /// What survives a crash for sure.
    disk: Vec<u8>,
    /// Unsynced sectors, with every content they had since the last sync.
    dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// Shortest length since the last sync, if it was cut.
    cut: Option<usize>,
    /// Bytes that count against the volume.
    pub allocated: u64,
}

impl Inode {
    /// Writes into the page cache.
    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            for sector in offset / SECTOR..=(end - 1) / SECTOR {
                self.touch(sector);
            }
        }
    }

    fn touch(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = self.cache.len().min(from + SECTOR);
        let mut content = [0; SECTOR];
        content[..to - from].copy_from_slice(&self.cache[from..to]);
        self.dirty.entry(sector).or_default().push(content);
    }

    /// Cuts or extends.
    pub fn set_len(&mut self, len: usize) {
        if len < self.cache.len() {
            self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
            self.cache.truncate(len);
            self.dirty.retain(|sector, _| sector * SECTOR < len);
            if !len.is_multiple_of(SECTOR) && self.dirty.contains_key(&(len / SECTOR)) {
                self.touch(len / SECTOR);
            }
        } else {
            self.cache.resize(len, 0);
        }
    }

    /// A sync that works. Pages that an earlier failed sync dropped are clean:
    /// they are not written.
    pub fn sync(&mut self) {
        self.apply_cut();
        self.disk.resize(self.cache.len(), 0);
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if let Some(content) = versions.last() {
                place(&mut self.disk, sector, content);
            }
        }
    }

    /// A sync that fails: some pages are written, the others are forgotten by
    /// the kernel, which takes all for clean from now on.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        if rng.chance(50) {
            self.apply_cut();
            self.disk.resize(self.cache.len(), 0);
        }
        let lose = rng.pick(&[0, 30, 70, 100]);
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if let Some(content) = versions.last()
                && !rng.chance(lose)
            {
                place(&mut self.disk, sector, content);
            }
        }
    }

    fn apply_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.disk.truncate(cut);
        }
    }

    /// Power is lost: any subset of unsynced sectors and sizes survives.
    pub fn crash(&mut self, rng: &mut Rng) {
        if rng.chance(50) {
            self.apply_cut();
        }
        self.cut = None;
        if self.cache.len() > self.disk.len() && rng.chance(50) {
            self.disk.resize(self.cache.len(), 0);
        }
        let keep = rng.pick(&[0, 50, 50, 50, 90, 100]);
        let pages = rng.chance(30);
        let mut fate = (usize::MAX, false);
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let unit = if pages { sector / PAGE } else { sector };
            if fate.0 != unit {
                fate = (unit, rng.chance(keep));
            }
            if fate.1 {
                let last = versions.len() as u64 - 1;
                let which = if rng.chance(70) { last } else { rng.below(last + 1) };
                place(&mut self.disk, sector, &versions[which as usize]);
            }
        }
        self.cache.clone_from(&self.disk);
        self.allocated = self.allocated.max(self.disk.len() as u64);
    }
}

/// Puts a sector into `disk` as far as it is long.
fn place(disk: &mut [u8], sector: usize, content: &[u8; SECTOR]) {
    let from = sector * SECTOR;
    let to = disk.len().min(from + SECTOR);
    if from < to {
        disk[from..to].copy_from_slice(&content[..to - from]);
    }
}
