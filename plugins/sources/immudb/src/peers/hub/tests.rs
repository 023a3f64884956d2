use auditmon_core::event::Kind;
use auditmon_merkle::Ed25519Signer;
use auditmon_testkit::TestJournal;
use immudb_verify::{Alh, Hash, TxId};

use super::*;
use crate::verdict::Signature;

const HASH: u8 = 7;

/// A hub with one peer, and the journal under it.
fn hub() -> (TestJournal, Hub) {
    let journal = TestJournal::new();
    let key = Ed25519Signer::from_seed("b/00", &[1; 32]).unwrap();
    let peer = PeerConfig {
        address: "http://127.0.0.1:9".to_owned(),
        log_key: key.verifier().to_string(),
        ca_file: None,
    };
    let of = (Arc::from("a/00"), journal.emitter("immudb", Kind::Immudb));
    let control = Control::of_caller(Vec::new()).unwrap();
    let hub = Hub::new(&[peer], of, PathBuf::from("/none"), &Registry::new(), &control).unwrap();
    (journal, hub)
}

fn claim(tx: u64, byte: u8) -> Claim {
    let alh = Alh(Hash::from([byte; 32]));
    let state = State { tx: TxId(tx), alh };
    Claim {
        state,
        signature: None,
        uuid: Some("u1".to_owned()),
    }
}

/// A server with databases at these transactions.
fn publish(hub: &Hub, address: &str, uuid: &str, databases: &[(&str, u64)]) {
    let states = databases
        .iter()
        .map(|(name, tx)| ((*name).to_owned(), claim(*tx, HASH)));
    let published = Published {
        uuid: Some(uuid.to_owned()),
        states: states.collect(),
    };
    hub.publish("db1", &Endpoint::parse(address).unwrap(), published);
}

fn says(address: &str, uuid: &str, states: &[(&str, u64, u8)]) -> Message {
    let states = states.iter().map(|(name, tx, byte)| claim(*tx, *byte).stated(name));
    let seen = Seen {
        address: address.to_owned(),
        uuid: Some(uuid.to_owned()),
        states: states.collect(),
    };
    Message { servers: vec![seen] }
}

fn waiting(hub: &Hub) -> Vec<(String, u64)> {
    let waiting = hub.waiting("db1", 10_000).into_iter();
    waiting
        .map(|((_, _, database), claim)| (database, claim.state.tx.0))
        .collect()
}

#[test]
fn a_server_is_known_by_its_identity_or_by_an_address_that_is_the_same_everywhere() {
    for (ours, theirs, uuid, same) in [
        ("db1.example.com:3322", "db1.example.com:3322", "u2", true),
        ("db1.example.com:3322", "10.0.0.1:3322", "u1", true),
        ("db1.example.com:3322", "10.0.0.1:3322", "u2", false),
        // On each host another one.
        ("127.0.0.1:3322", "127.0.0.1:3322", "u2", false),
        ("127.0.0.1:3322", "127.0.0.1:3322", "u1", true),
    ] {
        let (_journal, hub) = hub();
        publish(&hub, ours, "u1", &[("orders", 9)]);
        let message = says(theirs, uuid, &[("orders", 5, 1)]);
        assert_eq!(hub.about(&message).servers.len(), usize::from(same), "{theirs} {uuid}");
        hub.take((0, Way::Answer), &message);
        assert_eq!(waiting(&hub).len(), usize::from(same), "{theirs} {uuid}");
    }
}

