//! Behaviour of the grammar beyond the recorded lines.

#![allow(clippy::unwrap_used)]

mod support;

use audit_rule::{Rule, Statement, Value, parse_file, parse_line};
use support::{Recorded, rule};

fn faults(line: &str) -> Vec<String> {
    match parse_line(line.as_bytes(), &Recorded) {
        Ok(parsed) => panic!("{line}: {parsed:?}"),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn warnings(line: &str) -> Vec<String> {
    let parsed = parse_line(line.as_bytes(), &Recorded).unwrap();
    parsed.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_reports_all_faults_at_once_with_their_lines() {
    let text = b"# comment\n\n-D\n-b 8192\n-a always,exit -F nosuch=1 -S nosuch\r\n-e 2\n-z\n";
    let faults = parse_file(text, &Recorded).unwrap_err();
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [5, 6, 7]);
    let faults = parse_file(b"-a always,exit -F nosuch=1 -F perm=q -k\n-f 2", &Recorded).unwrap_err();
    assert_eq!(faults.len(), 4, "{faults:?}");
}

#[test]
fn dangerous_settings_are_refused_with_the_reason() {
    assert!(faults("-e 2")[0].contains("until the machine restarts"));
    assert!(faults("-f 2")[0].contains("panic"));
    assert!(faults("-a always,exclude")[0].contains("every record"));
    assert!(faults("-w /")[0].contains("everything"));
    assert!(faults("-d always,exit")[0].contains("someone else"));
}

#[test]
fn statements_of_settings() {
    let text = b"-D\n-D -k mine\n-b 64\n-f 1\n-e 0\n-r 0\n--backlog_wait_time 100\n-i\n-c\n-b8192";
    let parsed = parse_file(text, &Recorded).unwrap();
    let statements: Vec<Statement> = parsed.statements.into_iter().map(|(_, s)| s).collect();
    assert_eq!(
        statements,
        [
            Statement::DeleteAll { key: None },
            Statement::DeleteAll {
                key: Some(b"mine".to_vec())
            },
            Statement::BacklogLimit(64),
            Statement::Failure(1),
            Statement::Enabled(0),
            Statement::RateLimit(0),
            Statement::BacklogWaitTime(100),
            Statement::IgnoreErrors,
            Statement::ContinueOnErrors,
            Statement::BacklogLimit(8192),
        ]
    );
}

#[test]
fn after_i_or_c_a_faulty_line_is_skipped_with_a_warning() {
    let parsed = parse_file(b"-i\n-a always,exit -S nosuch\n-w /etc/passwd", &Recorded).unwrap();
    assert_eq!(parsed.statements.len(), 2);
    assert_eq!(parsed.warnings[0].line, 2);
}

#[test]
fn words_are_split_at_spaces_and_backslash_keeps_them() {
    let rule = rule(r"-w /tmp/with\ space\\x  -p wa -k two\ words");
    assert_eq!(rule.tests[0].value, Value::Text(br"/tmp/with space\x".to_vec()));
    assert_eq!(rule.keys().collect::<Vec<_>>(), [b"two words"]);
    assert!(faults("-w\t/etc/shadow")[0].contains("not an absolute path"));
    assert!(faults("-w /etc/shadow \"-p\"")[0].contains("unexpected word"));
    assert!(faults("-w /etc/shadow x\ty")[0].contains("tab"));
}

#[test]
fn the_first_kind_of_operator_wins_wherever_it_stands() {
    assert!(faults("-a always,exit -F path=/a!=b")[0].contains("first !="));
}

#[test]
fn arch_decides_what_the_names_mean() {
    assert!(rule("-a always,exit -F arch=b32 -S execve").mask.contains(11));
    assert!(rule("-a always,exit -F arch=aarch64 -S execve").mask.contains(221));
    assert!(rule("-a always,exit -F arch=B64 -S pread").mask.contains(17));
    assert!(faults("-a always,exit -F arch=s390x -S open")[0].contains("number only"));
    assert!(rule("-a always,exit -F arch=s390x -S 5").mask.contains(5));
    assert!(faults("-a always,exit -S 2032")[0].contains("2031"));
    assert!(warnings("-a always,exit -S open")[0].contains("32-bit programs"));
    assert!(warnings("-a always,exit -F arch=b64 -S open").is_empty());
}

#[test]
fn warns_of_tests_that_do_not_do_what_they_say() {
    assert!(warnings("-a always,exit -F exit=EACCES")[0].contains("never matches"));
    assert!(warnings("-a always,exit -F exit<0")[0].contains("unsigned"));
    assert!(warnings("-a always,exit -F path=/etc/shadow -F perm=wa")[0].contains("every system call"));
    assert!(warnings("-w /etc/*.conf")[0].contains("themselves"));
}

#[test]
fn values_are_checked_before_the_kernel_can() {
    for (line, part) in [
        ("-a always,exit -F success=yes", "0 or 1"),
        ("-a always,exit -F uid=nobody-here", "no user"),
        ("-a always,exit -F uid=unset", "cannot be unset"),
        ("-a always,exit -F saddr_fam=46", "address family"),
        ("-a always,exit -F perm=z", "unknown permission"),
        ("-a always,exit -F filetype=door", "unknown file type"),
        ("-a always,exit -F pid=4294967296", "32 bits"),
        ("-a always,exit -F pid&1", "cannot be compared"),
        ("-a always,exit -F path!=/etc/x", "cannot be compared"),
        ("-a always,exit -F msgtype=CWD", "not valid on the exit list"),
        ("-a never,task -S open", "task list"),
        ("-a always,exit -C uid=gid", "cannot compare"),
        ("-a always,exit -F arch=b64 -F arch=b32", "second -F arch"),
        ("-a always,exit -F exe=/a -F exe=/b", "more than one exe"),
        ("-a always,exit -w /etc/shadow", "together"),
        ("-k alone", "without a rule"),
        ("-p wa", "no list"),
        ("-F uid=0", "before the list"),
        ("-a sometimes,exit", "no list and action"),
        ("-a always,entry", "no longer exists"),
        ("-F UID=0 -a always,exit", "before the list"),
        ("-a always,exit -F UID=0", "did you mean uid"),
    ] {
        let faults = faults(line);
        assert!(faults.iter().any(|fault| fault.contains(part)), "{line}: {faults:?}");
    }
}

#[test]
fn keys_are_bounded_and_fields_too() {
    let key = "k".repeat(257);
    assert!(faults(&format!("-w /etc/shadow -k {key}"))[0].contains("256"));
    let many = "-F pid!=1 ".repeat(64);
    assert!(faults(&format!("-a always,exit {many} -k x"))[0].contains("64"));
    assert_eq!(rule(&format!("-a always,exit {many}")).tests.len(), 64);
}

#[test]
fn a_rule_prints_as_a_line_that_reads_back() {
    for line in [
        "-a always,exit -F arch=b64 -S execve,execveat -k auditmon-demo",
        "-a always,exit -F arch=b32 -S execve,execveat -k auditmon-demo",
        "-A never,exit -S all -F pid=12",
        "-a always,exit -F arch=b64 -S openat -F exit=-EACCES -F auid>=1000 -F auid!=unset -k x",
        "-a always,exclude -F msgtype=CWD",
        "-a never,task",
        "-a never,filesystem -F fstype=tracefs -k nofs",
        "-a always,exit -F arch=b64 -S execve -C uid!=euid -F euid=0 -k one -k two",
        "-w /etc -p wa -k etc",
        r"-w /tmp/with\ space -p rwxa",
    ] {
        let parsed = rule(line);
        assert_eq!(parsed.to_string(), line);
        assert_eq!(rule(&parsed.to_string()), parsed);
    }
}

#[test]
fn what_the_kernel_lists_equals_what_was_sent() {
    let sent = rule("-A always,exit -S all -F pid=1005");
    let mut listed = sent.encode().unwrap();
    listed[0..4].copy_from_slice(&4u32.to_ne_bytes());
    listed[12 + 63 * 4..12 + 64 * 4].copy_from_slice(&0x0000_ffffu32.to_ne_bytes());
    let listed = Rule::decode(&listed).unwrap();
    assert_ne!(listed, sent);
    assert_eq!(listed.normalised(), sent.normalised());
    assert!(listed.mask.is_all());
}
