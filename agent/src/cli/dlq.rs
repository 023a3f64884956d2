//! `auditmon dlq`: events that a sink's other side refused for good. Works on the files, beside a running agent
//! too, which is told of a replay.

use std::fmt::Write as _;
use std::process::ExitCode;

use auditmon_runtime::dead_letters;
use clap::Subcommand;
use hyper::Method;

use crate::admin;
use crate::cli::{Context, Failure, exit, print, small_runtime};

/// Verbs of `auditmon dlq`.
#[derive(Subcommand)]
pub enum DlqVerb {
    /// List refused events with the reasons
    #[command(
        after_help = "Examples:\n  auditmon dlq list\n  auditmon dlq list webhook.siem --json | jq -r .reason | sort | uniq -c"
    )]
    List {
        /// Of this sink only, such as webhook.siem
        sink: Option<String>,
        /// One letter a line, as JSON, with the whole event
        #[arg(long)]
        json: bool,
    },
    /// Hand refused events over again; what is refused once more comes back
    #[command(
        after_help = "Examples:\n  auditmon dlq replay webhook.siem\n  auditmon dlq replay webhook.siem --seq 17 --seq 18"
    )]
    Replay {
        /// The sink
        sink: String,
        /// Only the event at this place of the journal; may be given several times
        #[arg(long, value_name = "SEQ")]
        seq: Vec<u64>,
    },
}

/// Runs `auditmon dlq`.
pub fn run(context: &Context, verb: DlqVerb) -> Result<ExitCode, Failure> {
    let known = dead_letters::sinks(&context.data_dir).map_err(Failure::plain)?;
    let unknown = |sink: &str| Failure {
        code: exit::USAGE,
        message: match known.as_slice() {
            [] => "there are no dead letters".to_owned(),
            some => format!("there are no dead letters of `{sink}`, only of {}", some.join(", ")),
        },
    };
    match verb {
        DlqVerb::List { sink, json } => {
            let sinks = match sink {
                Some(sink) if !known.contains(&sink) => return Err(unknown(&sink)),
                Some(sink) => vec![sink],
                None => known.clone(),
            };
            for sink in sinks {
                list(context, &sink, json)?;
            }
        }
        DlqVerb::Replay { sink, seq } => {
            if !known.contains(&sink) {
                return Err(unknown(&sink));
            }
            let letters = dead_letters::request_replay(&context.data_dir, &sink, &seq).map_err(Failure::plain)?;
            if letters == 0 {
                return Err(Failure::plain(format!("`{sink}` has no such dead letter")));
            }
            let when = poke(context, &sink);
            print(&format!("{letters} events will be handed to {sink} again{when}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells the running agent, which would find the request by itself within seconds; gives the words for when it is
/// followed. The request is on disk: that nobody can be told is no failure.
fn poke(context: &Context, sink: &str) -> String {
    let told = small_runtime().and_then(|runtime| {
        runtime.block_on(async {
            let path = format!("/dlq/{sink}/replay");
            match admin::ask(&context.data_dir, Method::POST, &path).await? {
                Some(answer) => admin::whole(answer).await.map(|_| true),
                None => Ok(false),
            }
        })
    });
    match told {
        Ok(true) => ", now".to_owned(),
        Ok(false) => ", at the next start".to_owned(),
        Err(failure) => format!(" as soon as it is at work ({})", failure.message),
    }
}

fn list(context: &Context, sink: &str, json: bool) -> Result<(), Failure> {
    let mut damaged = 0_u64;
    let listed = dead_letters::list(&context.data_dir, sink, |letter| {
        let Some(letter) = letter else {
            damaged += 1;
            return Ok(());
        };
        let mut out = String::new();
        // Writing to a string cannot fail.
        if json {
            let line = serde_json::json!({
                "sink": sink, "seq": letter.seq, "origin": letter.origin, "event_id": letter.event_id,
                "time": letter.time, "reason": letter.reason, "event": letter.event,
            });
            let _ = writeln!(out, "{line}");
        } else {
            let reason: String = letter
                .reason
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let _ = writeln!(
                out,
                "{sink:<20} {:>10} {} {} {reason}",
                letter.seq, letter.event_id, letter.time
            );
        }
        print(&out).map_err(|failure| std::io::Error::other(failure.message))
    });
    listed.map_err(Failure::plain)?;
    if damaged > 0 {
        eprintln!("auditmon: {damaged} lines of {sink} are no letters: torn by a crash, or changed");
    }
    Ok(())
}
