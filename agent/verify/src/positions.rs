//! Positions of sinks: what each remembers of the journal.

use std::path::Path;

use auditmon_journal::format::Position;
use auditmon_merkle::Hash;

use crate::accepted::Newer;
use crate::files::{Generation, names, number_in, read};
use crate::generation::Remembered;
use crate::report::{CouldNot, Fault, Report};
use crate::rows::Database;

/// More than a position file has.
const MOST: u64 = 4096;

/// All positions, by the generation that each is in.
#[derive(Default)]
pub(crate) struct Positions {
    known: Vec<(u32, Remembered)>,
    nowhere: Vec<Nowhere>,
}

/// A position in a generation of this journal that isn't here.
struct Nowhere {
    place: String,
    generation: u32,
    seq: u64,
}

impl Positions {
    /// Those of sinks without a memory of their own.
    pub(crate) fn read(data_dir: &Path, found: &[Generation], report: &mut Report) -> Result<Self, CouldNot> {
        let dir = data_dir.join("positions");
        let mut positions = Self::default();
        for name in names(&dir).map_err(|error| CouldNot::new("positions", error))? {
            let place = format!("positions/{name}");
            if name.ends_with(".new") {
                continue;
            }
            let Some(bytes) = read(&dir.join(&name), MOST).map_err(|error| CouldNot::new(&place, error))? else {
                continue;
            };
            match Position::parse(&bytes) {
                Ok(position) => {
                    let (origin, hash) = (position.origin, Some(position.leaf_hash));
                    if !positions.add(place.clone(), &origin, position.seq, hash, found, report) {
                        let what = format!("a position in another journal, `{}`", origin.escape_debug());
                        report.fault(Fault::of(place, what));
                    }
                }
                Err(error) => report.fault(Fault::of(place, format!("no position: {error}"))),
            }
        }
        Ok(positions)
    }

    /// The store's own. It may have positions in journals of other agents.
    pub(crate) fn add_stored(&mut self, database: &Database, found: &[Generation], report: &mut Report) {
        for stored in &database.stored {
            let place = format!("{} (position)", database.place);
            self.add(place, &stored.origin, stored.seq, stored.leaf_hash, found, report);
        }
    }

    /// Takes a position; false if it is in another journal.
    fn add(
        &mut self,
        place: String,
        origin: &str,
        seq: u64,
        hash: Option<[u8; 32]>,
        found: &[Generation],
        report: &mut Report,
    ) -> bool {
        let Some(generation) = found.iter().find(|generation| generation.origin == origin) else {
            let number = found.first().and_then(|first| number_in(origin, &first.origin));
            self.nowhere
                .extend(number.map(|generation| Nowhere { place, generation, seq }));
            return number.is_some();
        };
        let Some(hash) = hash.filter(|hash| seq > 0 || *hash == [0; 32]) else {
            report.fault(Fault::of(place, "its leaf hash is none"));
            return true;
        };
        let remembered = Remembered {
            place,
            seq,
            hash: Hash::from(hash),
        };
        if seq > 0 {
            self.known.push((generation.number, remembered));
        }
        true
    }

    /// Those in one generation.
    pub(crate) fn of(&self, generation: u32) -> Vec<Remembered> {
        let of = self.known.iter().filter(|(number, _)| *number == generation);
        of.map(|(_, remembered)| remembered.clone()).collect()
    }

    /// Tells of those in a generation that isn't here: a sink has seen it, so it was there. A start goes on behind its
    /// number, and whoever accepts that accepts that it is gone.
    pub(crate) fn tell_nowhere(&self, found: &[Generation], newer: &Newer, report: &mut Report) {
        for Nowhere { place, generation, seq } in &self.nowhere {
            let what = format!("the sink has seen {seq} records of generation {generation}, which the journal hasn't");
            match newer.accepted_behind(*generation) {
                Some(words) => report.note(format!("{place}: {what}: {words}")),
                None => {
                    let newest = found.last().map_or(0, |newest| newest.number);
                    let why = match *generation > newest {
                        true => "it was put back to an older state",
                        false => "it was removed, or put back to an older state",
                    };
                    report.fault(Fault::of(place, format!("{what}: {why}")));
                }
            }
        }
    }
}
