//! Whose are the kernel's rules and settings: what this agent changed, so
//! that exactly that can be put back.
//!
//! `rules.policy: additive`: a rule is ours if we loaded it; one that was
//! there before is not, also if our configuration names the same. The ledger
//! is written to the source's memory *before* the kernel is changed, so that
//! what a killed run left is known at the next start: ours is what the ledger
//! names *and* the kernel still has. After a reboot nothing is.

use audit_rule::Rule;

use crate::status::SettingKind;

/// Form of the bytes.
const VERSION: u8 = 1;

/// More rules than this are not read from memory; see `control::MAX_RULES`.
const MAX_RULES: usize = 20_000;

/// A setting that we changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Which one.
    pub setting: SettingKind,
    /// What it was before our first change.
    pub before: u32,
    /// What we set it to.
    pub after: u32,
}

/// What of the kernel's present state is our doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    boot: String,
    changed: Vec<Changed>,
    rules: Vec<Rule>,
}

impl Ledger {
    /// An empty ledger of this boot (`/proc/sys/kernel/random/boot_id`).
    #[must_use]
    pub fn new(boot: &str) -> Ledger {
        Ledger {
            boot: boot.to_owned(),
            ..Ledger::default()
        }
    }

    /// The ledger that a former run left, if it was of this boot; else an
    /// empty one. Bytes that are no ledger are taken for none: then nothing
    /// is ours, which removes nothing of anybody.
    #[must_use]
    pub fn of_boot(bytes: Option<&[u8]>, boot: &str) -> Ledger {
        bytes
            .and_then(Ledger::from_bytes)
            .filter(|ledger| ledger.boot == boot)
            .unwrap_or_else(|| Ledger::new(boot))
    }

    /// Whether nothing is ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.rules.is_empty()
    }

    /// The rules that we loaded, normalised, in the order of loading.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The settings that we changed, in the order of changing.
    #[must_use]
    pub fn changed(&self) -> &[Changed] {
        &self.changed
    }

    /// Whether a rule is ours. It must be normalised.
    #[must_use]
    pub fn owns(&self, rule: &Rule) -> bool {
        self.rules.contains(rule)
    }

    /// Replaces the list of our rules.
    pub(crate) fn set_rules(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
    }

    /// Takes in what another ledger of this boot calls ours.
    pub(crate) fn adopt(&mut self, other: &Ledger) {
        for rule in &other.rules {
            if !self.owns(rule) {
                self.rules.push(rule.clone());
            }
        }
        for changed in &other.changed {
            if !self.changed.iter().any(|known| known.setting == changed.setting) {
                self.changed.push(*changed);
            }
        }
    }

    /// A rule is no longer ours.
    pub(crate) fn forget_rule(&mut self, rule: &Rule) {
        self.rules.retain(|ours| ours != rule);
    }

    /// Notes a change of a setting that reads `now`. What it was before our
    /// *first* change stays, unless somebody else changed it since.
    pub(crate) fn note(&mut self, setting: SettingKind, now: u32, after: u32) {
        if let Some(known) = self.changed.iter_mut().find(|known| known.setting == setting) {
            if known.after != now {
                known.before = now;
            }
            known.after = after;
        } else {
            self.changed.push(Changed {
                setting,
                before: now,
                after,
            });
        }
        // Set to what it was anyway: nothing of ours is left.
        self.changed.retain(|known| known.before != known.after);
    }

    /// A setting is no longer ours.
    pub(crate) fn forget_setting(&mut self, setting: SettingKind) {
        self.changed.retain(|known| known.setting != setting);
    }

    /// The ledger as bytes for the source's memory: about 40 bytes a rule.
    ///
    /// ```text
    /// u8 version, u8 length of boot id, boot id
    /// u8 count of settings, each: u8 place in SettingKind::ALL, u32 before, u32 after
    /// u32 count of rules, each: u32 length, compact rule        (little endian)
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let boot = self.boot.as_bytes();
        let boot = boot.get(..boot.len().min(255)).unwrap_or_default();
        let mut out = vec![VERSION, boot.len() as u8];
        out.extend_from_slice(boot);
        out.push(self.changed.len() as u8);
        for changed in &self.changed {
            let mut kinds = SettingKind::ALL.iter();
            let place = kinds.position(|kind| *kind == changed.setting);
            out.push(place.unwrap_or_default() as u8);
            out.extend_from_slice(&changed.before.to_le_bytes());
            out.extend_from_slice(&changed.after.to_le_bytes());
        }
        // Rules that have no compact form cannot have been loaded either.
        let rules: Vec<Vec<u8>> = self.rules.iter().filter_map(|rule| rule.to_compact().ok()).collect();
        out.extend_from_slice(&(rules.len() as u32).to_le_bytes());
        for rule in rules {
            out.extend_from_slice(&(rule.len() as u32).to_le_bytes());
            out.extend_from_slice(&rule);
        }
        out
    }

    /// Reads the bytes; `None` if they are no ledger of a known form.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Ledger> {
        let input = &mut bytes;
        if byte(input)? != VERSION {
            return None;
        }
        let boot_len = usize::from(byte(input)?);
        let boot = String::from_utf8(cut(input, boot_len)?.to_vec()).ok()?;
        let mut changed = Vec::new();
        for _ in 0..byte(input)? {
            let setting = *SettingKind::ALL.get(usize::from(byte(input)?))?;
            changed.push(Changed {
                setting,
                before: number(input)?,
                after: number(input)?,
            });
        }
        let count = number(input)? as usize;
        if count > MAX_RULES {
            return None;
        }
        let mut rules = Vec::new();
        for _ in 0..count {
            let len = number(input)? as usize;
            rules.push(Rule::from_compact(cut(input, len)?).ok()?.normalised());
        }
        input.is_empty().then_some(Ledger { boot, changed, rules })
    }
}

fn cut<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(head)
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    cut(input, 1)?.first().copied()
}

fn number(input: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(cut(input, 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
