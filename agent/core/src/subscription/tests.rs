use super::*;
use crate::event::{Data, Draft, Outcome};

/// `n` events from `first` on, then two state records.
fn events(first: u64, n: usize) -> Arc<Decoded> {
    let mut batch = Batch::detached("ingest", Kind::Application, "h", "billing");
    for n in 0..n {
        let user = format!("user{n}");
        let draft = Draft {
            outcome: Outcome::Failure,
            data: Data::Raw("{\"k\":1}"),
            ..Draft::new("login", &user)
        };
        batch.push(draft).unwrap();
    }
    for key in [b"a", b"b"] {
        batch.remember(key, None, b"value").unwrap();
    }
    Arc::new(Decoded::new(RawBatch::from_records(first, &batch.into_records())))
}

fn seqs(events: &Events) -> Vec<u64> {
    let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs.len(), events.len());
    assert_eq!(
        events.iter().map(|event| event.canonical.len()).sum::<usize>(),
        events.bytes()
    );
    seqs
}

#[test]
fn a_frame_is_handed_over_in_as_many_parts_as_the_limits_ask_for() {
    let decoded = events(10, 7);
    let (mut from, mut parts, mut ends) = (10, Vec::new(), Vec::new());
    while from < decoded.next_seq() {
        let mut part = Events::new(Arc::from("h/00"));
        from = part.take(&decoded, from, 3, usize::MAX);
        assert_eq!(part.end_seq(), Some(from));
        ends.push(part.end().unwrap());
        parts.push(seqs(&part));
    }
    // The state records come with the event before them.
    assert_eq!(parts, [vec![10, 11, 12], vec![13, 14, 15], vec![16]]);
    assert_eq!(ends.iter().map(|end| end.seq).collect::<Vec<_>>(), [13, 16, 19]);
    // Each end names the leaf of the record before it.
    let mut whole = Events::new(Arc::from("h/00"));
    whole.take(&decoded, 0, 3, usize::MAX);
    assert_eq!(whole.end().unwrap(), ends[0]);
    assert_ne!(ends[0].leaf_hash, ends[1].leaf_hash);
}

#[test]
fn bytes_limit_a_part_and_one_event_may_be_larger() {
    let decoded = events(0, 4);
    let size = decoded.size_of(0).unwrap().1;
    let mut part = Events::new(Arc::from("h/00"));
    assert_eq!(part.take(&decoded, 0, 100, size * 2), 2);
    assert_eq!(part.take(&decoded, 2, 100, size * 2), 2, "nothing more fits");
    assert_eq!(part.end_seq(), Some(2));
    let mut part = Events::new(Arc::from("h/00"));
    assert_eq!(part.take(&decoded, 2, 100, 1), 3, "at least one");
}

#[test]
fn state_records_alone_move_the_end() {
    let decoded = events(5, 0);
    let mut part = Events::new(Arc::from("h/00"));
    assert!(part.has_no_records());
    assert_eq!(part.take(&decoded, 5, 10, 10), 7);
    assert!(part.is_empty() && !part.has_no_records());
    let end = part.end().unwrap();
    assert_eq!(end.seq, 7);
    assert_eq!(Some(end.leaf_hash), decoded.leaf_hash_before(7));
}

#[test]
fn what_is_pending_goes_before_what_follows() {
    let (first, second) = (events(0, 5), events(7, 5));
    let mut all = Events::new(Arc::from("h/00"));
    all.take(&first, 0, 100, usize::MAX);
    let mut pending = all.select(&[1, 3, 9]);
    assert_eq!(seqs(&pending), [1, 3]);
    assert_eq!(pending.end_seq(), Some(7), "what is left out was delivered");
    pending.take(&second, 7, 4, usize::MAX);
    assert_eq!(seqs(&pending), [1, 3, 7, 8]);
    assert_eq!(pending.end_seq(), Some(9));
    assert_eq!(seqs(&pending.select(&[3, 8])), [3, 8]);
    assert_eq!(pending.get(3).map(|event| event.seq), Some(3));
    assert!(pending.get(2).is_none() && pending.get(9).is_none() && pending.get(5).is_none());
}

#[test]
fn members_are_found_once_for_all_who_share_a_part() {
    let decoded = events(0, 3);
    let (mut one, mut other) = (Events::new(Arc::from("h/00")), Events::new(Arc::from("h/00")));
    one.take(&decoded, 0, 2, usize::MAX);
    other.take(&decoded, 1, 2, usize::MAX);
    assert!(decoded.places.get().is_none(), "only when asked for");
    assert_eq!(one.iter().next().unwrap().members().unwrap().username(), "user0");
    let found = decoded.places.get().unwrap().as_ptr();
    let last = other.iter().next_back().unwrap().members().unwrap();
    assert_eq!((&*last.username(), last.outcome()), ("user2", Outcome::Failure));
    assert_eq!(decoded.places.get().unwrap().as_ptr(), found);
}

#[test]
fn a_test_of_a_sink_needs_no_journal() {
    let mut batch = Batch::detached("ingest", Kind::Application, "h", "billing");
    let id = batch.push(Draft::new("login", "alice")).unwrap();
    let events = Events::of_batch("h/00", 7, batch);
    let event = events.iter().next().unwrap();
    assert_eq!((event.seq, event.id, events.end_seq()), (7, id, Some(8)));
}
