//! What this source remembers across restarts, in the journal, in the same
//! frame as the events it belongs to.
//!
//! | key | value |
//! |---|---|
//! | `boot` | boot id, and which serials of it are in the journal or reported as missing |
//! | `ledger/N` | the [`Ledger`] of rules and settings, in parts of at most 60,000 bytes |

use auditmon_core::plugin::Memory;

use crate::ledger::Ledger;

/// Key of the boot mark.
pub const BOOT: &[u8] = b"boot";
/// Bytes of one part of the ledger; a state record holds 64 KiB.
const PART: usize = 60_000;
/// Parts of the ledger at most: 1.2 MB, some 20,000 rules.
const PARTS: usize = 20;
/// Ranges in the mark at most; further ones would be reported once more.
const MAX_RANGES: usize = 1_000;
const VERSION: u8 = 1;

/// Up to where a run accounted for the kernel's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Everything up to this serial is in the journal or reported as missing.
    pub serial: u32,
    /// Beyond it, these are too: first and last, rising from `serial`.
    pub beyond: Vec<(u32, u32)>,
    /// Time of the newest event so far, ns since 1970.
    pub time: u64,
    /// The kernel's `lost` counter then.
    pub lost: u32,
}

impl Mark {
    /// The mark as bytes.
    ///
    /// ```text
    /// u8 version, u8 length of boot id, boot id, u32 serial, u64 time, u32 lost,
    /// u16 count of ranges, each: u32 first, u32 last       (little endian)
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let boot = self.boot.as_bytes();
        let boot = boot.get(..boot.len().min(255)).unwrap_or_default();
        let mut out = vec![VERSION, boot.len() as u8];
        out.extend_from_slice(boot);
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.lost.to_le_bytes());
        let ranges = self.beyond.iter().take(MAX_RANGES);
        out.extend_from_slice(&(ranges.len() as u16).to_le_bytes());
        for (first, last) in ranges {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        out
    }

    /// Reads the bytes; `None` if they are no mark of a known form.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Mark> {
        let input = &mut bytes;
        let [version, len] = take::<2>(input)?;
        if version != VERSION {
            return None;
        }
        let (boot, rest) = input.split_at_checked(usize::from(len))?;
        *input = rest;
        let boot = String::from_utf8(boot.to_vec()).ok()?;
        let serial = u32::from_le_bytes(take(input)?);
        let time = u64::from_le_bytes(take(input)?);
        let lost = u32::from_le_bytes(take(input)?);
        let count = u16::from_le_bytes(take(input)?);
        let mut beyond = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let first = u32::from_le_bytes(take(input)?);
            beyond.push((first, u32::from_le_bytes(take(input)?)));
        }
        input.is_empty().then_some(Mark {
            boot,
            serial,
            beyond,
            time,
            lost,
        })
    }

    /// The mark of this boot, if there is one.
    #[must_use]
    pub fn of_boot(memory: &Memory, boot: &str) -> Option<Mark> {
        let (bytes, _) = memory.get(BOOT)?;
        Mark::from_bytes(bytes).filter(|mark| mark.boot == boot)
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

fn part_key(part: usize) -> Vec<u8> {
    format!("ledger/{part}").into_bytes()
}

/// The ledger of this boot; an empty one if there is none.
#[must_use]
pub fn ledger(memory: &Memory, boot: &str) -> Ledger {
    let parts = (0..PARTS).map_while(|part| memory.get(part_key(part).as_slice()));
    let bytes: Vec<u8> = parts.flat_map(|(part, _)| part.iter().copied()).collect();
    Ledger::of_boot((!bytes.is_empty()).then_some(bytes.as_slice()), boot)
}

/// Keys and values that remember the ledger; an empty value forgets.
#[must_use]
pub fn ledger_records(ledger: &Ledger) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = if ledger.is_empty() {
        Vec::new()
    } else {
        ledger.to_bytes()
    };
    let mut parts = bytes.chunks(PART).map(<[u8]>::to_vec);
    (0..PARTS)
        .map(|part| (part_key(part), parts.next().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_and_back() {
        let mark = Mark {
            boot: "b00t".into(),
            serial: u32::MAX,
            beyond: vec![(2, 3), (9, 9)],
            time: 17,
            lost: 4,
        };
        let bytes = mark.to_bytes();
        assert_eq!(Mark::from_bytes(&bytes), Some(mark.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Mark::from_bytes(&bytes[..end]), None);
        }
        let memory = Memory::from([(BOOT.to_vec(), (bytes, None))]);
        assert_eq!(Mark::of_boot(&memory, "b00t"), Some(mark));
        assert_eq!(Mark::of_boot(&memory, "other"), None);
    }

    #[test]
    fn a_large_ledger_is_kept_in_parts() {
        let mut large = Ledger::new("b");
        let rules = (0..3000).map(|n| {
            let line = format!("-w /some/rather/long/directory/name/{n} -p wa -k key-{n}");
            crate::load::tests::rule(&line).normalised()
        });
        large.set_rules(rules.collect());
        let memory: Memory = ledger_records(&large)
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| {
                assert!(value.len() + key.len() < 64_000);
                (key, (value, None))
            })
            .collect();
        assert!(memory.len() > 1);
        assert_eq!(ledger(&memory, "b"), large);
        assert!(ledger(&Memory::new(), "b").is_empty());
        assert!(
            ledger_records(&Ledger::new("b"))
                .iter()
                .all(|(_, value)| value.is_empty())
        );
    }
}
