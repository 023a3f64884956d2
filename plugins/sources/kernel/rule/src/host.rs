//! What a rules line needs to know about the host it is meant for.

use crate::machine::Machine;

/// Answers about the host. A real one looks at the user database and the file
/// system; tests answer from tables. Called only while a line is parsed.
pub trait Host {
    /// The uid of a user, if there is one of that name.
    fn uid(&self, name: &str) -> Option<u32>;

    /// The gid of a group, if there is one of that name.
    fn gid(&self, name: &str) -> Option<u32>;

    /// Whether the path is a directory now, links followed: decides whether
    /// `-w` watches a file or a subtree.
    fn is_dir(&self, path: &[u8]) -> bool;

    /// What `arch=b64` stands for.
    fn native(&self) -> Machine {
        Machine::native()
    }
}
