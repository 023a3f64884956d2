//! Which generations there must be; and two small files of one that took the place of another, which repeat for the
//! agent what its events say, signed.

use std::io;

use auditmon_journal::format::{Kind, RecordIter};
use auditmon_journal::inspect::{FIRST_FRAME, Look, SegmentFile};

use crate::accepted::{Newer, Told};
use crate::files::{Generation, names, number_in, open, read_text};
use crate::report::{CouldNot, Fault, Report};

/// Which generation it took the place of: its number, where it ended, and why it was given up.
const FORMER: &str = "former";
/// Why somebody accepted that.
const ACCEPTED: &str = "accepted";

/// Compares them with what the generation says, as far as that is known.
pub(crate) fn check(generation: &Generation, told: &[(u64, Told)], report: &mut Report) -> Result<(), CouldNot> {
    let begun = told.iter().filter_map(|(_, told)| match told {
        Told::Begun(former) => {
            let (end, why) = former.end.as_ref()?;
            Some(format!("{} {end} {why}\n", number(&former.origin)))
        }
        Told::Accepted(_) | Told::Lacking(_) => None,
    });
    let begun: Vec<String> = begun.collect();
    if !compare(generation, FORMER, &begun, report)? && !begun.is_empty() {
        let what = "is missing: sinks that were behind are given nothing more of the former generation";
        report.fault(Fault::of(generation.place(FORMER), what));
    }
    let accepted = told.iter().filter_map(|(_, told)| match told {
        Told::Accepted(by) => Some(format!("{}\n", by.reason)),
        Told::Begun(_) | Told::Lacking(_) => None,
    });
    let accepted: Vec<String> = accepted.collect();
    if compare(generation, ACCEPTED, &accepted, report)? && accepted.is_empty() {
        report.unseen(format!(
            "who accepted that generation {} took the place of another: {} is there, and no signed event that says so \
             can be read",
            generation.number,
            generation.place(ACCEPTED)
        ));
    }
    Ok(())
}

/// Leaves out the last ones that were never begun: a crash, or a full disk, came before their first event. The agent goes
/// on with the one before, as if they weren't there. They are returned.
pub(crate) fn leave_unbegun(found: &mut Vec<Generation>, report: &mut Report) -> Result<Vec<Generation>, CouldNot> {
    let mut unbegun = Vec::new();
    while let [_, .., last] = found.as_slice() {
        if has_begun(last).map_err(|error| CouldNot::new(last.place("seg"), error))? {
            break;
        }
        report.note(format!(
            "journal/{}: a generation that was never begun: it has no event, and the agent goes on with the one before",
            last.number
        ));
        unbegun.extend(found.pop());
    }
    Ok(unbegun)
}

/// Whether anything is left of an event, or says that there was one.
fn has_begun(generation: &Generation) -> io::Result<bool> {
    let there = |name: &str| generation.dir.join(name).symlink_metadata().is_ok();
    if ["checkpoint", "checkpoints", ACCEPTED].into_iter().any(there) {
        return Ok(true);
    }
    if !names(&generation.dir.join("tile"))?.is_empty() {
        return Ok(true);
    }
    let segments = generation.segments()?;
    let Some((first, parts)) = segments.last_key_value() else {
        return Ok(false);
    };
    if *first > 0 || parts.leaf || parts.sub {
        return Ok(true);
    }
    match open(&generation.dir.join(Generation::seg_name(0))) {
        Ok(file) => has_event(SegmentFile::of(file)?),
        // What can't be read is no sign that nothing was there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a segment has anything but what sources remember.
fn has_event(mut segment: SegmentFile) -> io::Result<bool> {
    let mut at = FIRST_FRAME;
    loop {
        match segment.look(at)? {
            Look::Frame(head) => {
                let mut records = RecordIter::new(segment.records(at, &head)?).flatten();
                if records.any(|record| record.prefix.kind != Kind::State) {
                    return Ok(true);
                }
                at += head.len() as u64;
            }
            Look::Zero | Look::End => return Ok(false),
            Look::Bad => return Ok(true),
        }
    }
}

/// Tells of generations that are missing: none is ever removed. Their numbers may have gaps, since none is given twice
/// that a sink has seen.
pub(crate) fn missing(found: &[Generation], newer: &Newer, report: &mut Report) -> Result<(), CouldNot> {
    if found.first().is_some_and(|oldest| oldest.number > 1) {
        report.fault(Fault::of("journal/1", "missing: every journal begins with it"));
    }
    for generation in found.iter().filter(|generation| generation.number > 1) {
        let told = newer.formers(generation.number);
        let mut formers: Vec<u32> = told
            .filter_map(|origin| number_in(origin, &generation.origin))
            .collect();
        if formers.is_empty() {
            let place = generation.place(FORMER);
            let text = read_text(&generation.dir.join(FORMER)).map_err(|error| CouldNot::new(place, error))?;
            formers.extend(text.and_then(|text| text.split(' ').next()?.parse::<u32>().ok()));
        }
        if formers.is_empty() {
            report.unseen(format!(
                "which generation {} took the place of, and whether that is still here: neither an event nor a row nor its file `{FORMER}` says so",
                generation.origin
            ));
        }
        for former in formers {
            if former > 1 && !found.iter().any(|there| there.number == former) {
                let what = format!("missing: generation {} took its place", generation.number);
                report.fault(Fault::of(format!("journal/{former}"), what));
            }
        }
    }
    Ok(())
}

/// Whether the file is there; it must be one of what is `right`, if anything is known of that.
fn compare(generation: &Generation, file: &str, right: &[String], report: &mut Report) -> Result<bool, CouldNot> {
    let place = generation.place(file);
    let text = read_text(&generation.dir.join(file)).map_err(|error| CouldNot::new(&place, error))?;
    if let Some(text) = &text
        && !right.is_empty()
        && !right.contains(text)
    {
        report.fault(Fault::of(place, "does not say what the events of this generation say"));
    }
    Ok(text.is_some())
}

/// The number of the generation with this origin.
fn number(origin: &str) -> &str {
    origin.rsplit_once("/gen/").map_or("1", |(_, number)| number)
}
