//! A volume that forgets what was not synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auditmon_journal::{Fs, FsFile};

use crate::inode::Inode;
use crate::rng::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Node {
    Dir,
    File(usize),
}

/// A change of names that no directory sync covers yet.
#[derive(Clone, Debug)]
enum NameOp {
    Link(PathBuf, Node),
    Rename(PathBuf, PathBuf, Node),
    Unlink(PathBuf),
}

impl NameOp {
    fn parent(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Rename(_, path, _) | Self::Unlink(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
        }
    }
}

/// The volume's state.
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    unsynced: Vec<NameOp>,
    rng: Rng,
    /// Operations until the power goes.
    crash_in: Option<u64>,
    /// File syncs until one fails.
    fail_sync_in: Option<u64>,
    /// Changing operations until one fails.
    fail_op_in: Option<u64>,
    crashed: bool,
    epoch: u64,
    capacity: u64,
    /// What is written over needs new space first.
    copy_on_write: bool,
    trace: bool,
}

/// A handle of a simulated volume.
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<Disk>>);

impl SimFs {
    /// An empty volume with a data directory `/d`.
    pub fn new(seed: u64) -> Self {
        let root = BTreeMap::from([(PathBuf::from("/d"), Node::Dir)]);
        Self(Arc::new(Mutex::new(Disk {
            inodes: Vec::new(),
            names: root.clone(),
            durable: root,
            unsynced: Vec::new(),
            rng: Rng::new(seed),
            crash_in: None,
            fail_sync_in: None,
            fail_op_in: None,
            crashed: false,
            epoch: 0,
            capacity: u64::MAX,
            copy_on_write: false,
            trace: std::env::var_os("AUDITMON_TRACE").is_some(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the power is gone: whatever a program does now has no effect.
    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The power goes after this many more changing operations.
    pub fn crash_in(&self, operations: u64) {
        self.lock().crash_in = Some(operations);
    }

    /// A file sync fails after this many more.
    pub fn fail_sync_in(&self, syncs: u64) {
        self.lock().fail_sync_in = Some(syncs);
    }

    /// A changing operation fails after this many more.
    pub fn fail_op_in(&self, operations: u64) {
        self.lock().fail_op_in = Some(operations);
    }

    /// The disk works from now on.
    pub fn heal(&self) {
        let mut disk = self.lock();
        disk.fail_sync_in = None;
        disk.fail_op_in = None;
        disk.crash_in = None;
    }

    /// Bytes that the volume may hold beyond those used now.
    pub fn set_free(&self, free: u64) {
        let mut disk = self.lock();
        disk.capacity = disk.used().saturating_add(free);
    }

    /// From now on a write in place needs as much free space as it has bytes.
    pub fn set_copy_on_write(&self) {
        self.lock().copy_on_write = true;
    }

    /// Only the process dies: the page cache lives on.
    pub fn kill(&self) {
        let mut disk = self.lock();
        disk.trace(format_args!("--- kill"));
        disk.epoch += 1;
        disk.crashed = false;
    }

    /// Power was lost, and is back.
    pub fn power_cycle(&self) {
        let mut disk = self.lock();
        let disk = &mut *disk;
        disk.trace(format_args!("--- power cycle"));
        disk.epoch += 1;
        disk.crashed = false;
        disk.crash_in = None;
        let keep = disk.rng.pick(&[0, 50, 50, 100]);
        for op in std::mem::take(&mut disk.unsynced) {
            if disk.rng.chance(keep) {
                op.apply(&mut disk.durable);
            }
        }
        // What lies in a directory that isn't there is not there either.
        let names = disk.durable.clone();
        disk.durable.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .take_while(|parent| *parent != Path::new("/"))
                .all(|parent| names.get(parent) == Some(&Node::Dir))
        });
        disk.names.clone_from(&disk.durable);
        for inode in &mut disk.inodes {
            inode.crash(&mut disk.rng);
        }
    }

    /// Puts a file there, durable, as if it had always been.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut disk = self.lock();
        let mut inode = Inode::default();
        inode.write(content, 0);
        inode.sync();
        inode.allocated = content.len() as u64;
        disk.inodes.push(inode);
        let node = Node::File(disk.inodes.len() - 1);
        disk.names.insert(path.to_owned(), node);
        disk.durable.insert(path.to_owned(), node);
    }

    /// What programs see of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.lock();
        match disk.names.get(path)? {
            Node::File(inode) => Some(disk.inodes[*inode].cache.clone()),
            Node::Dir => None,
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("power lost")
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk {
    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(self.inodes[*inode].allocated),
                Node::Dir => None,
            })
            .sum()
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// To be called before anything is changed.
    fn step(&mut self) -> io::Result<()> {
        if self.crashed {
            return Err(gone());
        }
        if count_down(&mut self.crash_in) {
            self.crashed = true;
            self.trace(format_args!("power lost"));
            return Err(gone());
        }
        if count_down(&mut self.fail_op_in) {
            self.trace(format_args!("next operation fails"));
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{what}");
        }
    }

    fn change(&mut self, op: NameOp) {
        self.trace(format_args!("{op:?}"));
        op.apply(&mut self.names);
        self.unsynced.push(op);
    }

    fn parent_exists(&self, path: &Path) -> bool {
        path.parent()
            .is_some_and(|parent| self.names.get(parent) == Some(&Node::Dir))
    }
}

/// Counts down; true once, when it reaches the end.
fn count_down(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(0) => {
            *counter = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let disk = self.lock();
        if disk.crashed {
            return Err(gone());
        }
        match disk.names.get(path) {
            Some(Node::File(inode)) => Ok(Arc::new(SimFile {
                fs: self.clone(),
                inode: *inode,
                epoch: disk.epoch,
            })),
            _ => Err(missing()),
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        {
            let mut disk = self.lock();
            disk.step()?;
            if !disk.parent_exists(path) {
                return Err(missing());
            }
            match disk.names.get(path) {
                Some(Node::File(inode)) => {
                    let inode = *inode;
                    disk.inodes[inode].set_len(0);
                    disk.inodes[inode].allocated = 0;
                }
                _ => {
                    disk.inodes.push(Inode::default());
                    let node = Node::File(disk.inodes.len() - 1);
                    disk.change(NameOp::Link(path.to_owned(), node));
                }
            }
        }
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        let node = *disk.names.get(from).ok_or_else(missing)?;
        disk.change(NameOp::Rename(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        if !disk.names.contains_key(path) {
            return Err(missing());
        }
        disk.change(NameOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.lock();
        if disk.crashed {
            return Err(gone());
        }
        Ok(disk
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        if !disk.parent_exists(dir) {
            return Err(missing());
        }
        if !disk.names.contains_key(dir) {
            disk.change(NameOp::Link(dir.to_owned(), Node::Dir));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.trace(format_args!("sync_dir {}", dir.display()));
        disk.step()?;
        let disk = &mut *disk;
        for op in std::mem::take(&mut disk.unsynced) {
            if op.parent() == Some(dir) {
                op.apply(&mut disk.durable);
            } else {
                disk.unsynced.push(op);
            }
        }
        Ok(())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        let disk = self.lock();
        if disk.crashed {
            return Err(gone());
        }
        Ok(disk.free())
    }
}

struct SimFile {
    fs: SimFs,
    inode: usize,
    epoch: u64,
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.lock();
        if disk.crashed || disk.epoch != self.epoch {
            return Err(gone());
        }
        Ok(disk)
    }
}

/// Reserves space up to `end`, or says that the volume is full.
fn reserve(disk: &mut Disk, inode: usize, end: u64) -> io::Result<()> {
    let allocated = disk.inodes[inode].allocated;
    if end > allocated {
        if end - allocated > disk.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.inodes[inode].allocated = end;
    }
    Ok(())
}

impl FsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.lock()?;
        let cache = &disk.inodes[self.inode].cache;
        let from = (offset as usize).min(cache.len());
        let to = cache.len().min(from + buf.len());
        buf[..to - from].copy_from_slice(&cache[from..to]);
        Ok(to - from)
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut disk = self.lock()?;
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let before = disk.step();
        if let Err(error) = before {
            // Part of it may have been written when it failed.
            let part = disk.rng.below(bytes.len() as u64 + 1) as usize;
            disk.inodes[self.inode].write(&bytes[..part], offset as usize);
            return Err(error);
        }
        if disk.copy_on_write && bytes.len() as u64 > disk.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        reserve(&mut disk, self.inode, offset + bytes.len() as u64)?;
        let short = bytes.len() > 1 && disk.rng.chance(5);
        let part = if short { bytes.len() / 2 } else { bytes.len() };
        disk.trace(format_args!("write {} {offset}+{part}", self.inode));
        disk.inodes[self.inode].write(&bytes[..part], offset as usize);
        Ok(part)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.lock()?.inodes[self.inode].cache.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.trace(format_args!("set_len {} {len}", self.inode));
        disk.step()?;
        let inode = &mut disk.inodes[self.inode];
        inode.set_len(len as usize);
        inode.allocated = inode.allocated.min(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.step()?;
        reserve(&mut disk, self.inode, len)?;
        let inode = &mut disk.inodes[self.inode];
        if (inode.cache.len() as u64) < len {
            inode.set_len(len as usize);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.lock()?;
        let disk = &mut *disk;
        disk.trace(format_args!("sync {}", self.inode));
        let fails = count_down(&mut disk.fail_sync_in);
        match disk.step() {
            Ok(()) if !fails => {
                disk.inodes[self.inode].sync();
                Ok(())
            }
            Err(error) if disk.crashed => Err(error),
            _ => {
                disk.trace(format_args!("sync failed"));
                disk.inodes[self.inode].fail_sync(&mut disk.rng);
                Err(io::Error::from_raw_os_error(5))
            }
        }
    }
}
