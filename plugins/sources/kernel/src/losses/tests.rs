use super::*;

const SECOND: u64 = 1_000_000_000;

fn mark(serial: u32, beyond: &[(u32, u32)]) -> Mark {
    Mark {
        boot: "b".into(),
        serial,
        beyond: beyond.to_vec(),
        time: 900,
        lost: 0,
    }
}

fn see(losses: &mut Losses, serials: impl IntoIterator<Item = u32>, now: u64) {
    for serial in serials {
        losses.observe(serial, u64::from(serial) * 1000, now);
        losses.account(serial);
    }
}

type Told = (Reason, Vec<(u32, u32)>, u64);

fn taken(losses: &mut Losses, now: u64, all: bool) -> Vec<Told> {
    let gaps = losses.take(now, all);
    for gap in &gaps {
        losses.told(gap);
    }
    gaps.into_iter()
        .map(|gap| (gap.reason, gap.ranges, gap.missing))
        .collect()
}

#[test]
fn a_restart_is_one_gap_with_exact_serials_and_times() {
    let mut losses = Losses::new(Some(&mark(10, &[(13, 14)])), 0);
    see(&mut losses, 20..=22, 1);
    let gaps = losses.take(6 * SECOND, false);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].reason, Reason::Restart);
    assert_eq!(gaps[0].ranges, [(11, 12), (15, 19)]);
    assert_eq!((gaps[0].missing, gaps[0].merged), (7, false));
    assert_eq!(gaps[0].before, Some(20_000));
    losses.told(&gaps[0]);
    let now = losses.mark("b", 0).unwrap();
    assert_eq!((now.serial, now.beyond.len()), (22, 0));
}

#[test]
fn the_first_start_of_a_boot_misses_nothing() {
    let mut losses = Losses::new(None, 0);
    losses.observe(500, 1, 1);
    losses.observe(501, 1, 1);
    losses.account(501);
    // 500 is still open: killed now, the next start has to report it.
    let now = losses.mark("b", 7).unwrap();
    assert_eq!((now.serial, now.beyond, now.lost), (499, vec![(501, 501)], 7));
    losses.account(500);
    assert_eq!(losses.mark("b", 7).unwrap().serial, 501);
    assert_eq!(taken(&mut losses, 100 * SECOND, true), []);
}

#[test]
fn what_is_killed_is_reported_by_the_next_run_exactly() {
    let mut first = Losses::new(None, 0);
    see(&mut first, [1, 2, 3, 5, 6, 9], 0);
    first.observe(7, 1, 1);
    let saved = Mark::from_bytes(&first.mark("b", 0).unwrap().to_bytes()).unwrap();
    let mut second = Losses::new(Some(&saved), 0);
    see(&mut second, [12], 1);
    assert_eq!(
        taken(&mut second, 10 * SECOND, false),
        [(Reason::Restart, vec![(4, 4), (7, 8), (10, 11)], 5)]
    );
}

#[test]
fn reasons_are_told_apart() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 2], SECOND);
    let mut dropped = Serials::default();
    for serial in 5..=8 {
        dropped.insert(serial);
    }
    losses.dropped(&dropped);
    see(&mut losses, [10], SECOND);
    assert_eq!(
        taken(&mut losses, 7 * SECOND, false),
        [
            (Reason::OwnDrop, vec![(5, 8)], 4),
            (Reason::Unknown, vec![(3, 4), (9, 9)], 3)
        ]
    );
    losses.overrun(8 * SECOND);
    see(&mut losses, [20], 8 * SECOND);
    assert_eq!(
        taken(&mut losses, 14 * SECOND, false),
        [(Reason::Overrun, vec![(11, 19)], 9)]
    );
}

