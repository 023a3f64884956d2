//! A journal that was rewritten or put back goes on as a new generation;
//! sinks that keep their place in a file wait until somebody has accepted that.

use auditmon_core::event::{Outcome, Severity};
use auditmon_journal::Handle;

use crate::agent::{About, NotStored};

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// The event about it.
pub const ACCEPTED: About<'static> = ("journal.rollback_accepted", Outcome::Success, Severity::Warning);

/// Whether a reason can be kept.
///
/// # Errors
/// A sentence.
pub fn check(reason: &str) -> Result<(), String> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.contains(char::is_control) {
        return Err(format!("a reason is a line of 1 to {MAX_REASON} bytes"));
    }
    Ok(())
}

/// Accepts the new generation: `store` puts the event about it on disk, and only then sinks may go on, or they would
/// without anybody having said so in the journal. Waits for the disk.
///
/// # Errors
/// A sentence: there is nothing to accept, the event is not on disk or nobody knows, or what sinks go by can't be written.
pub fn accept(
    journal: &Handle,
    reason: &str,
    store: impl FnOnce(About<'static>, &serde_json::Value) -> Result<(), NotStored>,
) -> Result<(), String> {
    check(reason)?;
    let nothing = || {
        let origin = journal.origin();
        format!("there is nothing to accept: {origin} is the journal's first generation")
    };
    if !journal.has_former() {
        return Err(nothing());
    }
    if journal.is_accepted() {
        return Err(format!("{} is accepted already", journal.origin()));
    }
    let data = serde_json::json!({"origin": journal.origin(), "reason": reason});
    let event = ACCEPTED.0;
    store(ACCEPTED, &data).map_err(|error| match error {
        NotStored::Refused(why) => format!("nothing is accepted, because the event {event} can't be stored: {why}"),
        // Whoever verifies goes by the event.
        NotStored::Unknown(why) => format!(
            "sinks still wait, and whether the event {event} is stored, which accepts it, isn't known: {why}; repeat the command"
        ),
    })?;
    match journal.accept_rollback(reason) {
        Ok(true) => Ok(()),
        Ok(false) => Err(nothing()),
        Err(error) => Err(format!(
            "the event {event} is stored, but sinks don't know it yet, because the journal's file `accepted` can't be \
             written: {error}; repeat the command"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use auditmon_core::batch::push_agent_event;
    use auditmon_core::emitter::Refused;
    use auditmon_core::event::{Draft, cut};
    use auditmon_journal::format::Position;
    use auditmon_journal::{Linger, Options, RealFs, Records};

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    fn open(dir: &Path, remembered: Vec<(String, Position)>) -> Handle {
        let note = |note, records: &mut _| {
            let name = format!("journal {note:?}");
            push_agent_event(records, "h", Draft::new(cut(&name, 256), "agent")).unwrap();
        };
        let options = Options {
            segment_size: 64 << 10,
            reserve: 0,
            remembered,
            ..Options::new(dir, "h", Box::new(note))
        };
        let (writer, _) = auditmon_journal::open(RealFs, options).unwrap();
        writer.spawn(Box::new(|_| {})).unwrap()
    }

    /// A generation that took the place of the first, because a sink has seen more than that has.
    fn second(dir: &Path) -> Handle {
        let first = open(dir, Vec::new());
        let mut records = Records::new();
        push_agent_event(&mut records, "h", Draft::new("one", "agent")).unwrap();
        let (done, answer) = channel();
        let done = Box::new(move |fate| {
            let _ = done.send(fate);
        });
        first.submit(records, Linger::NONE, done);
        answer.recv_timeout(WAIT).unwrap().unwrap();
        let seen = Position {
            origin: first.origin().to_owned(),
            seq: 1000,
            leaf_hash: [7; 32],
        };
        assert!(first.close(WAIT));
        let second = open(dir, vec![("siem".to_owned(), seen)]);
        assert!(second.origin().ends_with("/gen/2"), "{}", second.origin());
        second
    }

    #[test]
    fn nobody_goes_on_before_the_journal_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let journal = second(dir.path());
        let full = || NotStored::Refused("the disk is full".to_owned());
        let refused = accept(&journal, "a drill", |_, _| Err(full())).unwrap_err();
        let says = "nothing is accepted, because the event journal.rollback_accepted can't be stored: the disk is full";
        assert_eq!(refused, says);
        assert!(!journal.is_accepted());

        // It may be stored all the same: then that is what whoever verifies goes by.
        for unknown in [NotStored::late(WAIT), Refused::Unknown.into()] {
            let said = accept(&journal, "a drill", |_, _| Err(unknown)).unwrap_err();
            assert!(!said.contains("nothing is accepted"), "{said}");
            assert!(said.contains("isn't known: "), "{said}");
            assert!(said.ends_with("; repeat the command"), "{said}");
            assert!(!journal.is_accepted());
        }

        // Where the file would be written first.
        let beside = dir.path().join("journal/2/accepted.new");
        std::fs::create_dir(&beside).unwrap();
        let refused = accept(&journal, "a drill", |_, _| Ok(())).unwrap_err();
        assert!(refused.contains("is stored, but sinks don't know it yet"), "{refused}");
        assert!(!journal.is_accepted());
        std::fs::remove_dir(&beside).unwrap();

        let mut stored = Vec::new();
        let accepted = accept(&journal, "a drill", |about, data| {
            assert!(!journal.is_accepted(), "the event comes first");
            stored.push((about.0, data.clone()));
            Ok(())
        });
        accepted.unwrap();
        assert!(journal.is_accepted());
        let data = serde_json::json!({"origin": journal.origin(), "reason": "a drill"});
        assert_eq!(stored, [("journal.rollback_accepted", data)]);
        let again = accept(&journal, "a drill", |_, _| panic!("it is no second event")).unwrap_err();
        assert!(again.ends_with("/gen/2 is accepted already"), "{again}");
        assert!(journal.close(WAIT));
    }
}
