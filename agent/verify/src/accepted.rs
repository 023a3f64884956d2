//! A generation that was given up, and somebody who accepted that: what the next one says and signs of it.

use auditmon_journal::format::{Kind, Prefix, source_hash};
use auditmon_merkle::{Frontier, Hash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::event::members;
use crate::report::{Fault, Report};

/// What an event of the agent's own says about generations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// This generation took the place of another.
    Begun(Former),
    /// Somebody accepted that it did.
    Accepted(Acceptance),
    /// The store will never get these records of a former generation.
    Lacking(Lacking),
}

/// Ranges of records, first and last, of the generation with this origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lacking {
    origin: String,
    ranges: Vec<(u64, u64)>,
}

/// A generation as it was when it was given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Former {
    pub(crate) origin: String,
    pub(crate) entries: u64,
    /// Of what could be read; unknown where a leaf was missing.
    pub(crate) root: Option<Hash>,
    /// 1 + the largest seq that anything named there, and why it was given up; older versions didn't say.
    pub(crate) end: Option<(u64, String)>,
}

/// Who accepted a rollback, when and why, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Acceptance {
    user: String,
    time: String,
    pub(crate) reason: String,
}

impl Acceptance {
    /// The same in words, with the event that says so.
    fn words(&self, generation: u32, seq: u64) -> String {
        format!(
            "accepted by {} at {}: {} (event journal.rollback_accepted, generation {generation}, seq {seq})",
            self.user, self.time, self.reason
        )
    }
}

#[derive(Deserialize)]
struct Begun {
    former_origin: String,
    entries: u64,
    root: Option<String>,
    end: Option<u64>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Gap {
    sink: String,
    former_origin: Option<String>,
    ranges: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

/// Reads an event; `None` if it is about something else.
pub(crate) fn tells(prefix: &Prefix, canonical: &[u8]) -> Option<Told> {
    if prefix.kind != Kind::Agent || prefix.source != source_hash("agent") {
        return None;
    }
    let members = members(canonical)?;
    match &*members.event_name {
        "journal.new_generation" => {
            let data: Begun = serde_json::from_str(members.event_data.get()).ok()?;
            Some(Told::Begun(Former {
                origin: data.former_origin,
                entries: data.entries,
                root: match data.root {
                    Some(root) => Some(hash(&root)?),
                    None => None,
                },
                end: data.end.zip(data.reason),
            }))
        }
        "journal.rollback_accepted" => {
            let data: Reason = serde_json::from_str(members.event_data.get()).ok()?;
            Some(Told::Accepted(Acceptance {
                user: members.username.into_owned(),
                time: members.event_time.into_owned(),
                reason: data.reason,
            }))
        }
        "sink.gap" => {
            let data: Gap = serde_json::from_str(members.event_data.get()).ok()?;
            let origin = data.former_origin.filter(|_| data.sink == "store")?;
            let ranges = data.ranges;
            Some(Told::Lacking(Lacking { origin, ranges }))
        }
        _ => None,
    }
}

fn hash(text: &str) -> Option<Hash> {
    let bytes = STANDARD.decode(text).ok()?;
    <[u8; 32]>::try_from(bytes).ok().map(Hash::from)
}

/// What newer generations said, signed, in the order in which they are read: the newest first; and what they said of
/// the store's lacks without a signature.
#[derive(Default)]
pub(crate) struct Newer(Vec<(u32, u64, Told)>, Vec<Told>);

/// Ranges of records that the store will never get, as newer generations say.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Lacks {
    pub(crate) signed: Vec<(u64, u64)>,
    pub(crate) unsigned: Vec<(u64, u64)>,
}

impl Newer {
    pub(crate) fn add(&mut self, generation: u32, told: Vec<(u64, Told)>) {
        let told = told.into_iter().map(|(seq, told)| (generation, seq, told));
        self.0.extend(told);
    }

    /// What isn't signed there.
    pub(crate) fn add_unsigned(&mut self, told: Vec<(u64, Told)>) {
        let lacking = told.into_iter().filter(|(_, told)| matches!(told, Told::Lacking(_)));
        self.1.extend(lacking.map(|(_, told)| told));
    }

