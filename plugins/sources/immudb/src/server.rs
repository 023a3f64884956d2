//! One server: all its databases, every interval, at once within limits.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditmon_core::event::Severity;
use auditmon_core::health::HealthReporter;
use auditmon_core::{Emitter, Refused, time};
use auditmon_journal::Linger;
use futures_util::stream::{self, StreamExt as _};
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::chore::Done;
use crate::client::{Fault, Listed, version};
use crate::compat::Known;
use crate::compat::known::{self, Import};
use crate::config::Accept;
use crate::desk::{Orders, Request};
use crate::ledger::{Ledger, Past};
use crate::link::{IDLE, Job, Link, Turn};
use crate::note::Note;
use crate::peers::Meeting;
use crate::source::Board;
use crate::verdict::{Finding, Unchecked, Verdict};
use crate::voice::{GROUP, Voice};
use crate::word::Order;

/// After a refused login the next one waits so long: each costs the server, and may lock the user out.
const REFUSED: Duration = Duration::from_secs(60);

/// What is wrong where there is nothing to audit.
pub(crate) const NONE_SELECTED: &str = "no database is selected of those that the server lists";

/// For telling what was found, at the end.
const LAST: Duration = Duration::from_secs(5);

/// One server while it is audited.
pub(crate) struct Server {
    pub(crate) link: Arc<Link>,
    pub(crate) ledger: Ledger,
    /// Words of the configuration, taken at the start.
    pub(crate) accept: Vec<Accept>,
    /// What another auditor trusted, taken at the first answer.
    pub(crate) known: Vec<Known>,
    /// All databases of the last list.
    pub(crate) listed: Vec<Listed>,
    /// No login before this.
    pub(crate) refused: Option<(Instant, Fault)>,
    pub(crate) emitter: Emitter,
    pub(crate) health: HealthReporter,
    pub(crate) board: Arc<Board>,
    /// Words of operators.
    pub(crate) orders: Option<Orders>,
    /// Work beside the audits, at most one at a time.
    pub(crate) chores: JoinSet<Vec<Done>>,
    /// The database that was worked on last: the next one is next.
    pub(crate) worked: String,
    /// What that work found, until an audit has told it, or something else.
    pub(crate) found: BTreeMap<String, Finding>,
    /// The exchange with peers.
    pub(crate) meeting: Option<Meeting>,
}

