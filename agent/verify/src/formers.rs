//! Two small files of a generation that took the place of another: they repeat for the agent what its events say, signed.

use crate::accepted::Told;
use crate::files::{Generation, read_text};
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
        Told::Accepted(_) => None,
    });
    compare(generation, FORMER, begun.collect(), report)?;
    let accepted = told.iter().filter_map(|(_, told)| match told {
        Told::Accepted(by) => Some(format!("{}\n", by.reason)),
        Told::Begun(_) => None,
    });
    compare(generation, ACCEPTED, accepted.collect(), report)
}

fn compare(generation: &Generation, file: &str, right: Vec<String>, report: &mut Report) -> Result<(), CouldNot> {
    let place = generation.place(file);
    let text = read_text(&generation.dir.join(file)).map_err(|error| CouldNot::new(&place, error))?;
    if let Some(text) = text
        && !right.is_empty()
        && !right.contains(&text)
    {
        report.fault(Fault::of(place, "does not say what the events of this generation say"));
    }
    Ok(())
}

/// The number of the generation with this origin.
fn number(origin: &str) -> &str {
    origin.rsplit_once("/gen/").map_or("1", |(_, number)| number)
}
