//! `auditmon journal`: reads the journal's files, beside a running agent too. Only `accept-rollback` and `erase`
//! change something.

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use auditmon_core::event;
use auditmon_journal::RealFs;
use auditmon_journal::format::{Kind, Record, StateRecord};
use auditmon_journal::fsck::{self, Problem};
use auditmon_journal::{Dump, DumpItem, GapReason};
use auditmon_runtime::erase::{self, Erasure};
use auditmon_runtime::rollback;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use hyper::Method;

use crate::admin;
use crate::cli::{Context, Failure, exit, open_offline, print, small_runtime};

/// Verbs of `auditmon journal`.
#[derive(Subcommand)]
pub enum JournalVerb {
    /// Check every frame and leaf; exit code 0 clean (also with an unfinished tail), 1 damage, 2 could not check
    #[command(after_help = "Examples:\n  auditmon journal fsck\n  auditmon journal fsck --data-dir /mnt/evidence")]
    Fsck,
    /// Accept that the journal was rewritten or put back and goes on as a new generation: sinks that wait go on
    #[command(
        after_help = "Examples:\n  auditmon journal accept-rollback --reason 'restored from the backup of 3 May'"
    )]
    AcceptRollback {
        /// Why; it becomes part of the event journal.rollback_accepted
        #[arg(long)]
        reason: String,
    },
    /// Erase what one event says, everywhere the running agent has it; its place stays provable
    #[command(after_help = "Examples:\n  \
        auditmon journal erase 019b76da-a800-7000-8000-000000000001 --reason 'ticket 4711: personal data'\n\n\
        The event journal.erasure says so first. Then the content goes from the journal, the store and the dead\n\
        letters; what was handed to receivers or is in backups does not. There is no way back. Exit code 0: it is\n\
        erased, also if it was before; 1: it isn't; 2: wrong command line.")]
    Erase {
        /// The event's id
        event_id: String,
        /// Why; it becomes part of the event journal.erasure, so it must not repeat what is erased
        #[arg(long)]
        reason: String,
    },
    /// Print one JSON object a line: seq, leaf (base64), event
    #[command(
        after_help = "Examples:\n  auditmon journal dump | jq .event\n  auditmon journal dump --all > journal.jsonl"
    )]
    Dump {
        /// Also what sources remember
        #[arg(long)]
        all: bool,
    },
}

fn could_not(error: impl std::fmt::Display) -> Failure {
    Failure {
        code: exit::USAGE,
        message: error.to_string(),
    }
}

/// Runs `auditmon journal`.
pub fn run(context: &Context, verb: JournalVerb) -> Result<ExitCode, Failure> {
    match verb {
        JournalVerb::Fsck => check(context),
        JournalVerb::Dump { all } => dump(context, all),
        JournalVerb::AcceptRollback { reason } => accept_rollback(context, &reason),
        JournalVerb::Erase { event_id, reason } => erase(context, &event_id, &reason),
    }
}

/// By the running agent, or in its place.
fn accept_rollback(context: &Context, reason: &str) -> Result<ExitCode, Failure> {
    rollback::check(reason).map_err(could_not)?;
    let query = admin::encode_query(&[("reason", reason.to_owned())]);
    let path = format!("/journal/accept-rollback?{query}");
    let runtime = small_runtime()?;
    let asked = runtime.block_on(async {
        match admin::ask(&context.data_dir, Method::POST, &path).await? {
            Some(answer) => admin::whole(answer).await.map(Some),
            None => Ok(None),
        }
    })?;
    if asked.is_none() {
        let offline = open_offline(context, &runtime)?;
        rollback::accept(offline.journal(), reason, |about, data| offline.store(about, data))
            .map_err(Failure::plain)?;
    }
    eprintln!(
        "auditmon: accepted, with all generations before that nobody has accepted yet; sinks that waited are given what is \
         left of the former generation, then this one from its front"
    );
    Ok(ExitCode::SUCCESS)
}

