use super::*;
use crate::load::tests::rule;

#[test]
fn bytes_and_back() {
    let mut ledger = Ledger::new("d0c0ffee");
    ledger.note(SettingKind::Enabled, 0, 1);
    ledger.note(SettingKind::BacklogLimit, 64, 8192);
    ledger.set_rules(vec![
        rule("-a always,exit -F arch=b64 -S execve -k a").normalised(),
        rule("-w /etc/shadow -p wa -k b").normalised(),
    ]);
    let bytes = ledger.to_bytes();
    assert_eq!(Ledger::from_bytes(&bytes), Some(ledger.clone()));
    assert_eq!(Ledger::of_boot(Some(&bytes), "d0c0ffee"), ledger);
    // Another boot: nothing is ours.
    assert!(Ledger::of_boot(Some(&bytes), "other").is_empty());
    assert!(Ledger::of_boot(Some(b"nonsense"), "other").is_empty());
    for end in 0..bytes.len() {
        assert_eq!(Ledger::from_bytes(&bytes[..end]), None);
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = Ledger::from_bytes(&damaged);
    }
}

#[test]
fn a_setting_keeps_its_value_before_our_first_change() {
    let mut ledger = Ledger::new("b");
    ledger.note(SettingKind::BacklogLimit, 64, 8192);
    // A second run of ours finds 8192 and sets 16384.
    ledger.note(SettingKind::BacklogLimit, 8192, 16384);
    assert_eq!(ledger.changed()[0].before, 64);
    // Somebody set 1000 in between: that is what we would put back.
    ledger.note(SettingKind::BacklogLimit, 1000, 2000);
    assert_eq!(ledger.changed()[0].before, 1000);
    ledger.note(SettingKind::BacklogLimit, 2000, 1000);
    assert!(ledger.is_empty());
}
