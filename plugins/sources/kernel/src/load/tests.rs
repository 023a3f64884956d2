use super::*;
use audit_rule::parse_file;

struct Nobody;

impl Host for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
    fn gid(&self, _: &str) -> Option<u32> {
        None
    }
    fn is_dir(&self, _: &[u8]) -> bool {
        false
    }
}

pub(crate) fn rule(line: &str) -> Rule {
    let parsed = parse_file(line.as_bytes(), &Nobody).unwrap();
    match parsed.statements.into_iter().next() {
        Some((_, Statement::Add(rule))) => *rule,
        other => panic!("{other:?}"),
    }
}

fn wanted(text: &str) -> Wanted {
    parse_all([("test", text.as_bytes().to_vec())], &Nobody).unwrap()
}

fn loaded(lines: &[&str]) -> Vec<Loaded> {
    let listed = |line: &&str| Loaded::Rule(Box::new(rule(line).normalised()));
    lines.iter().map(listed).collect()
}

const A: &str = "-a always,exit -F arch=b64 -S execve -k a";
const B: &str = "-a always,exit -F arch=b64 -S openat -k b";
const C: &str = "-a never,exit -F arch=b64 -S execve -F uid=1";

fn ledger(lines: &[&str]) -> Ledger {
    let mut ledger = Ledger::new("boot");
    ledger.set_rules(lines.iter().map(|line| rule(line).normalised()).collect());
    ledger
}

fn plan(want: &[&str], is: &[&str], ours: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut ledger = ledger(ours);
    let plan = Plan::make(&wanted(&want.join("\n")), &loaded(is), &Status::default(), &mut ledger);
    let text = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect();
    (text(&plan.add), text(&plan.delete), text(ledger.rules()))
}

fn strings(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| rule(line).to_string()).collect()
}

#[test]
fn adds_what_is_missing_and_leaves_what_others_loaded() {
    let (add, delete, ours) = plan(&[A, B], &[B, C], &[]);
    assert_eq!((add, delete), (strings(&[A]), vec![]));
    assert_eq!(ours, strings(&[A]), "B was there before: not ours");
}

#[test]
fn leftovers_of_a_killed_run_are_ours() {
    // Wanted again: they stay, and stay ours.
    let (add, delete, ours) = plan(&[A, B], &[A, B], &[A, B]);
    assert_eq!((add.len(), delete.len(), ours), (0, 0, strings(&[A, B])));
    // No longer wanted: they go. C is somebody else's.
    let (add, delete, ours) = plan(&[B], &[A, C], &[A]);
    assert_eq!((add, delete, ours), (strings(&[B]), strings(&[A]), strings(&[B])));
    // In the ledger, but not loaded any more.
    let (add, delete, ours) = plan(&[], &[C], &[A]);
    assert_eq!((add.len(), delete.len(), ours.len()), (0, 0, 0));
}

#[test]
fn a_changed_order_is_loaded_anew() {
    let (add, delete, _) = plan(&[C, A], &[A, C], &[A, C]);
    assert_eq!((add, delete), (strings(&[C, A]), strings(&[A, C])));
    let (add, delete, _) = plan(&[A, C, B], &[A, B], &[A, B]);
    assert_eq!((add, delete), (strings(&[C, B]), strings(&[B])));
}

#[test]
fn prepended_rules_stay_only_as_a_whole() {
    let front = "-A never,exit -S all -F pid=1";
    let second = "-A never,exit -S all -F pid=2";
    // Loaded, the last one prepended stands first.
    let (add, delete, _) = plan(&[front, second, A], &[second, front, A], &[front, second, A]);
    assert_eq!((add.len(), delete.len()), (0, 0));
    let (add, delete, _) = plan(&[front, second, A], &[front, A], &[front, A]);
    assert_eq!((add.len(), delete.len()), (2, 1));
}

#[test]
fn delete_all_takes_back_what_stands_before_it() {
    let want = wanted(&format!("{A}\n-D\n{B}\n{B}\n-b 8192\n-b 64\n-i"));
    assert_eq!(want.rules, [rule(B)]);
    assert_eq!(want.settings, [(SettingKind::BacklogLimit, 64)]);
    assert_eq!(want.warnings.len(), 1);
    assert!(want.lenient);
    let want = wanted(&format!("{A}\n{B}\n-D -k a"));
    assert_eq!(want.rules, [rule(B)]);
}

#[test]
fn settings_that_are_right_are_not_touched() {
    let mut want = wanted("-b 8192\n-r 0");
    want.set_default(SettingKind::BacklogLimit, 1);
    want.set_default(SettingKind::Enabled, 1);
    let status = Status {
        backlog_limit: 8192,
        ..Status::default()
    };
    let mut ledger = Ledger::new("boot");
    let plan = Plan::make(&want, &[], &status, &mut ledger);
    assert_eq!(plan.settings, [(SettingKind::Enabled, 1)]);
    assert_eq!(ledger.changed().len(), 1);
}

#[test]
fn a_locked_configuration_is_left_alone() {
    let status = Status {
        enabled: 2,
        ..Status::default()
    };
    let mut ledger = ledger(&[B]);
    let plan = Plan::make(&wanted(A), &loaded(&[A]), &status, &mut ledger);
    assert!(plan.locked && plan.is_empty());
    assert_eq!(plan.present, 1);
    assert_eq!(ledger.rules().len(), 1);
}

#[test]
fn faults_name_their_file() {
    let faults = parse_all(
        [("one.rules", b"-e 2".to_vec()), ("two.rules", b"\n-z".to_vec())],
        &Nobody,
    );
    let faults = faults.unwrap_err();
    assert!(faults[0].starts_with("one.rules: line 1: "));
    assert!(faults[1].starts_with("two.rules: line 2: "));
}
