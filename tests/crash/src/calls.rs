//! System calls of one thread, recorded by strace, and the same calls failing one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Calls that touch the journal's files. A `?` before a name: not every machine has it.
pub const CALLS: &str = "pwritev,pwrite64,?pwritev2,write,fdatasync,fsync,openat,?rename,renameat,renameat2,?unlink,unlinkat,\
                         ftruncate,fallocate,pread64,?mkdir,mkdirat";

/// One recorded call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// Its thread, as recorded; 0 where there was only one.
    pub tid: u32,
    /// The system call.
    pub name: String,
    /// The how manieth of this name in its thread, from 1.
    pub nth: usize,
    /// The how manieth of this name on this path in its thread, from 1.
    pub nth_on_path: usize,
    /// Below the data directory.
    pub path: String,
    /// The path without numbers, and what is done with it: calls that differ only in numbers are alike.
    pub file: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (call {})", self.name, self.file, self.nth)
    }
}

/// What is done to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It fails: the disk.
    Eio,
    /// It fails: the disk is full.
    Enospc,
    /// The process is killed before it.
    Kill,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Eio, Self::Enospc, Self::Kill];

    /// strace's words for it, for a thread that was attached to before the script began.
    #[must_use]
    pub fn inject(self, call: &Call) -> Vec<String> {
        self.words(&call.name, call.nth)
    }

    /// The same by the call's path in this data directory: for a thread that also makes other calls of
    /// this name, whose number is not always the same.
    #[must_use]
    pub fn inject_at(self, call: &Call, data: &Path) -> Vec<String> {
        let mut words = self.words(&call.name, call.nth_on_path);
        let path = data.join(&call.path);
        words.extend(["-P".to_owned(), path.to_str().unwrap().trim_end_matches('/').to_owned()]);
        words
    }

    fn words(self, name: &str, nth: usize) -> Vec<String> {
        let what = match self {
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::Kill => "signal=KILL",
        };
        let words = [
            "-e",
            &format!("trace={name}"),
            "-e",
            &format!("inject={name}:{what}:when={nth}"),
        ];
        words.map(str::to_owned).to_vec()
    }
}

/// Reads a recording: calls on files of `data`, counted among all calls of their thread.
#[must_use]
pub fn parse(recording: &str, data: &Path) -> Vec<Call> {
    let data = data.to_str().unwrap();
    let mut counts: BTreeMap<(u32, String), usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in recording.lines() {
        // [PID ]TIME NAME(ARGUMENTS…
        let mut rest = line.trim_start();
        let mut tid = 0;
        if let Some((word, behind)) = rest.split_once(' ')
            && let Ok(number) = word.parse()
        {
            (tid, rest) = (number, behind.trim_start());
        }
        let Some((_, rest)) = rest.split_once(' ') else {
            continue;
        };
        let Some((name, arguments)) = rest.split_once('(') else {
            continue;
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let nth = counts.entry((tid, name.to_owned())).or_default();
        *nth += 1;
        let arguments = arguments
            .rsplit_once(" = ")
            .map_or(arguments, |(arguments, _)| arguments);
        if let Some((_, path)) = arguments.split_once(data) {
            let end = path.find(['>', '"']).unwrap_or(path.len());
            let path = path[..end].trim_start_matches('/').to_owned();
            let alike = |call: &&Call| (call.tid, &*call.name, &*call.path) == (tid, name, &*path);
            let nth_on_path = calls.iter().filter(alike).count() + 1;
            let mut file = without_numbers(&path);
            if arguments.contains("O_CREAT") {
                file += " (creates)";
            }
            calls.push(Call {
                tid,
                name: name.to_owned(),
                nth: *nth,
                nth_on_path,
                path,
                file,
            });
        }
    }
    calls
}

fn without_numbers(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('N') {
            out.push('N');
        }
    }
    out
}

/// strace, attached to threads of a running process. Detaches when dropped.
pub struct Strace {
    child: Child,
    output: PathBuf,
}

impl Strace {
    /// Attaches to these threads only, and waits until it has.
    #[must_use]
    pub fn attach(threads: &[u32], args: &[String], output: PathBuf) -> Self {
        let mut command = Command::new("strace");
        command.args(["-tt", "-y", "-s0", "-o"]).arg(&output).args(args);
        for thread in threads {
            command.arg("-p").arg(thread.to_string());
        }
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut attached = 0;
        let mut said = String::new();
        let mut lines = lines.map(Result::unwrap);
        while attached < threads.len() {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("strace could not attach: {said}"));
            attached += usize::from(line.ends_with(" attached"));
            said += &line;
        }
        // What it still says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, output }
    }

    /// Detaches, and gives what was recorded.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.end();
        std::fs::read_to_string(&self.output).unwrap()
    }

    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It ends by itself when what it traces does.
        if self.child.try_wait().unwrap().is_none() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_recording() {
        let recording = "\
77 03:22:11.1 openat(AT_FDCWD</x>, \"/etc/ld\", O_RDONLY) = 3</etc/ld>
77 03:22:11.2 openat(AT_FDCWD</x>, \"/d/1/data/journal/1/seg/00.seg.new\", O_RDWR|O_CREAT, 0600) = 9</d/1/data/journal/1/seg/00.seg.new>
78 03:22:11.3 fdatasync(9</d/1/data/journal/1/seg/00000120.seg> <unfinished ...>
77 03:22:11.4 write(2</d/1/stderr>, \"\"..., 4) = 4
78 03:22:11.5 <... fdatasync resumed>) = 0
03:22:11.6 fsync(4</d/1/data/journal>) = 0
";
        let calls = parse(recording, Path::new("/d/1/data"));
        let texts: Vec<String> = calls.iter().map(|call| format!("{} {call}", call.tid)).collect();
        assert_eq!(
            texts,
            [
                "77 openat journal/N/seg/N.seg.new (creates) (call 2)",
                "78 fdatasync journal/N/seg/N.seg (call 1)",
                "0 fsync journal (call 1)"
            ]
        );
    }
}
