//! One record after the other, by all that is known about it, and signed roots as they come.

use auditmon_journal::format::{Kind, LEAF, PREFIX, Prefix, Record};
use auditmon_merkle::{TILE_WIDTH, TileId, leaf_hash};

use super::Check;
use crate::files::Generation;
use crate::letters::Letter;
use crate::report::{CouldNot, Fault};
use crate::row_stream::{Content, OTHER};
use crate::tiles::TileFile;
use crate::trees::{Said, Verdict, Witness};

/// What is said of a position behind another record.
pub(super) const NOT_SEEN_BEFORE: &str = "not the record that the sink has seen before its position";

impl Check<'_> {
    /// One record, by all that is known about it.
    pub(super) fn step(&mut self, record: Option<&Record<'_>>, leaf: Option<&[u8; LEAF]>) -> Result<(), CouldNot> {
        let seq = self.seq;
        let mut said = Said::default();
        let mut prefix = None;
        if let Some(record) = record {
            let made = record.leaf();
            said.hashes[0] = Some(leaf_hash(&made));
            said.ids[0] = Some(record.prefix.event_id);
            said.hashes[1] = leaf.map(|leaf| {
                if *leaf == made {
                    said.hashes[0].unwrap_or_else(|| leaf_hash(leaf))
                } else {
                    leaf_hash(leaf)
                }
            });
            prefix = Some(record.prefix);
        } else if let Some(leaf) = leaf {
            said.hashes[1] = Some(leaf_hash(leaf));
            prefix = leaf
                .first_chunk::<PREFIX>()
                .and_then(|prefix| Prefix::parse(prefix).ok());
        }
        said.ids[1] = prefix.map(|prefix| prefix.event_id);
        self.begun |= prefix.is_some_and(|prefix| prefix.kind != Kind::State);
        if let Some(prefix) = prefix.filter(|_| seq >= self.covered) {
            let at = prefix.received_ns;
            let received = self.unsigned.received.get_or_insert((at, at));
            *received = (received.0.min(at), received.1.max(at));
        }
        let mut length = None;
        said.hashes[2] = self.tiles.hash(seq, &mut length).map_err(self.could_not("tile"))?;
        if let Some((tile, length)) = length {
            let what = format!("{length} bytes: a full tile has {}", tile.bytes());
            self.report.fault(Fault::of(self.place(tile), what).lasting());
        }
        let content = match record {
            Some(record) if record.payload().is_none() => Content::Erased,
            None if !self.meanwhile => Content::Gone,
            _ => Content::There,
        };
        if let Some(mut rows) = self.rows.take() {
            let told = rows.at(
                seq,
                prefix.as_ref(),
                content,
                &mut said,
                &mut self.absences,
                self.report,
            );
            self.told.extend(told.map(|told| (seq, told)));
            self.rows = Some(rows);
        }
        self.trees.push(seq, self.segment, &said);
        if let Some(as_accepted) = &mut self.as_accepted {
            as_accepted.push(said.hashes[0].or(said.hashes[1]));
        }
        while let Some(remembered) = self.remembered.last()
            && remembered.seq == seq + 1
        {
            let known = said.hashes[0].or(said.hashes[1]).or(said.hashes[2]);
            if known.is_some_and(|known| known != remembered.hash) {
                self.report.fault(Fault::at(
                    &remembered.place,
                    seq,
                    seq,
                    said.ids[0].or(said.ids[1]),
                    NOT_SEEN_BEFORE,
                ));
            }
            self.remembered.pop();
        }
        self.compare_letters(seq, &said);
        self.seq += 1;
        self.report.counts.records += 1;
        if self.seq.is_multiple_of(u64::from(TILE_WIDTH) * u64::from(TILE_WIDTH)) {
            self.compare_tiles()?;
        }
        if self.heads.size().is_some_and(|size| size <= self.seq) {
            self.compare_roots()?;
        }
        Ok(())
    }

    /// Dead letters of a record, by the leaf that each says its event has.
    fn compare_letters(&mut self, seq: u64, said: &Said) {
        while let Some((letter, rest)) = self.letters.split_last()
            && letter.seq <= seq
        {
            self.letters = rest;
            // The row only counts where the journal has nothing.
            let [own @ .., row] = &said.hashes;
            let known = match own.iter().all(Option::is_none) {
                true => std::slice::from_ref(row),
                false => own,
            };
            if letter.seq < seq || known.iter().all(Option::is_none) {
                self.unseen_letters += 1;
                continue;
            }
            self.report.counts.letters += 1;
            if !known.contains(&Some(letter.hash)) {
                let id = said.ids.iter().flatten().next().copied();
                self.letter_fault(*letter, id, "not the event that the journal has");
            }
        }
    }

    fn letter_fault(&mut self, letter: Letter, id: Option<[u8; 16]>, what: &str) {
        let place = self.setting.letters.files.get(usize::from(letter.file));
        let place = place.map_or("dlq", String::as_str);
        let what = format!("line {}: {what}", letter.line);
        self.report.fault(Fault::at(place, letter.seq, letter.seq, id, what));
    }

    /// Dead letters that are left when the journal, of which `end` records were checked and `written` are there, is over.
    pub(super) fn letters_left(&mut self, end: u64, written: u64) {
        for letter in std::mem::take(&mut self.letters) {
            if letter.seq < end {
                self.unseen_letters += 1;
            } else if letter.seq >= written {
                self.letter_fault(
                    *letter,
                    None,
                    "the journal hasn't this event: it was cut off or put back",
                );
            }
        }
        if self.unseen_letters > 0 {
            self.report.unseen(format!(
                "{}: whether {} dead letters are as they were: of their records not even a leaf is left",
                self.setting.generation.origin, self.unseen_letters
            ));
        }
    }

    /// Tiles above level 0, as they fill up.
    pub(super) fn compare_tiles(&mut self) -> Result<(), CouldNot> {
        let Some(tiler) = self.trees.tiler() else { return Ok(()) };
        let mut wrong: Vec<(TileId, String)> = Vec::new();
        for (tile, bytes) in tiler.filled().filter(|(tile, _)| tile.level() > 0) {
            match self.tiles.read(tile).map_err(self.could_not(tile))? {
                TileFile::Full(found) if found == bytes.as_slice() => {}
                TileFile::Missing => {}
                TileFile::Full(_) => wrong.push((tile, "not the hashes of the tiles below".to_owned())),
                TileFile::Length(length) => {
                    wrong.push((tile, format!("{length} bytes: a full tile has {}", tile.bytes())))
                }
            }
        }
        for (tile, what) in wrong {
            let leaves = tile.leaves();
            self.report
                .fault(Fault::at(self.place(tile), leaves.start, leaves.end - 1, None, what).lasting());
        }
        Ok(())
    }

    /// Compares the tree with all heads of its size.
    pub(super) fn compare_roots(&mut self) -> Result<(), CouldNot> {
        while self.heads.size().is_some_and(|size| size <= self.seq) {
            let Some(head) = self.heads.take(self.report)? else {
                break;
            };
            if head.tree.size < self.seq {
                continue;
            }
            match self.trees.compare(&head.tree, &mut self.wrong) {
                Verdict::Holds => {
                    self.report.counts.checkpoints += 1;
                    self.good = Some(head);
                    self.tell_wrong();
                    if let Some(rows) = &mut self.rows {
                        rows.differing.prove();
                    }
                }
                Verdict::Unknown => {}
                Verdict::Differs => {
                    let from = self.good.as_ref().map_or(0, |good| good.tree.size);
                    let what = match &self.good {
                        Some(good) => format!(
                            "not the records that were signed: the checkpoint of size {} holds, that of size {} ({}) doesn't",
                            good.tree.size, head.tree.size, head.place
                        ),
                        None => format!(
                            "not the records that were signed: the first checkpoint, of size {} ({}), doesn't hold",
                            head.tree.size, head.place
                        ),
                    };
                    let last = head.tree.size.saturating_sub(1).max(from);
                    self.bad = true;
                    self.report.fault(Fault::at(self.place("seg"), from, last, None, what));
                }
            }
            self.tell_wrong();
        }
        Ok(())
    }

    /// Who was found to say something else than the others.
    pub(super) fn tell_wrong(&mut self) {
        for wrong in std::mem::take(&mut self.wrong) {
            let run = &wrong.run;
            let (place, what) = match wrong.witness {
                Witness::Record => (
                    self.place(Generation::seg_name(run.segment)),
                    "not the record that was written: its leaf was another",
                ),
                Witness::Leaf => (
                    self.place(Generation::leaf_name(run.segment)),
                    "not the leaf of the record",
                ),
                Witness::Tile => {
                    let tile = TileId::new(0, run.first / u64::from(TILE_WIDTH), TILE_WIDTH);
                    let name = tile.map_or_else(|| "tile".to_owned(), |tile| tile.to_string());
                    (self.place(name), "not the hash of the record's leaf")
                }
                Witness::Row => {
                    let Some(rows) = &mut self.rows else { continue };
                    let fault = Fault::at(rows.place(), run.first, run.last, wrong.id, OTHER);
                    rows.differing.add(self.report.list(fault), run.last);
                    continue;
                }
            };
            let mut fault = Fault::at(place, run.first, run.last, wrong.id, what);
            // Of another history are records; leaf files and tiles go with them.
            fault.lasting = wrong.witness != Witness::Record;
            self.report.fault(fault);
        }
    }
}
