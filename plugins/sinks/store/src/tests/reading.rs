//! Filters, times, order and pages, each against a plain walk over all events.

use auditmon_core::event::{Draft, EventView, Kind, Outcome, Severity};
use auditmon_core::plugin::Sink as _;
use auditmon_core::reader::{EventReader, Found, Query, ReadError};
use auditmon_core::subscription::Events;
use auditmon_core::time;

use super::harness::{Journal, Place, SECOND, T0, ask, seqs};

/// 90 events with a bit of everything; enough that common values go through the table and rare ones by an index.
async fn mixed() -> Journal {
    let journal = Journal::new();
    let kinds = [Kind::Application, Kind::Kernel, Kind::Agent];
    let users = ["alice", "bob", "carol'"];
    for n in 0..90_u64 {
        let m = n as usize;
        let resource = format!("r{}", n % 7);
        let request = format!("q{}", n % 11);
        let draft = Draft {
            // Neither in order, nor with the same number of digits.
            time: T0 + (n * 37 % 90) * SECOND + [0, 500_000_000, 123_456_000, 7][m % 4],
            resource: (n % 3 > 0).then_some(resource.as_str()),
            address: (n % 2 == 0).then(|| format!("10.0.0.{}", n % 5).parse().unwrap()),
            request_id: (n % 4 > 0).then_some(request.as_str()),
            read_only: n % 5 == 0,
            outcome: Outcome::ALL[m % 3],
            severity: Severity::ALL[m % 5],
            ..Draft::new(
                ["login", "logout", "pay"][m % 3],
                users[if n == 40 { 2 } else { m % 2 }],
            )
        };
        let source = if n % 6 == 0 { "shop" } else { "billing" };
        let kind = if n % 30 == 29 { kinds[2] } else { kinds[m % 2] };
        // Received times are a little out of order too.
        journal.add_from(source, kind, T0 + (n ^ 1) * SECOND, vec![draft]).await;
    }
    journal
}

/// What a query must give, by going through everything.
fn expected(events: &Events, query: &Query) -> Vec<u64> {
    let mut out = Vec::new();
    for event in events.iter() {
        let view = EventView::parse(event.canonical).unwrap();
        let json: serde_json::Value = serde_json::from_slice(event.canonical).unwrap();
        let at = time::parse(&view.event_time).unwrap();
        let matches = query.filters.iter().all(|(name, value)| match &json[*name] {
            serde_json::Value::Bool(b) => b.to_string() == *value,
            serde_json::Value::String(text) => text == value,
            _ => false,
        });
        if matches && query.after.is_none_or(|after| at >= after) && query.before.is_none_or(|before| at < before) {
            out.push(event.seq);
        }
    }
    if !query.ascending {
        out.reverse();
    }
    out
}

async fn all_pages(reader: &dyn EventReader, pairs: &[(&str, &str)]) -> Vec<u64> {
    let (mut out, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut pairs = pairs.to_vec();
        pairs.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = ask(reader, &pairs).await;
        out.extend(seqs(&page));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return out,
        }
        assert!(!page.events.is_empty(), "a page with a cursor has events");
    }
}

