//! What an event was about: the candidate for the envelope's `resource`.

use std::borrow::Cow;

use super::{Outcome, Path, Summary, text_of};
use crate::kind::RecordType;

pub(super) fn of<'a>(summary: &Summary<'a>) -> Option<Cow<'a, [u8]>> {
    if summary.kind() == RecordType::SYSCALL {
        return of_call(summary);
    }
    let named = [&b"path"[..], b"dir", b"name"]
        .into_iter()
        .find_map(|name| summary.field(name).and_then(text_of));
    named
        .or_else(|| path(summary, ""))
        .or_else(|| summary.exe())
        .or_else(|| summary.claimed(b"exe").and_then(text_of))
}

fn of_call<'a>(summary: &Summary<'a>) -> Option<Cow<'a, [u8]>> {
    let call = summary.syscall_name().unwrap_or("");
    if matches!(call, "execve" | "execveat") {
        // A call that failed was made by the old program: exe is not what was tried.
        return if summary.outcome() == Outcome::Failure {
            path(summary, call).or_else(|| summary.exe())
        } else {
            summary.exe()
        };
    }
    summary
        .saddr_text()
        .map(Cow::Owned)
        .or_else(|| path(summary, call))
        .or_else(|| summary.exe())
}

/// The first path that is no parent, else the first; joined with the working directory where
/// that is what it is relative to.
fn path<'a>(summary: &Summary<'a>, call: &str) -> Option<Cow<'a, [u8]>> {
    if !summary.has_path {
        return None;
    }
    let is_meant = |path: &Path<'_>| path.nametype != b"PARENT" && path.name().is_some();
    let name = summary
        .paths()
        .find(is_meant)
        .or_else(|| summary.paths().next())?
        .name()?;
    if name.starts_with(b"/") || by_descriptor(summary, call) {
        return Some(name);
    }
    let Some(cwd) = summary.cwd() else {
        return Some(name);
    };
    let separator: &[u8] = if cwd.ends_with(b"/") { b"" } else { b"/" };
    let relative = name.strip_prefix(b"./").unwrap_or(&name);
    Some(Cow::Owned([&cwd, separator, relative].concat()))
}

/// Tells whether a relative name of this call starts at a directory descriptor, which only the
/// process can resolve.
fn by_descriptor(summary: &Summary<'_>, call: &str) -> bool {
    /// `AT_FDCWD`, printed with 32 or 64 bits.
    const CWD: u32 = -100_i32 as u32;
    let takes_descriptor = call == "statx"
        || (call.ends_with("at") || call.ends_with("at2")) && !matches!(call, "creat" | "stat" | "lstat" | "fstat");
    let argument = usize::from(call == "symlinkat");
    takes_descriptor
        && summary
            .argument(argument)
            .is_some_and(|descriptor| descriptor as u32 != CWD)
}