impl Server {
    /// Audits until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
        let _ = tokio::time::timeout(LAST, self.last()).await;
        self.chores.shutdown().await;
        Meeting::end(&mut self.meeting).await;
        self.link.goodbye().await;
    }

    async fn work(&mut self) {
        let accept = std::mem::take(&mut self.accept);
        for order in accept.iter().filter_map(Order::of) {
            // One that was taken before, or is about nothing, stays without effect; another that fails is tried again by
            // the next life.
            if let Err(says) = self.obey(&order).await {
                tracing::debug!(server = self.ledger.label, "immudb: `accept` has no effect: {says}");
            }
        }
        self.begin();
        let mut tick = tokio::time::interval(self.link.interval);
        // One that comes while the last is at work is left out.
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut idle = tokio::time::interval(IDLE / 3);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.tick().await,
                _ = idle.tick() => {
                    let link = self.link.clone();
                    self.attend(async move { link.keep_alive().await }).await;
                }
                () = sleep_until(self.ledger.next_late()) => self.tell_late().await,
                Some(done) = self.chores.join_next() => self.absorb(done).await,
                Some(done) = Meeting::next(&mut self.meeting) => self.compared(done).await,
                Some(request) = next(&mut self.orders) => {
                    // Who asked may have given up.
                    if !request.answer.is_closed() {
                        let answer = self.obey(&request.order).await;
                        let _ = request.answer.send(answer);
                        tick.reset_immediately();
                    }
                }
            }
        }
    }

    /// Whatever the server does first, each database that is remembered comes to a verdict.
    fn begin(&mut self) {
        let remembered = self.ledger.remembered().filter(|name| self.link.selection.takes(name));
        let mut names: Vec<String> = remembered.map(str::to_owned).collect();
        if names.is_empty() {
            names.push(String::new());
        }
        self.ledger.expect(names.iter().map(String::as_str));
    }

    /// Tells what was found and is not told yet: by audits that had not come to their end, and by work beside them.
    async fn last(&mut self) {
        // What is under way is left.
        while let Some(done) = self.chores.try_join_next() {
            self.absorb(done).await;
        }
        while let Some(done) = Meeting::ready(&mut self.meeting) {
            self.compared(done).await;
        }
        let found = std::mem::take(&mut *self.link.findings.lock());
        let found = found
            .into_iter()
            .map(|(name, finding)| (name, Verdict::Tampered(finding)));
        let mut verdicts: BTreeMap<_, _> = found.collect();
        for (name, finding) in std::mem::take(&mut self.found) {
            let verdict = self.ledger.standing(&name, finding);
            verdicts.entry(name).or_insert(verdict);
        }
        let verdicts: Vec<_> = verdicts.into_iter().collect();
        if !verdicts.is_empty() {
            self.say(verdicts).await;
        }
    }

    /// Waits for the server, and tells meanwhile which verdicts get too old.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (mut work, mut late) = (pin!(work), pin!(sleep_until(self.ledger.next_late())));
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = &mut late => {
                    self.tell_late().await;
                    late.as_mut().reset(self.ledger.next_late());
                }
            }
        }
    }

    async fn tell_late(&mut self) {
        let voice = Voice { emitter: &self.emitter };
        voice.late(&mut self.ledger).await;
    }

    /// Does what an operator says, once it is in the journal; gives the event's data.
    async fn obey(&mut self, order: &Order) -> Result<Value, String> {
        let word = self.ledger.weigh(order, time::now())?;
        let mut batch = self.emitter.batch();
        if !word.write(&self.ledger.endpoint, &mut batch) {
            return Err("the word doesn't fit an event".to_owned());
        }
        let stored = self.emitter.emit(batch, Linger::NONE).await;
        stored.map_err(|error| format!("the word is not stored, so nothing has changed: {error}"))?;
        let data = word.data.clone();
        self.found.remove(&order.database);
        Meeting::forget(self.meeting.as_ref(), &self.ledger.label, &order.database);
        self.ledger.take(word);
        Ok(data)
    }

    async fn tick(&mut self) {
        if let Some(face) = &mut self.ledger.face {
            face.begin(time::now());
        }
        let names = self.names().await;
        if let (Some(face), Ok(jobs)) = (&mut self.ledger.face, &names) {
            face.list(jobs.iter().map(|job| job.name.as_str()));
        }
        match names {
            Ok(jobs) if jobs.is_empty() => {
                self.ledger.server_fails();
                self.say(vec![(String::new(), none_selected())]).await;
            }
            Ok(mut jobs) => {
                self.ledger.server_answers();
                self.ledger.keep(&jobs.iter().map(|job| job.name.as_str()).collect());
                self.ledger.expect(jobs.iter().map(|job| job.name.as_str()));
                for job in &mut jobs {
                    job.found = self.found.get(&job.name).cloned();
                }
                self.all(jobs).await;
                self.begin_chores();
            }
            Err(fault) => self.fail(&fault).await,
        }
        if let Some(face) = &mut self.ledger.face {
            face.end(time::now());
        }
        self.meet();
        let mut summary = self.ledger.summary();
        if self.link.budget.past == 0 {
            // Nothing is fetched, so nothing goes on.
            summary.past = Past::default();
        }
        self.board.show(&self.ledger.label, summary, &self.health);
    }

    /// Begins the next work beside the audits; the last one is left alone while it is at it.
    fn begin_chores(&mut self) {
        if !self.chores.is_empty() {
            return;
        }
        let mut tasks = self.ledger.tasks(self.link.budget);
        if tasks.is_empty() {
            return;
        }
        let next = tasks.partition_point(|task| task.database <= self.worked);
        tasks.rotate_left(next);
        let link = self.link.clone();
        self.chores.spawn(async move { link.chores(tasks).await });
    }

    /// Takes what work beside the audits came to.
    async fn absorb(&mut self, done: Result<Vec<Done>, JoinError>) {
        let done = match done {
            Ok(done) => done,
            // As if it had come from here.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let (mut note, mut standing) = (Note::default(), Vec::new());
        for done in done {
            self.worked.clone_from(&done.database);
            let Some((name, finding)) = self.ledger.absorb(done, &mut note) else {
                continue;
            };
            if finding.stands() {
                let verdict = self.ledger.standing(&name, finding.clone());
                standing.push((name.clone(), verdict));
            }
            self.found.insert(name, finding);
        }
        let told: Vec<String> = standing.iter().map(|(name, _)| name.clone()).collect();
        let voice = Voice { emitter: &self.emitter };
        voice.write(&mut self.ledger, &note).await;
        // The server may not answer again, or the agent end before.
        voice.say(&mut self.ledger, standing).await;
        self.found.retain(|name, _| !told.contains(name));
    }

    /// Nothing can be said of any database.
    async fn fail(&mut self, fault: &Fault) {
        self.ledger.server_fails();
        let mut names: Vec<String> = self.ledger.audited().map(str::to_owned).collect();
        if names.is_empty() {
            names.push(String::new());
        }
        for names in names.chunks(GROUP) {
            let verdicts = names.iter().map(|name| (name.clone(), unasked(fault)));
            self.say(verdicts.collect()).await;
        }
    }

    /// Which databases to audit.
    async fn names(&mut self) -> Result<Vec<Job>, Fault> {
        if let Some((until, fault)) = &self.refused {
            if Instant::now() < *until {
                return Err(fault.clone());
            }
            self.refused = None;
        }
        let link = self.link.clone();
        match self.attend(async move { link.client.health().await }).await {
            Ok(answer) => {
                self.ledger.version = version(&answer.message);
                if let Some(face) = &mut self.ledger.face {
                    face.identify(answer.uuid.as_deref());
                }
                self.import(answer.uuid.as_deref()).await;
            }
            Err(fault) => {
                if matches!(fault, Fault::Unreachable(_) | Fault::Timeout(_)) {
                    // A connection that is dead without saying so would not come back by itself.
                    self.link.client.reconnect();
                    self.link.seats.lock().clear();
                }
                return Err(fault);
            }
        }
        let link = self.link.clone();
        match self.attend(async move { link.list().await }).await {
            Ok(listed) => self.listed = listed,
            // From 1.9.3 to 1.11.0 one unloaded database hides the list.
            Err(Fault::Unloaded) => {}
            Err(fault) => {
                if matches!(fault, Fault::Login(_) | Fault::NoAuthentication) {
                    self.refused = Some((Instant::now() + REFUSED.max(self.link.interval), fault.clone()));
                }
                return Err(fault);
            }
        }
        let (jobs, left) = self.link.jobs(&self.ledger, &self.listed);
        if left > 0 && self.ledger.left == 0 {
            let server = &self.ledger.label;
            tracing::warn!(
                server,
                "immudb: {left} databases that the server lists are not audited: too many"
            );
        }
        self.ledger.left = left;
        Ok(jobs)
    }

    /// Goes on from what another auditor trusted, where nothing is remembered; once, before the first audit.
    async fn import(&mut self, uuid: Option<&str>) {
        let all = std::mem::take(&mut self.known);
        if all.is_empty() {
            return;
        }
        let names = (&self.ledger.endpoint, self.ledger.label.as_str());
        let (mut imports, refused) = known::of_server(&all, names, uuid, &self.link.keys, time::now());
        let new = |known: &Known| !self.ledger.remembers(&known.database);
        if !refused.is_empty() && all.iter().any(new) {
            // If none is this server's, it says to be another than all that were audited before.
            let severity = if imports.is_empty() {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let voice = Voice { emitter: &self.emitter };
            voice.not_imported(&self.ledger, severity, &refused).await;
        }
        imports.retain(|import| !self.ledger.remembers(&import.database));
        let room = imports.iter().take_while(|import| self.ledger.has_room(import)).count();
        if room < imports.len() {
            let left = imports.len() - room;
            tracing::error!(
                server = self.ledger.label,
                "immudb: no room to remember {left} of the states that another auditor trusted"
            );
            self.ledger.full = true;
            imports.truncate(room);
        }
        let mut parts: Vec<&[Import]> = imports.chunks(GROUP).rev().collect();
        while let Some(part) = parts.pop() {
            if self.store(part).await {
                part.iter().for_each(|import| self.go_on_from(import));
            } else if let [import] = part {
                self.hold_to(import).await;
            } else {
                let (first, rest) = part.split_at(part.len() / 2);
                parts.extend([rest, first]);
            }
        }
    }

    /// Stores imports with their events in one frame; whether the journal can take that at all.
    async fn store(&self, imports: &[Import]) -> bool {
        loop {
            let mut batch = self.emitter.batch();
            if !known::write(imports, &self.ledger.endpoint, &mut batch) {
                return false;
            }
            match self.emitter.emit(batch, Linger::NONE).await {
                Ok(_) => return true,
                Err(Refused::TooLarge) => return false,
                // Nothing is audited before it is stored: it would be taken on trust.
                Err(refused) => tokio::time::sleep(refused.retry_after()).await,
            }
        }
    }

    /// Trusts a state that is stored.
    fn go_on_from(&mut self, import: &Import) {
        tracing::info!(
            server = self.ledger.label,
            database = import.database,
            tx = import.record.state.tx.0,
            "immudb: goes on from what another auditor trusted"
        );
        self.ledger.import(import.clone());
    }

    /// Holds the server to a state that the journal doesn't take with its event: at least until this life ends.
    async fn hold_to(&mut self, import: &Import) {
        tracing::error!(
            server = self.ledger.label,
            database = import.database,
            tx = import.record.state.tx.0,
            "immudb: what another auditor trusted doesn't fit the journal; the server is held to it until the agent ends"
        );
        self.ledger.import(import.clone());
        let note = Note {
            states: vec![import.state(&self.ledger.endpoint)],
            ..Note::default()
        };
        // If it has no room alone either, that is told.
        let voice = Voice { emitter: &self.emitter };
        voice.write(&mut self.ledger, &note).await;
    }

    async fn all(&mut self, jobs: Vec<Job>) {
        let Self {
            link,
            ledger,
            emitter,
            found,
            ..
        } = self;
        let (link, turn) = (&*link, &Turn::new());
        let audits = stream::iter(jobs).map(move |job| async move {
            let audited = link.in_turn(&job, turn).await?;
            Some((job.name, audited))
        });
        let mut groups = pin!(audits.buffer_unordered(link.width).ready_chunks(GROUP));
        let mut late = pin!(sleep_until(ledger.next_late()));
        let voice = Voice { emitter };
        loop {
            let group = tokio::select! {
                group = groups.next() => match group {
                    Some(group) => group,
                    None => break,
                },
                () = &mut late => {
                    voice.late(ledger).await;
                    late.as_mut().reset(ledger.next_late());
                    continue;
                }
            };
            let (mut verdicts, mut told) = (Vec::new(), Vec::new());
            for (name, audited) in group.into_iter().flatten() {
                ledger.asked(&name, !audited.silent);
                if !matches!(audited.verdict, Verdict::Unchecked(_)) {
                    told.push(name.clone());
                }
                verdicts.push((name, audited.verdict));
            }
            voice.say(ledger, verdicts).await;
            let mut findings = link.findings.lock();
            for name in told {
                findings.remove(&name);
                found.remove(&name);
            }
        }
    }

    pub(crate) async fn say(&mut self, verdicts: Vec<(String, Verdict)>) {
        let voice = Voice { emitter: &self.emitter };
        voice.say(&mut self.ledger, verdicts).await;
    }
}

/// The verdict on each database of a server that can't be asked: it says nothing, whatever it answers.
pub(crate) fn unasked(fault: &Fault) -> Verdict {
    match Verdict::of_fault(fault) {
        Verdict::Tampered(_) => Verdict::Unchecked(Unchecked::new(fault.code(), fault.to_string())),
        verdict => verdict,
    }
}

/// The verdict on a server that lists no database that is to be audited.
pub(crate) fn none_selected() -> Verdict {
    Verdict::Unchecked(Unchecked::new("none", NONE_SELECTED))
}

/// The next word of an operator; `None` where nobody can bring one any more.
async fn next(orders: &mut Option<Orders>) -> Option<Request> {
    match orders {
        Some(orders) => orders.recv().await,
        None => None,
    }
}