#[tokio::test]
async fn every_filter_finds_what_a_walk_finds() {
    let (journal, place) = (mixed().await, Place::new());
    let store = place.with(&[&journal]).await;
    let (reader, events) = (store.reader(), journal.events(0));
    let first = events.iter().next().unwrap();
    let id = first.id.to_string();
    let at = EventView::parse(first.canonical).unwrap().event_time.into_owned();
    let filters = [
        vec![],
        vec![("event_id", id.as_str())],
        vec![("event_time", at.as_str())],
        vec![("event_name", "pay")],
        vec![("username", "alice")],
        vec![("username", "carol'")],
        vec![("username", "nobody")],
        vec![("resource", "r4")],
        vec![("event_source", "shop")],
        vec![("source_ip_address", "10.0.0.2")],
        vec![("source_ip_address", "-")],
        vec![("request_id", "q3")],
        vec![("read_only", "true")],
        vec![("read_only", "false")],
        vec![("kind", "agent")],
        vec![("kind", "kernel")],
        vec![("kind", "immudb")],
        vec![("host", "h")],
        vec![("outcome", "failure")],
        vec![("severity", "critical")],
        vec![("username", "bob"), ("outcome", "success"), ("kind", "kernel")],
    ];
    let times = [
        vec![],
        vec![("after", "2026-01-01T00:00:30Z")],
        vec![("before", "2026-01-01T00:01:00.123456Z")],
        vec![
            ("after", "2026-01-01T00:00:10.000000007Z"),
            ("before", "2026-01-01T00:00:14.5Z"),
        ],
        vec![("after", "2026-01-01T00:00:05Z"), ("before", "2026-01-01T00:01:20Z")],
        vec![("after", "2027-01-01T00:00:00Z")],
        vec![("before", "2025-01-01T00:00:00Z"), ("after", "2026-06-01T00:00:00Z")],
    ];
    for filter in &filters {
        for range in &times {
            for order in ["asc", "desc"] {
                for limit in ["4", "1000"] {
                    let pairs: Vec<_> = [&filter[..], &range[..], &[("order", order), ("limit", limit)]].concat();
                    let query = Query::parse(pairs.iter().copied()).unwrap();
                    assert_eq!(
                        all_pages(&*reader, &pairs).await,
                        expected(&events, &query),
                        "{pairs:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn times_compare_as_times_whatever_their_digits() {
    let (journal, place) = (Journal::new(), Place::new());
    let at = |nanos| Draft {
        time: T0 + nanos,
        ..Draft::new("n", "u")
    };
    // .000, .000000001, .000001, .001, .001001, .002
    journal
        .add(
            Kind::Application,
            T0,
            [0, 1, 1_000, 1_000_000, 1_001_000, 2_000_000].map(at).into(),
        )
        .await;
    let store = place.with(&[&journal]).await;
    let reader = store.reader();
    for (name, text, found) in [
        ("after", "2026-01-01T00:00:00.000000001Z", vec![1, 2, 3, 4, 5]),
        ("after", "2026-01-01T00:00:00.001Z", vec![3, 4, 5]),
        ("after", "2026-01-01T01:00:00.001001+01:00", vec![4, 5]),
        ("before", "2026-01-01T00:00:00.001Z", vec![0, 1, 2]),
        ("before", "2026-01-01T00:00:00.000000001Z", vec![0]),
        ("event_time", "2026-01-01T00:00:00.001Z", vec![3]),
        ("event_time", "2026-01-01T00:00:00.00100Z", vec![3]),
    ] {
        assert_eq!(
            seqs(&ask(&*reader, &[(name, text), ("order", "asc")]).await),
            found,
            "{name} {text}"
        );
    }
}

#[tokio::test]
async fn pages_stay_where_they_are_while_events_arrive() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(50).await;
    let mut store = place.with(&[&journal]).await;
    let reader = store.reader();
    let newest = ask(&*reader, &[("limit", "20")]).await;
    let oldest = ask(&*reader, &[("limit", "20"), ("order", "asc")]).await;
    journal.add_plain(30).await;
    store.write(&journal.events(50)).await.unwrap();
    let (down, up) = (newest.next.unwrap(), oldest.next.unwrap());
    let second = ask(&*reader, &[("limit", "20"), ("cursor", &down)]).await;
    assert_eq!(seqs(&second), (10..30).rev().collect::<Vec<_>>());
    let third = ask(
        &*reader,
        &[("limit", "10"), ("cursor", second.next.as_deref().unwrap())],
    )
    .await;
    assert_eq!(seqs(&third), (0..10).rev().collect::<Vec<_>>());
    assert_eq!(third.next, None, "no cursor where nothing follows");
    let second = ask(&*reader, &[("limit", "20"), ("order", "asc"), ("cursor", &up)]).await;
    assert_eq!(seqs(&second), (20..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn across_origins_order_is_by_received_time() {
    let (a, b, place) = (mixed().await, mixed().await, Place::new());
    a.add(Kind::Application, T0 + 3 * SECOND, vec![Draft::new("late", "alice")])
        .await;
    let store = place.with(&[&a, &b]).await;
    let reader = store.reader();
    let mut expected: Vec<(u64, usize, u64)> = Vec::new();
    for (n, journal) in [&a, &b].into_iter().enumerate() {
        expected.extend(journal.events(0).iter().map(|event| (event.received, n, event.seq)));
    }
    expected.sort_unstable();
    let seqs_of = |events: &[(u64, usize, u64)]| events.iter().map(|event| event.2).collect::<Vec<_>>();
    assert_eq!(
        all_pages(&*reader, &[("order", "asc"), ("limit", "7")]).await,
        seqs_of(&expected)
    );
    expected.reverse();
    assert_eq!(all_pages(&*reader, &[("limit", "7")]).await, seqs_of(&expected));
    let (rare, common) = (
        all_pages(&*reader, &[("username", "carol'")]).await,
        all_pages(&*reader, &[("kind", "kernel")]).await,
    );
    assert_eq!((rare.len(), common.len()), (2, 84));
}

#[tokio::test]
async fn paging_that_began_with_one_origin_ends_in_its_order() {
    let (a, b, place) = (mixed().await, Journal::new(), Place::new());
    let mut store = place.with(&[&a]).await;
    let reader = store.reader();
    let first = ask(&*reader, &[("limit", "50"), ("order", "asc")]).await;
    b.add_plain(5).await;
    store.start(b.handle.origin()).await.unwrap();
    store.write(&b.events(0)).await.unwrap();
    let second = ask(
        &*reader,
        &[
            ("limit", "50"),
            ("order", "asc"),
            ("cursor", first.next.as_deref().unwrap()),
        ],
    )
    .await;
    assert_eq!(seqs(&second), (50..90).chain(0..5).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_is_not_ours_is_refused() {
    let (journal, place) = (Journal::new(), Place::new());
    journal.add_plain(5).await;
    let store = place.with(&[&journal]).await;
    let reader = store.reader();
    let next = ask(&*reader, &[("limit", "2")]).await.next.unwrap();
    for (cursor, ascending) in [
        ("x", false),
        ("", false),
        ("AAAAAAAAAAAAAAAAAAAAAAAA", false),
        (next.as_str(), true),
    ] {
        let query = Query {
            cursor: Some(cursor.to_owned()),
            ascending,
            ..Query::default()
        };
        assert!(matches!(reader.query(&query).await, Err(ReadError::Cursor)), "{cursor}");
    }
}

#[tokio::test]
async fn an_event_is_found_by_its_id() {
    let (journal, place) = (mixed().await, Place::new());
    let store = place.with(&[&journal]).await;
    let reader = store.reader();
    for event in journal.events(0).iter() {
        let Found::Event(stored) = reader.get(event.id).await.unwrap() else {
            panic!("{}", event.seq)
        };
        assert_eq!(
            (stored.seq, stored.received, &stored.canonical[..]),
            (event.seq, event.received, event.canonical)
        );
        assert_eq!(stored.origin, journal.handle.origin());
    }
    for id in [
        uuid::Uuid::nil(),
        uuid::Uuid::max(),
        uuid::Uuid::from_u128(u128::from(T0 / 1_000_000) << 80),
    ] {
        assert!(matches!(reader.get(id).await.unwrap(), Found::Missing));
    }
}

#[tokio::test]
async fn the_position_is_behind_the_last_event_of_an_origin() {
    let (journal, other, place) = (Journal::new(), Journal::new(), Place::new());
    journal.add_plain(3).await;
    let mut store = place.with(&[&journal]).await;
    let reader = store.reader();
    assert_eq!(reader.position(journal.handle.origin()).await.unwrap(), 3);
    assert_eq!(reader.position(other.handle.origin()).await.unwrap(), 0);
    journal.add_plain(2).await;
    assert_eq!(reader.position(journal.handle.origin()).await.unwrap(), 3);
    store.write(&journal.events(3)).await.unwrap();
    assert_eq!(reader.position(journal.handle.origin()).await.unwrap(), 5);
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_goes_on() {
    let (journal, place) = (Journal::new(), Place::new());
    let raw = format!("{{\"x\":\"{}\"}}", "y".repeat(1_000_000));
    for _ in 0..2 {
        let big = || Draft {
            data: auditmon_core::Data::Raw(&raw),
            ..Draft::new("n", "u")
        };
        journal
            .add(Kind::Application, T0, (0..20).map(|_| big()).collect())
            .await;
    }
    let store = place.with(&[&journal]).await;
    let reader = store.reader();
    let page = ask(&*reader, &[("limit", "1000")]).await;
    // The event that reaches the limit is the last.
    let size = page.events[0].canonical.len();
    assert_eq!(page.events.len(), crate::reader::PAGE_BYTES.div_ceil(size));
    assert!(page.next.is_some());
    assert_eq!(
        all_pages(&*reader, &[("limit", "1000")]).await,
        (0..40).rev().collect::<Vec<_>>()
    );
}
