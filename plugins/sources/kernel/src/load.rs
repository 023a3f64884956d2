//! Loading rules: what is wanted, what is there, what is ours, and the least
//! that has to be done about it.
//!
//! Two steps, so that the ledger is safe on disk before the kernel changes:
//! [`Plan::make`] looks and decides, [`Plan::carry_out`] does it.

use std::time::Duration;

use audit_rule::{Fault, Host, Parsed, Rule, Statement};

use crate::control::{Control, Loaded};
use crate::error::ControlError;
use crate::ledger::Ledger;
use crate::status::{SettingKind, Status};

/// Changes made at once; further ones are spaced, because each deletion
/// waits for every processor, and large reloads have frozen kernels.
const BURST: usize = 50;
/// Space between further changes: 50 a second.
const SPACE: Duration = Duration::from_millis(20);

/// What a set of rules lines comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Rules in order, none twice.
    pub rules: Vec<Rule>,
    /// Settings, the last word on each.
    pub settings: Vec<(SettingKind, u32)>,
    /// Go on after a rule that the kernel refuses (`-i`, `-c`).
    pub lenient: bool,
    /// What works but hardly as meant.
    pub warnings: Vec<Fault>,
}

impl Wanted {
    /// Takes in what was parsed from one file or list, in order. `-D` takes
    /// back the rules before it; what others loaded stays in any case.
    pub fn add(&mut self, parsed: Parsed) {
        self.warnings.extend(parsed.warnings);
        for (line, statement) in parsed.statements {
            match statement {
                Statement::Add(rule) => self.add_rule(line, *rule),
                Statement::DeleteAll { key: None } => self.rules.clear(),
                Statement::DeleteAll { key: Some(key) } => {
                    self.rules.retain(|rule| rule.keys().all(|known| known != key));
                }
                Statement::BacklogLimit(value) => self.set(SettingKind::BacklogLimit, value),
                Statement::Failure(value) => self.set(SettingKind::Failure, value),
                Statement::Enabled(value) => self.set(SettingKind::Enabled, value),
                Statement::RateLimit(value) => self.set(SettingKind::RateLimit, value),
                Statement::BacklogWaitTime(value) => {
                    self.set(SettingKind::BacklogWaitTime, value);
                }
                Statement::IgnoreErrors | Statement::ContinueOnErrors => self.lenient = true,
            }
        }
    }

    fn add_rule(&mut self, line: usize, rule: Rule) {
        let known = rule.normalised();
        if self.rules.iter().any(|other| other.normalised() == known) {
            self.warnings.push(Fault {
                line,
                what: format!("the same rule stands twice: {rule}"),
                right: String::new(),
            });
        } else {
            self.rules.push(rule);
        }
    }

    /// Sets a setting, unless a rules line has.
    pub fn set_default(&mut self, setting: SettingKind, value: u32) {
        if !self.settings.iter().any(|(known, _)| *known == setting) {
            self.settings.push((setting, value));
        }
    }

    /// Sets a setting; the last word counts.
    pub fn set(&mut self, setting: SettingKind, value: u32) {
        self.settings.retain(|(known, _)| *known != setting);
        self.settings.push((setting, value));
    }
}

/// What has to be done to get from what is loaded to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    add: Vec<Rule>,
    delete: Vec<Rule>,
    settings: Vec<(SettingKind, u32)>,
    lenient: bool,
    /// Rules that are wanted and were loaded by others, or stay from a
    /// former run of ours.
    pub present: usize,
    /// The configuration is locked: nothing will be changed.
    pub locked: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules added.
    pub added: usize,
    /// Rules of ours deleted.
    pub deleted: usize,
    /// What the kernel refused: the rule or setting, and why.
    pub failed: Vec<(String, ControlError)>,
    /// Not everything was tried, because the kernel had refused something.
    pub stopped: bool,
}

impl Plan {
    /// Compares. `ledger` says which loaded rules are ours; afterwards it
    /// says what will be ours, and has to be made durable before
    /// [`Plan::carry_out`].
    pub fn make(wanted: &Wanted, loaded: &[Loaded], status: &Status, ledger: &mut Ledger) -> Plan {
        let is_loaded = |rule: &Rule| {
            loaded
                .iter()
                .any(|known| matches!(known, Loaded::Rule(known) if **known == *rule))
        };
        // Ours, in the kernel's order of evaluation.
        let ours: Vec<Rule> = loaded
            .iter()
            .filter_map(|known| match known {
                Loaded::Rule(rule) if ledger.owns(rule) => Some((**rule).clone()),
                _ => None,
            })
            .collect();
        if status.is_locked() {
            let present = wanted.rules.iter().filter(|rule| is_loaded(&rule.normalised()));
            return Plan {
                add: Vec::new(),
                delete: Vec::new(),
                settings: Vec::new(),
                lenient: true,
                present: present.count(),
                locked: true,
            };
        }
        // Wanted, and not loaded by others.
        let mine: Vec<&Rule> = wanted
            .rules
            .iter()
            .filter(|rule| {
                let rule = rule.normalised();
                !is_loaded(&rule) || ours.contains(&rule)
            })
            .collect();
        let keep = kept(&mine, &ours);
        let add: Vec<Rule> = mine
            .iter()
            .filter(|rule| !keep.contains(&rule.normalised()))
            .map(|rule| (*rule).clone())
            .collect();
        let delete: Vec<Rule> = ours.iter().filter(|rule| !keep.contains(rule)).cloned().collect();
        let mut will_be = keep.clone();
        will_be.extend(add.iter().map(Rule::normalised));
        ledger.set_rules(will_be);
        let mut settings = Vec::new();
        for kind in SettingKind::ALL {
            let wish = wanted.settings.iter().find(|(known, _)| *known == kind);
            if let (Some((_, value)), Some(now)) = (wish, status.value(kind))
                && *value != now
            {
                ledger.note(kind, now, *value);
                settings.push((kind, *value));
            }
        }
        Plan {
            present: wanted.rules.len() - add.len(),
            add,
            delete,
            settings,
            lenient: wanted.lenient,
            locked: false,
        }
    }

    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.delete.is_empty() && self.settings.is_empty()
    }

    /// Does it: deletes, adds, then settings, switching on last. What the
    /// kernel refuses is taken out of the ledger. After a refused rule the
    /// rest is tried only if the rules said so (`-i`, `-c`).
    pub fn carry_out(self, control: &mut Control, ledger: &mut Ledger) -> Report {
        let mut report = Report::default();
        let mut pace = Pace::default();
        for rule in &self.delete {
            pace.step();
            match control.delete_rule(rule) {
                Ok(()) => report.deleted += 1,
                // Gone meanwhile: as wanted.
                Err(ControlError::Missing { .. }) => {}
                Err(error) => report.failed.push((rule.to_string(), error)),
            }
        }
        for rule in &self.add {
            if report.stopped {
                ledger.forget_rule(&rule.normalised());
                continue;
            }
            pace.step();
            match control.add_rule(rule) {
                Ok(()) => report.added += 1,
                Err(error) => {
                    // EEXIST: loaded by somebody since we looked.
                    ledger.forget_rule(&rule.normalised());
                    if !matches!(error, ControlError::Exists { .. }) {
                        report.failed.push((rule.to_string(), error));
                        report.stopped = !self.lenient;
                    }
                }
            }
        }
        for (setting, value) in self.settings {
            if let Err(error) = control.set(setting, value) {
                ledger.forget_setting(setting);
                let what = format!("{} = {value}", setting.name());
                report.failed.push((what, error));
            }
        }
        report
    }
}

