//! Requests and answers against the recorded datagrams.

use super::*;
use crate::status::{SettingKind, Status, registration};

fn recorded(kind: &str) -> Vec<(usize, Vec<u8>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../tests/fixtures/kernel-records/netlink-datagrams.tsv"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|row| {
        let columns: Vec<&str> = row.split('\t').collect();
        let hex = columns[columns.len() - 1].as_bytes();
        (columns[0] == kind).then(|| {
            let bytes = hex
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            (columns[1].parse().unwrap(), bytes.collect())
        })
    });
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty(), "{kind}");
    rows
}

/// The recorded request with its sequence number replaced by ours.
fn request(kind: &str) -> Vec<u8> {
    recorded(&format!("request:{kind}")).remove(0).1
}

#[test]
fn requests_are_what_was_recorded() {
    let sequence = |bytes: &[u8]| u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
    for (ours, name) in [
        (Request::GetStatus, "AUDIT_GET"),
        (Request::ListRules, "AUDIT_LIST_RULES"),
        (Request::SignalInfo, "AUDIT_SIGNAL_INFO"),
    ] {
        let theirs = request(name);
        assert_eq!(ours.datagram(sequence(&theirs)), theirs, "{name}");
    }
    // The recording sends all 44 bytes of the status, netlink-packet-audit 40.
    let theirs = request("AUDIT_SET_pid_not_mine");
    let pid = u32::from_ne_bytes(theirs[28..32].try_into().unwrap());
    let ours = Request::SetStatus(registration(pid)).datagram(sequence(&theirs));
    assert_eq!(ours.len(), 56);
    assert_eq!(ours[4..56], theirs[4..56]);
}

#[test]
fn a_body_that_is_no_multiple_of_four_is_padded_behind_its_length() {
    let datagram = Request::User(1121, b"abc\0d").datagram(7);
    assert_eq!(datagram.len(), 24);
    assert_eq!(datagram[..4], 21u32.to_ne_bytes());
    let cut = Datagram::cut(&datagram).unwrap();
    assert_eq!((cut.kind, cut.sequence), (1121, 7));
}

#[test]
fn answers_of_every_kind() {
    let code = |name: &str| {
        let rows = recorded(&format!("reply:{name}"));
        Datagram::cut(&rows[0].1).unwrap().error_code()
    };
    assert_eq!(code("AUDIT_GET"), Some(0));
    assert_eq!(code("AUDIT_SET_pid_while_registered"), Some(-17));
    assert_eq!(code("AUDIT_SET_pid_not_mine"), Some(-22));
    assert_eq!(code("AUDIT_DEL_RULE_absent"), Some(-2));
    assert_eq!(code("AUDIT_LIST_old"), Some(-95));
    // A reset answers with the old value: positive, and no error.
    assert!(code("AUDIT_SET_reset_lost").is_some_and(|code| code >= 0));
}

#[test]
fn status_by_length() {
    let rows = recorded("reply:AUDIT_GET");
    let reply = Datagram::cut(&rows[1].1).unwrap();
    assert_eq!(reply.payload.len(), 44);
    let status = Status::parse(reply.payload).unwrap();
    assert_eq!(status.backlog_limit, 8192);
    assert_eq!(status.features, Some(0x7f));
    assert_eq!(status.backlog_wait_time, Some(15000));
    assert_eq!(status.backlog_wait_time_actual, Some(0));
    let older = Status::parse(&reply.payload[..40]).unwrap();
    assert_eq!(older.backlog_wait_time_actual, None);
    let oldest = Status::parse(&reply.payload[..32]).unwrap();
    assert_eq!((oldest.features, oldest.backlog_limit), (None, 8192));
    assert_eq!(Status::parse(&reply.payload[..31]), None);
    let mut newer = reply.payload.to_vec();
    newer.extend([0xff; 20]);
    assert_eq!(Status::parse(&newer), Some(status));
}

#[test]
fn records_are_cut_by_what_was_received() {
    for (len, bytes) in recorded("unicast") {
        assert_eq!(bytes.len(), len);
        let claimed = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        let record = Datagram::cut(&bytes).unwrap();
        assert_eq!(record.payload.len(), len - HEADER_LEN);
        if record.kind != kind::REPLACE {
            assert_eq!(claimed, record.payload.len(), "the kernel's length is 16 short");
            assert!(record.payload.starts_with(b"audit("));
        }
    }
    assert_eq!(Datagram::cut(&[0; 15]), None);
}

#[test]
fn each_setting_goes_with_its_own_mask_bit() {
    for (setting, mask, at) in [
        (SettingKind::Enabled, 0x01u32, 4),
        (SettingKind::Failure, 0x02, 8),
        (SettingKind::RateLimit, 0x08, 16),
        (SettingKind::BacklogLimit, 0x10, 20),
        (SettingKind::BacklogWaitTime, 0x20, 36),
    ] {
        let datagram = Request::SetStatus(setting.message(0x0102_0304)).datagram(1);
        let mut expected = vec![0; 40];
        expected[..4].copy_from_slice(&mask.to_ne_bytes());
        expected[at..at + 4].copy_from_slice(&0x0102_0304u32.to_ne_bytes());
        assert_eq!(datagram[16..], expected);
    }
}
