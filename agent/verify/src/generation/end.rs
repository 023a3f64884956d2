//! The journal is over: what is signed and isn't there, how it ends, what is absent.

use super::Check;
use crate::absences::MAX_RANGES;
use crate::files::Generation;
use crate::heads::Heads;
use crate::report::{CouldNot, Fault, NewestHead};
use crate::segment::Tail;

impl Check<'_> {
    pub(super) fn finish(mut self, tail: Tail) -> Result<(), CouldNot> {
        self.trees.finish(&mut self.wrong);
        self.tell_wrong();
        let (any, spoilt) = (self.heads.any, self.heads.spoilt);
        let origin = self.setting.generation.origin.clone();
        let checkpoint = self.place("checkpoint");
        let heads = std::mem::replace(&mut self.heads, Heads::none());
        let largest = heads.largest(self.report)?;
        let end = self.seq;
        if let Some(head) = largest.as_ref().filter(|head| head.tree.size > end) {
            let what =
                format!("signed, and not in the journal, which ends before seq {end}: it was cut off or put back");
            self.report
                .fault(Fault::at(&head.place, end, head.tree.size - 1, None, what));
        }
        if self.bad {
            self.report.unseen(format!(
                "{origin}: whether what follows the first checkpoint that doesn't hold is as it was signed"
            ));
        } else if !self.trees.is_whole() {
            self.report
                .unseen(format!("{origin}: whether the checkpoints behind missing leaves hold"));
        }
        self.tail(&checkpoint, tail, (any, spoilt), end);
        // What others go by was read before the end of what a running agent has written.
        let written = end.max(self.heard);
        for remembered in std::mem::take(&mut self.remembered) {
            if remembered.seq > written {
                let what = format!(
                    "the sink has seen {} records more than the journal has: they were cut off, or the directory was put back",
                    remembered.seq - written
                );
                self.report
                    .fault(Fault::at(&remembered.place, written, remembered.seq - 1, None, what));
            }
        }
        self.letters_left(end, written);
        if let Some(rows) = self.rows.take() {
            rows.finish(written, self.signed_below(end), &self.absences, self.report)?;
        }
        self.tell_collapsed();
        self.absent(&origin, end);
        if let Some(good) = &self.good
            && self.report.newest.is_none()
        {
            self.report.newest = Some(NewestHead {
                origin,
                size: good.tree.size,
                root: good.tree.root.to_string(),
            });
        }
        Ok(())
    }

    /// How the journal ends, and whether that is signed: whether there is any checkpoint, and whether the newest one
    /// proves nothing.
    pub(super) fn tail(&mut self, checkpoint: &str, tail: Tail, (any, spoilt): (bool, bool), end: u64) {
        let running = self.setting.running && self.setting.newest;
        let ended = tail.cut;
        if let Some((offset, length)) = tail.torn.filter(|_| !running) {
            let place = self.place(Generation::seg_name(self.segment));
            if ended || self.covered > end || !self.setting.newest {
                let what =
                    format!("offset {offset}: {length} bytes that are no frame, though the last run ended in order");
                self.report.fault(Fault::at(place, end, end, None, what));
            } else {
                self.report.note(format!(
                    "{place}: offset {offset}: an unfinished write of {length} bytes; nothing of it was answered, the next start cuts it"
                ));
            }
        }
        if !any {
            if self.setting.signs && ended && tail.marked && end > 0 {
                self.report
                    .fault(Fault::of(checkpoint, "missing, though the last run ended in order"));
            }
            self.report.unseen(format!(
                "{}: whether anything was changed and everything recomputed: there is no checkpoint, so nothing is signed",
                self.setting.generation.origin
            ));
        } else if self.covered < end && !running {
            if ended && tail.marked && self.setting.newest {
                let what = match spoilt {
                    true => {
                        "under no checkpoint that proves anything, though the last run ended in order: the newest one was changed"
                    }
                    false => "not signed, though the last run ended in order: an older checkpoint was put back",
                };
                self.report
                    .fault(Fault::at(checkpoint, self.covered, end - 1, None, what));
            } else {
                let received = self.unsigned.received.unwrap_or_default();
                self.report.unseen(format!(
                    "{}: whether seq {} to {} are as they were written: the run ended before they were signed, or later checkpoints were removed; they are {} records of {} s (starts of the agent: {}), and one kept elsewhere, given with --against, tells",
                    self.setting.generation.origin,
                    self.covered,
                    end - 1,
                    end - self.covered,
                    received.1.saturating_sub(received.0).div_ceil(1_000_000_000),
                    self.unsigned.starts
                ));
            }
        }
    }

    /// Up to where declarations before `end` count: as far as they are signed, where anything is.
    pub(super) fn signed_below(&self, end: u64) -> u64 {
        match self.heads_covered() {
            0 => u64::MAX,
            covered => covered.min(end),
        }
    }

    /// What is absent, and whether the journal said so.
    pub(super) fn absent(&mut self, origin: &str, end: u64) {
        let covered = self.signed_below(end);
        let expired = self.absences.explain_expired(covered);
        for (first, last) in expired.silent {
            let what = "the payloads are gone, and no retention event says so";
            self.report
                .fault(Fault::at(self.place("seg"), first, last, None, what).lasting());
        }
        let (records, declarations) = self.absences.dropped();
        if records > 0 {
            self.report.unseen(format!(
                "{origin}: whether it was declared that {records} further records are absent: absent ones lie in more than {MAX_RANGES} places"
            ));
        }
        if declarations > 0 {
            self.report.unseen(format!(
                "{origin}: what {declarations} further declarations say, of more than {MAX_RANGES}: so what is called tampered with here may be declared"
            ));
        }
        for (first, last) in &expired.declared {
            self.report.note(format!(
                "{origin}: payloads of seq {first} to {last} were removed by retention, as declared"
            ));
        }
        for (first, last) in &expired.before {
            self.report.unseen(format!(
                "{origin}: whether the payloads of seq {first} to {last} were removed by retention: what declared it has itself been removed"
            ));
        }
        for (first, last) in self.absences.unexplained_vanished(covered) {
            self.report.unseen(format!(
                "{origin}: whether retention removed the payloads of seq {first} to {last}: they went while this was checked; check again"
            ));
        }
        let erased = self.absences.explain_erased(covered);
        for (first, last) in erased.silent {
            let name = Generation::seg_name(self.segment_of(first));
            let what = "in erased form, and no erasure event says so";
            let id = self.absences.id(first);
            self.report
                .fault(Fault::at(self.place(name), first, last, id, what).lasting());
        }
        for (first, last) in &erased.declared {
            self.report
                .note(format!("{origin}: seq {first} to {last} were erased, as declared"));
        }
    }

    pub(super) fn heads_covered(&self) -> u64 {
        self.covered
    }

    pub(super) fn segment_of(&self, seq: u64) -> u64 {
        let segments = self.setting.generation.segments().unwrap_or_default();
        segments.range(..=seq).next_back().map_or(0, |(first, _)| *first)
    }
}
