//! Which generations there must be; and two small files of one that took the place of another, which repeat for the
//! agent what its events say, signed.

use crate::accepted::{Newer, Told};
use crate::files::{Generation, number_in, read_text};
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
