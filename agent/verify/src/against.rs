//! What is given to compare a journal with: earlier checkpoints, or proofs, which have one.

use auditmon_merkle::{Checkpoint, EventProof, Note, TlogProof, TreeHead, event_proof};
use auditmon_merkle::{leaf_hash, split_checkpoints};

use crate::files::Generation;
use crate::heads::{Head, open_older};
use crate::keys::Keys;
use crate::report::{CouldNot, Fault, Report};

/// Notes of a file, however they are packed.
fn notes(name: &str, text: &str) -> Result<Vec<String>, CouldNot> {
    let wrong = |error: &dyn std::fmt::Display| {
        CouldNot::new(name, format!("neither checkpoints nor proofs of this journal: {error}"))
    };
    if text.starts_with("auditmon-proof/") {
        let proofs = event_proof::split(text).map(|proof| {
            let proof = EventProof::parse(proof).map_err(|error| wrong(&error))?;
            Ok(proof.tlog_proof().note().to_owned())
        });
        return proofs.collect();
    }
    if text.starts_with("c2sp.org/tlog-proof") {
        let proof = TlogProof::parse(text).map_err(|error| wrong(&error))?;
        return Ok(vec![proof.note().to_owned()]);
    }
    let notes: Vec<_> = split_checkpoints(text).map(str::to_owned).collect();
    for note in &notes {
        Note::parse(note).map_err(|error| wrong(&error))?;
    }
    if notes.is_empty() {
        return Err(CouldNot::new(name, "empty: an earlier checkpoint or proof is expected"));
    }
    Ok(notes)
}

/// Heads that a generation must have had, by the given file.
pub(crate) fn heads(
    name: &str,
    text: &str,
    generations: &[Generation],
    keys: &Keys,
    report: &mut Report,
) -> Result<Vec<(u32, Head)>, CouldNot> {
    let mut heads = Vec::new();
    for note in notes(name, text)? {
        let parsed = Note::parse(&note)
            .map_err(|error| error.to_string())
            .and_then(|note| Checkpoint::parse(note.text()).map_err(|error| error.to_string()));
        let checkpoint = parsed.map_err(|error| CouldNot::new(name, error))?;
        let generation = generations
            .iter()
            .find(|generation| generation.origin == checkpoint.origin());
        let Some(generation) = generation else {
            let ours = generations.last().map_or("", |last| &last.origin);
            let what = format!("this journal is `{ours}`, {name} is of `{}`", checkpoint.origin());
            report.fault(Fault::of("journal/origin", what));
            continue;
        };
        let (key, former) = (keys.verifier(&generation.origin), keys.former(&generation.origin));
        match open_older(&note, &generation.origin, key.as_ref(), &former) {
            Ok((tree, _)) => heads.push((
                generation.number,
                Head {
                    tree,
                    place: name.to_owned(),
                },
            )),
            Err(what) => report.fault(Fault::of(
                name,
                format!("{what}: it or the journal's key was exchanged"),
            )),
        }
    }
    if text.starts_with("auditmon-proof/") {
        check_events(name, text, report)?;
    }
    Ok(heads)
}

/// Whether each proof's event is the one that its checkpoint covers.
fn check_events(name: &str, text: &str, report: &mut Report) -> Result<(), CouldNot> {
    for (number, proof) in event_proof::split(text).enumerate() {
        let proof = EventProof::parse(proof).map_err(|error| CouldNot::new(name, error))?;
        let tlog = proof.tlog_proof();
        let head: Option<TreeHead> = Note::parse(tlog.note())
            .ok()
            .and_then(|note| Checkpoint::parse(note.text()).ok())
            .map(|checkpoint| checkpoint.head());
        let leaf = leaf_hash(proof.leaf());
        let holds = head
            .is_some_and(|head| auditmon_merkle::verify_inclusion(&leaf, tlog.index(), tlog.hashes(), &head).is_ok());
        if !holds {
            report.fault(Fault::of(
                name,
                format!("proof {}: doesn't lead to its checkpoint", number + 1),
            ));
        }
    }
    Ok(())
}