/// Which of our loaded rules can stay. The first match decides, so order
/// counts: appended rules stay as far as they stand in the wanted order, and
/// prepended ones only if none is missing; the rest is deleted and added again.
fn kept(mine: &[&Rule], ours: &[Rule]) -> Vec<Rule> {
    let mut keep = Vec::new();
    for list in audit_rule::List::ALL {
        let wanted = |prepend: bool| {
            mine.iter()
                .filter(move |rule| rule.list == list && rule.prepend == prepend)
                .map(|rule| rule.normalised())
        };
        let front: Vec<Rule> = wanted(true).collect();
        let front_loaded: Vec<&Rule> = ours.iter().filter(|rule| front.contains(rule)).collect();
        // The last one prepended stands first.
        if front_loaded.iter().copied().eq(front.iter().rev()) {
            keep.extend(front.iter().cloned());
        }
        let back: Vec<Rule> = wanted(false).collect();
        let back_loaded = ours.iter().filter(|rule| back.contains(rule));
        let same = back_loaded.zip(&back).take_while(|(a, b)| a == b);
        keep.extend(same.map(|(rule, _)| rule.clone()));
    }
    keep
}

/// What [`restore`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Rules of ours removed.
    pub rules: usize,
    /// Settings put back.
    pub settings: usize,
    /// Settings that somebody else has changed since: left as they are.
    pub left: Vec<SettingKind>,
    /// What could not be undone, and why.
    pub failed: Vec<(String, ControlError)>,
}

/// Puts back exactly what the ledger names, and empties it as far as that
/// worked.
///
/// # Errors
/// If the kernel's state cannot be read.
pub fn restore(control: &mut Control, ledger: &mut Ledger) -> Result<Restored, ControlError> {
    let mut restored = Restored::default();
    if ledger.is_empty() {
        return Ok(restored);
    }
    let status = control.status()?;
    let mut pace = Pace::default();
    for rule in ledger.rules().to_vec() {
        pace.step();
        match control.delete_rule(&rule) {
            Ok(()) => restored.rules += 1,
            Err(ControlError::Missing { .. }) => {}
            Err(error) => {
                restored.failed.push((rule.to_string(), error));
                continue;
            }
        }
        ledger.forget_rule(&rule);
    }
    // Newest change first: switching on was the last one.
    for changed in ledger.changed().to_vec().into_iter().rev() {
        if status.value(changed.setting) != Some(changed.after) {
            restored.left.push(changed.setting);
            ledger.forget_setting(changed.setting);
            continue;
        }
        match control.set(changed.setting, changed.before) {
            Ok(()) => {
                restored.settings += 1;
                ledger.forget_setting(changed.setting);
            }
            Err(error) => {
                let what = format!("{} = {}", changed.setting.name(), changed.before);
                restored.failed.push((what, error));
            }
        }
    }
    Ok(restored)
}

#[derive(Default)]
struct Pace {
    steps: usize,
}

impl Pace {
    fn step(&mut self) {
        self.steps += 1;
        if self.steps > BURST {
            std::thread::sleep(SPACE);
        }
    }
}

/// Reads the rules lines of a configuration: files first, then the list.
/// Every fault of every file comes back, with where it is.
///
/// # Errors
/// One line a fault: place, what is wrong, what would be right.
pub fn parse_all<'a>(
    sources: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
    host: &dyn Host,
) -> Result<Wanted, Vec<String>> {
    let mut wanted = Wanted::default();
    let mut faults = Vec::new();
    for (name, text) in sources {
        match audit_rule::parse_file(&text, host) {
            Ok(parsed) => wanted.add(parsed),
            Err(more) => faults.extend(more.iter().map(|fault| format!("{name}: {fault}"))),
        }
    }
    if faults.is_empty() { Ok(wanted) } else { Err(faults) }
}

#[cfg(test)]
pub(crate) mod tests;
