//! Whether a sink's answer fits what it was given.

use auditmon_core::delivery::Receipt;
use auditmon_core::subscription::Events;

/// Checks an answer; one that does not fit says nothing about any event. `own` is a sink that keeps its position
/// itself: it can't say that something in the middle is pending, since a position has no holes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(events: &Events, receipt: &Receipt, own: bool) -> Result<(), String> {
    let named = receipt.refused.len().saturating_add(receipt.pending.len());
    if named > events.len() {
        return Err(format!("it names {named} events and was given {}", events.len()));
    }
    if receipt.pending.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("its pending events are not in order".to_owned());
    }
    if !receipt.pending.is_empty() && receipt.retry.is_none() {
        return Err("it does not say why events are pending".to_owned());
    }
    let mut refused: Vec<u64> = receipt.refused.iter().map(|refused| refused.seq).collect();
    refused.sort_unstable();
    if let Some(twice) = refused.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("it refuses record {} twice", twice[0]));
    }
    for seq in receipt.pending.iter().chain(&refused) {
        if events.get(*seq).is_none() {
            return Err(format!("it names record {seq}, which it was not given"));
        }
    }
    if let Some(both) = receipt.pending.iter().find(|seq| refused.binary_search(seq).is_ok()) {
        return Err(format!("it names record {both} as refused and as pending"));
    }
    if let (true, Some(first)) = (own, receipt.pending.first()) {
        let behind = events.iter().rev().take_while(|event| event.seq >= *first).count();
        if behind != receipt.pending.len() {
            return Err(format!(
                "it keeps its position itself, and record {first} is pending, but something behind it is not"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditmon_core::delivery::{RefusedEvent, Retry};
    use auditmon_core::{Batch, Draft, Kind};

    fn given() -> Events {
        let mut batch = Batch::detached("ingest", Kind::Application, "h", "billing");
        for _ in 0..5 {
            batch.push(Draft::new("n", "u")).unwrap();
        }
        Events::of_batch("h/00", 10, batch)
    }

    fn receipt(refused: &[u64], pending: &[u64]) -> Receipt {
        Receipt {
            refused: refused
                .iter()
                .map(|seq| RefusedEvent {
                    seq: *seq,
                    reason: "bad".to_owned(),
                })
                .collect(),
            pending: pending.to_vec(),
            retry: (!pending.is_empty()).then(|| Retry {
                after: None,
                reason: "busy".to_owned(),
            }),
        }
    }

    #[test]
    fn answers_that_fit() {
        for (refused, pending) in [
            (&[][..], &[][..]),
            (&[14, 10], &[11, 12]),
            (&[], &[10, 11, 12, 13, 14]),
            (&[12], &[]),
        ] {
            assert_eq!(check(&given(), &receipt(refused, pending), false), Ok(()));
        }
        assert_eq!(check(&given(), &receipt(&[10], &[12, 13, 14]), true), Ok(()));
    }

    #[test]
    fn answers_that_do_not_fit_are_named() {
        for (refused, pending, says) in [
            (&[][..], &[9][..], "record 9, which it was not given"),
            (&[15], &[], "record 15, which it was not given"),
            (&[], &[12, 11], "not in order"),
            (&[], &[12, 12], "not in order"),
            (&[12, 12], &[], "record 12 twice"),
            (&[12], &[12], "as refused and as pending"),
            (&[10, 11, 12], &[10, 11, 12], "names 6 events and was given 5"),
        ] {
            let said = check(&given(), &receipt(refused, pending), false).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        let mut silent = receipt(&[], &[12]);
        silent.retry = None;
        assert!(
            check(&given(), &silent, false)
                .unwrap_err()
                .contains("does not say why")
        );
        for pending in [&[10, 11][..], &[11, 13, 14]] {
            let said = check(&given(), &receipt(&[], pending), true).unwrap_err();
            assert!(said.contains("keeps its position itself"), "{said}");
        }
    }
}