#[test]
fn what_has_fewer_transactions_is_looked_at_here_and_only_once() {
    let (_journal, hub) = hub();
    publish(&hub, "db1", "u1", &[("a", 9), ("b", 9), ("c", 9), ("d", 9)]);
    let message = says(
        "db1:3322",
        "u1",
        &[
            ("a", 9, HASH),
            ("b", 9, 1),
            ("c", 8, 1),
            ("d", 10, 1),
            ("unknown", 1, 1),
            ("no/name", 1, 1),
        ],
    );
    // Of what it didn't name it learns nothing.
    let told = hub.about(&says("db1:3322", "u1", &[("a", 1, 1), ("unknown", 1, 1)]));
    let told: Vec<_> = told.servers[0]
        .states
        .iter()
        .map(|stated| stated.database.as_str())
        .collect();
    assert_eq!(told, ["a"]);
    hub.take((0, Way::Answer), &message);
    hub.take((0, Way::Answer), &message);
    assert_eq!(waiting(&hub), [("b".to_owned(), 9), ("c".to_owned(), 8)]);
    assert!(waiting(&hub).is_empty());
    // The same again is looked at again, until it was found to be in order.
    hub.take((0, Way::Answer), &message);
    assert_eq!(waiting(&hub).len(), 2);
    hub.agree("db1", (0, Way::Answer, "c".to_owned()), claim(8, 1).state);
    hub.take((0, Way::Answer), &message);
    assert_eq!(waiting(&hub), [("b".to_owned(), 9)]);
}

#[test]
fn a_peer_that_says_very_much_fills_no_memory() {
    let (_journal, hub) = hub();
    publish(&hub, "db1", "u1", &[("db0", 9), ("db1", 9)]);
    let names: Vec<String> = (0..3_000).map(|number| format!("db{number}")).collect();
    let theirs: Vec<(&str, u64, u8)> = names.iter().map(|name| (name.as_str(), 5, 1)).collect();
    hub.take((0, Way::Answer), &says("db1:3322", "u1", &theirs));
    assert_eq!(waiting(&hub).len(), 2);
}

/// Also those behind others that have something new each time.
#[test]
fn all_have_their_turn() {
    let (_journal, hub) = hub();
    let names: Vec<String> = (0..1_500).map(|number| format!("db{number:04}")).collect();
    let ours: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 99)).collect();
    publish(&hub, "db1", "u1", &ours);
    let mut looked = std::collections::BTreeSet::new();
    for round in 0..15 {
        let theirs: Vec<(&str, u64, u8)> = names.iter().map(|name| (name.as_str(), 5 + round, 1)).collect();
        hub.take((0, Way::Answer), &says("db1:3322", "u1", &theirs));
        looked.extend(
            hub.waiting("db1", 100)
                .into_iter()
                .map(|((_, _, database), _)| database),
        );
    }
    assert_eq!(looked.len(), names.len());
}

/// Who got hold of a peer's checkpoint says something else before that was looked at.
#[test]
fn what_anybody_says_takes_nothing_from_what_the_peer_said() {
    let (_journal, hub) = hub();
    publish(&hub, "db1", "u1", &[("a", 9)]);
    let mut signed = says("db1:3322", "u1", &[("a", 5, 1)]);
    let claim = Claim {
        signature: Signature::new(&[1], &[4; 65]),
        ..claim(5, 1)
    };
    signed.servers[0].states[0] = claim.stated("a");
    hub.take((0, Way::Answer), &signed);
    hub.take((0, Way::Request), &signed);
    hub.take((0, Way::Request), &says("db1:3322", "u1", &[("a", 3, HASH)]));
    hub.take((0, Way::Answer), &says("db1:3322", "u1", &[("a", 4, HASH)]));
    let mut other = signed;
    other.servers[0].states[0] = Claim {
        signature: Signature::new(&[2], &[4; 65]),
        ..claim.clone()
    }
    .stated("a");
    hub.take((0, Way::Request), &other);
    let waiting = hub.waiting("db1", 10);
    assert_eq!(waiting[0], ((0, Way::Answer, "a".to_owned()), claim));
    assert_eq!(waiting.len(), 2);
}

#[test]
fn very_many_states_take_turns() {
    let (_journal, hub) = hub();
    let names: Vec<String> = (0..MAX_STATES + 5_000).map(|number| format!("db{number}")).collect();
    let ours: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 9)).collect();
    publish(&hub, "db1", "u1", &ours);
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let message = hub.all();
        assert_eq!(message.servers[0].states.len(), MAX_STATES);
        told.extend(
            message
                .servers
                .into_iter()
                .flat_map(|seen| seen.states)
                .map(|stated| stated.database),
        );
    }
    assert_eq!(told.len(), names.len());
}