    /// What newer generations say that the store lacks of this one.
    pub(crate) fn lacking(&self, origin: &str) -> Lacks {
        let of = |told: &Told| match told {
            Told::Lacking(lacking) if lacking.origin == origin => lacking.ranges.clone(),
            _ => Vec::new(),
        };
        Lacks {
            signed: self.0.iter().flat_map(|(_, _, told)| of(told)).collect(),
            unsigned: self.1.iter().flat_map(of).collect(),
        }
    }

    /// Origins of those that a generation says it took the place of.
    pub(crate) fn formers(&self, generation: u32) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |(of, _, told)| match told {
            Told::Begun(former) if *of == generation => Some(former.origin.as_str()),
            _ => None,
        })
    }

    /// Who was the first to accept something in a generation behind this number, in words.
    pub(crate) fn accepted_behind(&self, number: u32) -> Option<String> {
        let accepted = self.0.iter().filter_map(|(generation, seq, told)| match told {
            Told::Accepted(by) if *generation > number => Some((*generation, *seq, by)),
            _ => None,
        });
        let first = accepted.min_by_key(|(generation, seq, _)| (*generation, *seq));
        first.map(|(generation, seq, by)| by.words(generation, seq))
    }

    /// How this generation was when it was given up, and the words of who was the first to accept that afterwards, if
    /// somebody has.
    pub(crate) fn of(&self, origin: &str) -> Option<(Former, Option<String>)> {
        let former = self.0.iter().find_map(|(generation, _, told)| match told {
            Told::Begun(former) if former.origin == origin && former.root.is_some() => Some((*generation, former)),
            _ => None,
        });
        let (begun, former) = former?;
        Some((former.clone(), self.accepted_behind(begun.saturating_sub(1))))
    }
}

/// Compares the records with what was accepted, as they come.
pub(crate) struct AsAccepted {
    former: Former,
    tree: Option<Frontier>,
}

impl AsAccepted {
    pub(crate) fn new(former: Former) -> Self {
        Self {
            former,
            tree: Some(Frontier::new()),
        }
    }

    /// The next record's leaf, if it is known.
    pub(crate) fn push(&mut self, hash: Option<Hash>) {
        match hash {
            Some(hash) => self.push_subtree(0, hash),
            None => self.lose(),
        }
    }

    /// The next `2^level` records, of which only the hash over all is left.
    pub(crate) fn push_subtree(&mut self, level: u8, hash: Hash) {
        if let Some(tree) = &mut self.tree
            && tree.push_subtree(level, hash).is_err()
        {
            self.lose();
        }
    }

    /// Records were passed whose leaves nobody knows.
    pub(crate) fn lose(&mut self) {
        self.tree = None;
    }

    /// Whether all records were those that were accepted.
    pub(crate) fn holds(&self) -> bool {
        self.tree
            .as_ref()
            .is_some_and(|tree| tree.size() == self.former.entries && Some(tree.root()) == self.former.root)
    }
}

/// How many faults there were before a generation was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    listed: usize,
    more: u64,
    more_lasting: u64,
}

impl Before {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            listed: report.faults.len(),
            more: report.more_faults,
            more_lasting: report.more_lasting,
        }
    }

    /// Whether there are no more.
    pub(crate) fn is_all_of(self, report: &Report) -> bool {
        report.faults.len() == self.listed && report.more_faults == self.more
    }
}

/// Removes the faults behind those of `before` that a rollback explains; how many they were, and the first that was
/// listed.
pub(crate) fn take_back(report: &mut Report, before: Before) -> (u64, Option<Fault>) {
    let found = report.faults.split_off(before.listed);
    let (lasting, explained): (Vec<_>, Vec<_>) = found.into_iter().partition(|fault| fault.lasting);
    report.faults.extend(lasting);
    let more_lasting = report.more_lasting - before.more_lasting;
    let count = explained.len() as u64 + (report.more_faults - before.more).saturating_sub(more_lasting);
    report.more_faults = before.more + more_lasting;
    (count, explained.into_iter().next())
}

