//! Linux kernel audit rules: the line grammar of auditctl and rules files,
//! and `struct audit_rule_data` as it goes over netlink. Pure: no file, no
//! socket; what a line needs to know about the host comes through [`Host`].
//!
//! Reading order: [`layout`] (numbers) → `field`, `names`, `machine` (tables)
//! → [`Rule`] (bytes ↔ parts) → `options`, `value`, `draft`, `parse` (line →
//! rule) → `print` (rule → line) → `compact` (rule ↔ bytes for a memory).
//!
//! Source of facts: `reference/kernel-audit.md` 10 to 13; the conformance
//! list is `tests/fixtures/kernel-records/rule-encodings.tsv`, recorded from
//! auditctl 4.2.2.
//!
//! ```
//! use audit_rule::{Host, Statement, parse_line};
//!
//! struct Nobody;
//! impl Host for Nobody {
//!     fn uid(&self, _: &str) -> Option<u32> { None }
//!     fn gid(&self, _: &str) -> Option<u32> { None }
//!     fn is_dir(&self, _: &[u8]) -> bool { false }
//! }
//!
//! let parsed = parse_line(b"-w /etc/shadow -p wa -k identity", &Nobody)?;
//! let (_, Statement::Add(rule)) = &parsed.statements[0] else { panic!() };
//! assert_eq!(rule.to_string(), "-w /etc/shadow -p wa -k identity");
//! assert_eq!(rule.encode().map(|bytes| bytes.len()), Ok(1040 + 11 + 8));
//! # Ok::<(), Vec<audit_rule::Fault>>(())
//! ```

pub mod layout;

mod field;
mod machine;
mod mask;
mod names;
mod perm;
mod record_types;

mod rule;

mod draft;
mod fault;
mod host;
mod options;
mod parse;
mod value;
mod words;

mod compact;
mod print;

pub use compact::BadCompact;
pub use fault::Fault;
pub use host::Host;
pub use layout::{Action, List, Op};
pub use machine::Machine;
pub use mask::Mask;
pub use parse::{MAX_LINE, Parsed, Statement, parse_file, parse_line};
pub use rule::{DecodeError, Rule, Test, TooManyFields, Value};
