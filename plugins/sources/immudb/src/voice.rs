//! The way of verdicts into the journal.

use auditmon_core::event::{Data, Draft, Outcome, Severity};
use auditmon_core::{Emitter, Refused, time};
use auditmon_journal::Linger;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::note::Note;
use crate::verdict::{Unchecked, Verdict};

/// Most verdicts of one group in the journal.
pub(crate) const GROUP: usize = 256;

/// Longest text of an event, in bytes.
const MAX_TEXT: usize = 4_096;

/// The way into the journal.
pub(crate) struct Voice<'a> {
    pub(crate) emitter: &'a Emitter,
}

impl Voice<'_> {
    /// Takes verdicts, and hands over what they come to.
    pub(crate) async fn say(&self, ledger: &mut Ledger, verdicts: Vec<(String, Verdict)>) {
        let (mut note, now) = (Note::default(), time::now());
        for (name, verdict) in verdicts {
            ledger.settle(&name, verdict, &mut note, now);
        }
        self.write(ledger, &note).await;
    }

    /// Tells which verdicts are too old by now.
    pub(crate) async fn late(&self, ledger: &mut Ledger) {
        let text = "no audit has come to an end for two intervals";
        for names in ledger.late().chunks(GROUP) {
            let late = |name: &String| (name.clone(), Verdict::Unchecked(Unchecked::new("late", text)));
            self.say(ledger, names.iter().map(late).collect()).await;
        }
    }

    /// Hands it over, and waits for as long as the journal takes nothing. What it never takes is told apart from the rest.
    pub(crate) async fn write(&self, ledger: &mut Ledger, note: &Note) {
        if note.is_empty() || self.hand(ledger, note).await {
            return;
        }
        // Events need no memory, and findings are remembered before all else.
        let Note {
            told,
            mut states,
            stuck,
        } = note.clone();
        let told = Note {
            told,
            stuck,
            ..Note::default()
        };
        if !told.is_empty() && !self.hand(ledger, &told).await {
            tracing::error!(
                server = ledger.label,
                "immudb: the journal can't take verdicts; they are not told"
            );
        }
        states.sort_by_key(|(key, _)| !ledger.is_found(key));
        let (mut parts, mut left) = (vec![states], 0);
        while let Some(mut states) = parts.pop() {
            let note = Note {
                states,
                ..Note::default()
            };
            if note.is_empty() || self.hand(ledger, &note).await {
                continue;
            }
            states = note.states;
            if states.len() == 1 {
                left += 1;
            } else {
                let rest = states.split_off(states.len() / 2);
                parts.extend([rest, states]);
            }
        }
        if left > 0 {
            self.full(ledger, left).await;
        }
    }

    /// Hands it over in one frame; whether the journal can take that at all.
    async fn hand(&self, ledger: &Ledger, note: &Note) -> bool {
        loop {
            let mut batch = self.emitter.batch();
            if !note.write(&ledger.endpoint, &mut batch) {
                tracing::error!(
                    server = ledger.label,
                    "immudb: verdicts do not fit a batch; some are not told"
                );
            }
            match self.emitter.emit(batch, Linger::NONE).await {
                Ok(_) => return true,
                Err(Refused::TooLarge) => return false,
                Err(refused) => tokio::time::sleep(refused.retry_after()).await,
            }
        }
    }

    /// Tells that states which another auditor trusted are not taken, before anything is taken on trust.
    pub(crate) async fn not_imported(&self, ledger: &Ledger, severity: Severity, why: &[String]) {
        let all = why.join("; ");
        let text = auditmon_core::event::cut(&all, MAX_TEXT);
        tracing::warn!(server = ledger.label, "immudb: {text}");
        let server = json!({"name": ledger.label, "address": ledger.endpoint.to_string()});
        let data = json!({"server": server, "states": why.len(), "text": text});
        self.tell(ledger, "immudb.import.refused", severity, &data).await;
    }

    /// Tells once that not all is remembered.
    async fn full(&self, ledger: &mut Ledger, left: usize) {
        if std::mem::replace(&mut ledger.full, true) {
            return;
        }
        let text = "what was seen is audited and told, and not all of it is remembered: the journal takes 8 MiB for all \
                    servers; after a restart it goes on from what it remembered before";
        tracing::error!(server = ledger.label, "immudb: {text}");
        let server = json!({"name": ledger.label, "address": ledger.endpoint.to_string()});
        let data = json!({"server": server, "databases": left, "text": text});
        self.tell(ledger, "immudb.memory.full", Severity::Critical, &data).await;
    }

    /// Tells something of a server as a whole; waits for as long as the journal takes nothing.
    async fn tell(&self, ledger: &Ledger, name: &str, severity: Severity, data: &Value) {
        let data = data.to_string();
        let resource = format!("immudb://{}", ledger.endpoint);
        loop {
            let draft = Draft {
                resource: Some(&resource),
                read_only: true,
                outcome: Outcome::Failure,
                severity,
                data: Data::Raw(&data),
                ..Draft::new(name, "auditmon")
            };
            let mut batch = self.emitter.batch();
            if batch.push(draft).is_err() {
                return;
            }
            match self.emitter.emit(batch, Linger::NONE).await {
                Ok(_) | Err(Refused::TooLarge) => return,
                Err(refused) => tokio::time::sleep(refused.retry_after()).await,
            }
        }
    }
}
