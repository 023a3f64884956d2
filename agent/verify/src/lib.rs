//! What proves that nothing was changed, checked; and proofs of single events, made.
//!
//! [`verify`] reads a data directory by the page of the journal's format: frames and their checksums, commitments,
//! leaves, tiles, the tree, each signed checkpoint, what is declared absent, the store's rows, sinks' positions, dead letters. It
//! shares with the writer the parsers of single records and frames, and nothing of what it did with them. It works
//! beside a running agent and changes no file. [`check_proofs`] needs a file and a key. [`prove`] makes such a file.
//!
//! Sync; two threads, one for the journal and one for the database; less than 100 MB whatever the directory's size.
//!
//! | module | what it holds |
//! |---|---|
//! | `directory` | [`verify`]: what belongs to which generation, the two threads |
//! | `generation` | a journal from its first record to its last; `records`, `step`, `leaves`, `end` are parts of it |
//! | `segment` | frames of a segment, and where there are none |
//! | `trees` | the tree by each witness; who is wrong when they disagree |
//! | `heads`, `keys` | signed tree heads, whose signatures count |
//! | `tiles` | tiles as files |
//! | `memory` | what sources remember and segments repeat |
//! | `absences` | what is gone, and what was said about it |
//! | `rows`, `row_stream`, `differing` | rows of the store and how they meet the journal |
//! | `letters` | dead letters |
//! | `positions` | what sinks remember |
//! | `against` | what is given to compare with: checkpoints and proofs |
//! | `event` | canonical bytes |
//! | `files` | names in a data directory |
//! | `strange` | what has a file's name and is none |
//! | `report` | faults, notes, what can't be seen |
//! | `proofs` | [`check_proofs`] |
//! | `prove`, `leaf_source` | [`prove`] |

mod absences;
mod accepted;
mod against;
mod differing;
mod directory;
mod event;
mod files;
mod formers;
mod generation;
mod heads;
mod keys;
mod leaf_source;
mod letters;
mod memory;
mod positions;
mod proofs;
mod prove;
mod report;
mod row_stream;
mod rows;
mod segment;
mod strange;
mod tiles;
mod trees;

pub use directory::{DatabaseFile, Progress, Request, verify};
pub use event::{parse_uuid, uuid_text};
pub use proofs::{Proven, check_proofs};
pub use prove::{ProveError, ProveRequest, prove};
pub use report::{CouldNot, Counts, Fault, MAX_FAULTS, MAX_NOTES, NewestHead, Report};