#[test]
fn gaps_of_one_reason_are_summed_up_for_a_minute() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 3], 0);
    assert_eq!(taken(&mut losses, 6 * SECOND, false).len(), 1);
    see(&mut losses, [5, 7], 7 * SECOND);
    assert_eq!(taken(&mut losses, 20 * SECOND, false), []);
    assert_eq!(losses.next_deadline(), Some(66 * SECOND));
    // Not told yet, so not accounted for.
    assert_eq!(losses.mark("b", 0).unwrap().serial, 3);
    assert_eq!(
        taken(&mut losses, 66 * SECOND, false),
        [(Reason::Unknown, vec![(4, 4), (6, 6)], 2)]
    );
    assert_eq!(losses.mark("b", 0).unwrap().serial, 7);
}

#[test]
fn many_gaps_do_not_wait() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 3], 0);
    assert_eq!(taken(&mut losses, 6 * SECOND, false).len(), 1);
    see(&mut losses, (0..600).map(|n| 5 + 2 * n), 7 * SECOND);
    let gaps = taken(&mut losses, 13 * SECOND, false);
    assert_eq!((gaps.len(), gaps[0].2), (1, 600));
}

#[test]
fn the_end_tells_all() {
    let mut losses = Losses::new(Some(&mark(u32::MAX - 1, &[])), 0);
    see(&mut losses, [2], 0);
    assert_eq!(taken(&mut losses, 1, true), [(Reason::Restart, vec![(u32::MAX, 1)], 3)]);
    assert_eq!(losses.mark("b", 0).unwrap().serial, 2);
}

#[test]
fn what_comes_after_it_was_told_as_missing_is_known_as_late() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 2, 4], SECOND);
    assert!(!losses.is_late(3));
    assert_eq!(taken(&mut losses, 100 * SECOND, true).len(), 1);
    assert!(losses.is_late(3));
    assert!(!losses.is_late(5));
}

#[test]
fn what_comes_before_its_gap_is_told_is_not_told_as_missing() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 3], 0);
    assert_eq!(taken(&mut losses, 6 * SECOND, false).len(), 1);
    see(&mut losses, [10, 20], 7 * SECOND);
    // Given up, and held back for the summary of the minute.
    assert_eq!(taken(&mut losses, 20 * SECOND, false), []);
    assert!(!losses.is_late(6));
    for serial in [6, 4, 9, 19, 15, 6] {
        losses.account(serial);
    }
    assert_eq!(
        taken(&mut losses, 66 * SECOND, false),
        [(Reason::Unknown, vec![(5, 5), (7, 8), (11, 14), (16, 18)], 10)]
    );
    assert_eq!(losses.mark("b", 0).unwrap().serial, 20);
}

#[test]
fn what_comes_while_records_are_read_is_not_told_as_missing() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, [1, 10], 0);
    // The reader stood still: what comes next gives up what is missing, and then some of that comes.
    see(&mut losses, [11, 9, 4], 60 * SECOND);
    assert_eq!(
        taken(&mut losses, 60 * SECOND, false),
        [(Reason::Unknown, vec![(2, 3), (5, 8)], 6)]
    );
    see(&mut losses, [13, 12, 16, 15, 14], 300 * SECOND);
    assert_eq!(taken(&mut losses, 300 * SECOND, true), []);
    assert_eq!(losses.mark("b", 0).unwrap().serial, 16);
}

#[test]
fn the_rest_of_an_event_from_before_the_account_leaves_no_serial_out() {
    let mut losses = Losses::new(None, 0);
    see(&mut losses, 380..=390, SECOND);
    // Its first records came before anybody was registered.
    assert!(losses.is_late(339));
    see(&mut losses, [339, 391], SECOND);
    let now = losses.mark("b", 0).unwrap();
    assert_eq!((now.serial, now.beyond), (391, vec![]));
    assert_eq!(taken(&mut losses, 100 * SECOND, true), []);
    // Nor is anything told twice by a later run.
    let mut losses = Losses::new(Some(&mark(391, &[])), 0);
    assert!(losses.is_late(200));
    see(&mut losses, [393, 200], SECOND);
    let now = losses.mark("b", 0).unwrap();
    assert_eq!((now.serial, now.beyond), (391, vec![(393, 393)]));
    assert_eq!(
        taken(&mut losses, 100 * SECOND, true),
        [(Reason::Restart, vec![(392, 392)], 1)]
    );
}