/// By the running agent only: it alone knows what its sinks hold.
fn erase(context: &Context, event_id: &str, reason: &str) -> Result<ExitCode, Failure> {
    let id = erase::check(event_id, reason).map_err(could_not)?;
    let query = admin::encode_query(&[("event_id", id.to_string()), ("reason", reason.to_owned())]);
    let path = format!("/journal/erase?{query}");
    let asked = small_runtime()?.block_on(admin::ask_json::<Erasure>(&context.data_dir, Method::POST, &path))?;
    let erasure = asked.ok_or_else(|| admin::none_runs(&context.data_dir))?;
    let letters = erasure.letters;
    eprintln!(
        "auditmon: event {id}: {}",
        match erasure.seq {
            None => format!("taken out of the dead letters ({letters})"),
            Some(seq) if erasure.before =>
                format!("seq {seq}: nothing of it was left: it was erased before, or removed by retention"),
            Some(seq) if letters == 0 => format!("seq {seq}: erased"),
            Some(seq) => format!("seq {seq}: erased, and taken out of the dead letters ({letters})"),
        }
    );
    for note in erasure.notes {
        eprintln!("auditmon: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn check(context: &Context) -> Result<ExitCode, Failure> {
    let dir = context.data_dir.display();
    let report = fsck::check(&RealFs, &context.data_dir)
        .map_err(|error| could_not(format!("{dir}: the journal can't be checked: {error}")))?;
    let mut out = String::new();
    let (mut segments, mut records) = (0_u64, 0_u64);
    for generation in &report.generations {
        for segment in &generation.segments {
            segments += 1;
            records += segment.records;
            let place = format!("generation {} segment {:020}", generation.number, segment.first_seq);
            for problem in &segment.problems {
                let says = match problem {
                    Problem::TornTail { offset, length } => {
                        format!("unfinished tail: {place}: offset {offset}, {length} bytes; the next start cuts it")
                    }
                    Problem::Damage { offset, first, last } => {
                        format!("damaged: {place}: offset {offset}: seq {first} to {last} can't be read")
                    }
                    Problem::Head => {
                        format!("damaged: {place}: its head is not readable or belongs to another journal")
                    }
                    Problem::Leaves { seq } => {
                        format!("damaged: {place}: seq {seq}: its leaf does not match the record")
                    }
                };
                out += &format!("{says}\n");
            }
        }
    }
    let clean = report.is_clean();
    out += &format!(
        "{}: {segments} segments, {records} records\n",
        if clean { "clean" } else { "damaged" }
    );
    print(&out)?;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILURE)
    })
}

/// Whether an agent has the directory open; where that can't be told, what is proven to be synced is shown.
fn is_running(context: &Context) -> bool {
    !matches!(auditmon_journal::holder(&context.data_dir), Ok(None))
}

fn dump(context: &Context, all: bool) -> Result<ExitCode, Failure> {
    let dir = context.data_dir.display();
    let fail = |error: &dyn std::fmt::Display| could_not(format!("{dir}: the journal can't be read: {error}"));
    let mut dump = Dump::new(RealFs, &context.data_dir, is_running(context)).map_err(|error| fail(&error))?;
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let mut line = Vec::new();
    let mut origin = String::new();
    let mut damaged = false;
    while let Some(item) = dump.next().map_err(|error| fail(&error))? {
        match item {
            DumpItem::Origin(next) => origin = next,
            DumpItem::Gap(gap) if gap.reason == GapReason::Expired => {
                eprintln!(
                    "auditmon: {origin}: payloads of seq {} to {} were removed by retention",
                    gap.first, gap.last
                );
            }
            DumpItem::Gap(gap) => {
                damaged = true;
                eprintln!(
                    "auditmon: {origin}: seq {} to {} can't be read: damaged",
                    gap.first, gap.last
                );
            }
            DumpItem::Records(batch) => {
                for entry in batch.iter() {
                    line.clear();
                    if write_entry(&origin, entry.seq, &entry.record, all, &mut line) {
                        write(&mut out, &line)?;
                    }
                }
            }
        }
    }
    out.flush().map_err(Failure::plain)?;
    Ok(if damaged {
        ExitCode::from(exit::FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

fn write(out: &mut impl std::io::Write, line: &[u8]) -> Result<(), Failure> {
    match out.write_all(line) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Failure::plain),
    }
}

/// Appends the record's line; false if it is not to be shown.
fn write_entry(origin: &str, seq: u64, record: &Record<'_>, all: bool, line: &mut Vec<u8>) -> bool {
    let state = record.prefix.kind == Kind::State;
    if state && !all {
        return false;
    }
    line.extend_from_slice(format!("{{\"seq\":{seq},\"leaf\":\"{}\"", STANDARD.encode(record.leaf())).as_bytes());
    match record.payload() {
        None => line.extend_from_slice(b",\"erased\":true"),
        Some(payload) if state => {
            if let Ok(state) = StateRecord::parse(payload) {
                let text = serde_json::json!({
                    "key": STANDARD.encode(state.key),
                    "expiry": state.expiry_ns,
                    "value": STANDARD.encode(state.value),
                });
                line.extend_from_slice(b",\"state\":");
                line.extend_from_slice(text.to_string().as_bytes());
            }
        }
        Some(payload) => {
            line.extend_from_slice(b",\"event\":");
            event::write_output(payload, origin, seq, record.prefix.received_ns, line);
        }
    }
    line.extend_from_slice(b"}\n");
    true
}