/// Makes one note of the faults behind those of `before` that a rollback explains.
pub(crate) fn forgive(report: &mut Report, before: Before, origin: &str, words: &str) {
    let (count, first) = take_back(report, before);
    if count == 0 {
        return;
    }
    let first = first.map(|fault| fault.to_string());
    let first = first.as_deref().unwrap_or("not listed");
    let first = first.trim_start_matches("tampered: ");
    report.note(format!(
        "{origin}: {count} differences from what was signed or seen were {words}; the first: {first}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::MAX_FAULTS;

    #[test]
    fn what_no_rollback_explains_stays_where_it_is_only_counted() {
        let mut report = Report::default();
        report.fault(Fault::of("before", "of another generation"));
        let before = Before::of(&report);
        for seq in 1..MAX_FAULTS as u64 {
            report.fault(Fault::at("checkpoint", seq, seq, None, "cut off"));
        }
        report.fault(Fault::of("events.db", "removed").lasting());
        report.fault(Fault::of("checkpoint", "cut off"));
        forgive(&mut report, before, "h", "accepted");
        assert_eq!((report.faults.len(), report.more_faults), (1, 1));
        let counted = format!("h: {MAX_FAULTS} differences from what was signed or seen were accepted");
        assert!(report.notes[0].starts_with(&counted), "{:?}", report.notes);
        report.faults.clear();
        assert!(!report.holds());
    }

    #[test]
    fn what_the_store_lacks_is_told_apart_by_who_signed_it() {
        let lacking = |first| {
            Told::Lacking(Lacking {
                origin: "h".to_owned(),
                ranges: vec![(first, 9)],
            })
        };
        let former = Former {
            origin: "h".to_owned(),
            entries: 0,
            root: None,
            end: None,
        };
        let mut newer = Newer::default();
        newer.add(2, vec![(0, lacking(3))]);
        newer.add_unsigned(vec![(1, Told::Begun(former)), (2, lacking(5))]);
        let lacks = Lacks {
            signed: vec![(3, 9)],
            unsigned: vec![(5, 9)],
        };
        assert_eq!(newer.lacking("h"), lacks);
        assert_eq!(newer.lacking("h/gen/2"), Lacks::default());
        assert_eq!(newer.formers(2).count(), 0, "what isn't signed says nothing else");
    }

    #[test]
    fn an_acceptance_counts_from_the_generation_on_that_was_begun() {
        let former = |origin: &str| Former {
            origin: origin.to_owned(),
            entries: 0,
            root: Some(Frontier::new().root()),
            end: None,
        };
        let by = Acceptance {
            user: "auditmon".to_owned(),
            time: "then".to_owned(),
            reason: "why".to_owned(),
        };
        let mut newer = Newer::default();
        newer.add(3, vec![(7, Told::Begun(former("h/gen/2")))]);
        newer.add(2, vec![(0, Told::Begun(former("h"))), (5, Told::Accepted(by))]);
        let (_, words) = newer.of("h/gen/2").unwrap();
        assert!(words.is_none(), "generation 3 was accepted by nobody");
        let (of, words) = newer.of("h").unwrap();
        let words = words.unwrap();
        // What somebody accepts later says nothing else of it.
        let again = Acceptance {
            user: "auditmon".to_owned(),
            time: "later".to_owned(),
            reason: "another".to_owned(),
        };
        newer.0.insert(0, (3, 9, Told::Accepted(again)));
        assert_eq!(newer.of("h").unwrap().1.as_ref(), Some(&words));
        let (_, later) = newer.of("h/gen/2").unwrap();
        assert!(later.unwrap().starts_with("accepted by auditmon at later: another"));
        assert!(words.starts_with("accepted by auditmon at then: why"), "{words}");
        let mut as_accepted = AsAccepted::new(of);
        assert!(as_accepted.holds());
        as_accepted.push(Some(Frontier::new().root()));
        assert!(!as_accepted.holds(), "there is more now");
        as_accepted.lose();
        assert!(!as_accepted.holds());
    }
}
