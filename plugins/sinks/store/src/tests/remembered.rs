//! What it remembers of the journal, asked before anything is built.

use auditmon_journal::PositionVerdict;

use super::harness::{Journal, Place};
use crate::remembered::remembered;

#[tokio::test]
async fn positions_of_all_origins_are_told_and_nothing_is_changed() {
    let (one, two, place) = (Journal::new(), Journal::new(), Place::new());
    assert_eq!(remembered(&place.file()).await.unwrap(), []);
    assert!(!place.file().exists(), "nothing is made");
    one.add_plain(3).await;
    two.add_plain(5).await;
    // Beside the writing connection, which stays open.
    let store = place.with(&[&one, &two]).await;
    let found = remembered(&place.file()).await.unwrap();
    for (journal, seq) in [(&one, 3), (&two, 5)] {
        let of_it = found.iter().find(|position| position.origin == journal.handle.origin());
        assert_eq!(of_it.unwrap().seq, seq);
        assert_eq!(journal.handle.check_position(of_it.unwrap()), PositionVerdict::Ok);
    }
    assert_eq!(found.len(), 2);
    drop(store);
}

#[tokio::test]
async fn another_programs_database_and_a_file_that_is_none_say_nothing() {
    let place = Place::new();
    place.sqlite().execute_batch("CREATE TABLE position (x, y)").unwrap();
    assert_eq!(remembered(&place.file()).await.unwrap(), []);
    let place = Place::new();
    std::fs::write(
        place.file(),
        "no database at all, and longer than a page's header of a hundred bytes".repeat(9),
    )
    .unwrap();
    let error = remembered(&place.file()).await.unwrap_err();
    assert!(
        error.to_string().contains("events.db") || error.to_string().contains(".db"),
        "{error}"
    );
}
