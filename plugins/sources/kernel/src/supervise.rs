//! The controlling thread: start, watch, stop, in the order of
//! `reference/kernel-audit.md` 23. What needs privilege it has done by the
//! agent's control thread; nothing waits for it except the end.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auditmon_core::health::HealthReporter;
use auditmon_core::plugin::{Memory, PluginError};
use auditmon_core::privileged;
use auditmon_core::{Emitter, Outcome, Severity};
use auditmon_journal::Linger;
use parking_lot::{Condvar, Mutex};

use crate::config::{KernelConfig, OnStop, USUAL_BACKLOG};
use crate::control::{Control, Loaded};
use crate::error::{ControlError, RegisterError};
use crate::heartbeat::Heartbeat;
use crate::holder::{self, Holder};
use crate::ledger::Ledger;
use crate::load::{self, Plan, Report, Restored, Wanted};
use crate::memory::{self, Mark};
use crate::metrics::Metrics;
use crate::process::{Note, Processor, Shared};
use crate::reader::Reader;
use crate::ring::{self, Waker};
use crate::status::{SettingKind, Status};
use crate::users::Users;

/// How often the kernel is asked and a heartbeat sent.
const TICK: Duration = Duration::from_secs(2);
/// How long the journal may take to keep the ledger before rules are loaded.
const KEEP: Duration = Duration::from_secs(5);
/// How long the end waits for the journal.
const DRAIN: Duration = Duration::from_secs(5);

/// What the thread is given.
pub(crate) struct Parts {
    pub(crate) config: KernelConfig,
    pub(crate) privileged: privileged::Control,
    pub(crate) wanted: Wanted,
    pub(crate) metrics: Metrics,
    pub(crate) emitter: Emitter,
    pub(crate) memory: Memory,
    pub(crate) health: HealthReporter,
    pub(crate) stop: Stop,
}

/// Tells the thread to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

/// Sets its [`Stop`] when it is dropped.
pub(crate) struct StopOnDrop(Stop);

impl Stop {
    pub(crate) fn set(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    /// Waits until it is set, or this long. Returns whether it is set.
    fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut set = self.0.0.lock();
        while !*set && !self.0.1.wait_until(&mut set, deadline).timed_out() {}
        *set
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Runs the source until it is told to stop.
pub(crate) fn run(parts: Parts) -> Result<(), PluginError> {
    let stop = parts.stop.clone();
    let mut session = Session::start(parts)?;
    let cause = session.watch(&stop);
    session.end(cause)
}

/// A registered source. Dropped on any way, it gives the registration back:
/// a dead process that stays registered can be impersonated.
pub(crate) struct Session {
    pub(crate) control: Control,
    pub(crate) reader: Option<Reader>,
    worker: Option<JoinHandle<Processor>>,
    waker: Waker,
    pub(crate) shared: Arc<Shared>,
    health: HealthReporter,
    emitter: Emitter,
    pub(crate) ledger: Ledger,
    on_stop: OnStop,
    pub(crate) registered: bool,
    pub(crate) wants_on: bool,
    pub(crate) status: Status,
    /// Heartbeats were refused: no CAP_AUDIT_WRITE.
    pub(crate) mute: bool,
    refused_rules: usize,
    problem: Option<String>,
}

impl Session {
    fn start(parts: Parts) -> Result<Session, PluginError> {
        let boot = boot_id()?;
        let mut control = Control::open(&parts.privileged).map_err(failed)?;
        let status = control.status().map_err(failed)?;
        let mark = Mark::of_boot(&parts.memory, &boot);
        let shared = Arc::new(Shared {
            heartbeat: Mutex::new(Heartbeat::new()),
            lost: AtomicU32::new(status.lost),
            notes: Mutex::default(),
            metrics: parts.metrics.clone(),
        });
        let (producer, consumer) = ring::ring(parts.config.buffer.0 as usize);
        let waker = consumer.waker();
        let receive_buffer = parts.config.receive_buffer.0 as usize;
        let reader = Reader::start(receive_buffer, producer, &parts.privileged).map_err(failed)?;
        let processor = Processor::new(
            consumer,
            parts.emitter.clone(),
            Arc::clone(&shared),
            Users::of_host(&parts.privileged),
            &boot,
            mark.as_ref(),
        );
        let worker = std::thread::Builder::new()
            .name("kernel-event".into())
            .spawn(move || processor.run())
            .map_err(PluginError::transient)?;
        let mut session = Session {
            control,
            reader: Some(reader),
            worker: Some(worker),
            waker,
            shared,
            health: parts.health,
            emitter: parts.emitter,
            ledger: memory::ledger(&parts.memory, &boot),
            on_stop: parts.config.on_stop(),
            registered: false,
            wants_on: parts.wanted.settings.contains(&(SettingKind::Enabled, 1)),
            status,
            mute: false,
            refused_rules: 0,
            problem: None,
        };
        session.register()?;
        let mut wanted = parts.wanted;
        if (1..USUAL_BACKLOG).contains(&status.backlog_limit) {
            wanted.set_default(SettingKind::BacklogLimit, USUAL_BACKLOG);
        }
        let (report, plan_present) = session.load(&wanted)?;
        session.announce(&boot, mark.as_ref(), &report, plan_present);
        session.tick(0);
        Ok(session)
    }

    pub(crate) fn register(&mut self) -> Result<(), PluginError> {
        let Some(reader) = self.reader.as_mut() else {
            return Err(PluginError::transient("the reading thread has ended"));
        };
        let control = &mut self.control;
        let mut registered = reader.register(|| Ok(control.status()?.pid));
        if let Err(RegisterError::Held(Holder::Process(process))) = &registered
            && process.pid == std::process::id()
        {
            // A former run of this plugin in this process.
            control.unregister().map_err(PluginError::transient)?;
            registered = reader.register(|| Ok(control.status()?.pid));
        }
        match registered {
            Ok(()) => {
                self.registered = true;
                self.shared.metrics.registered.set(1);
                Ok(())
            }
            Err(RegisterError::Control(error)) => Err(failed(error)),
            Err(error) => Err(PluginError::permanent(error)),
        }
    }

    /// Loads rules and settings, the ledger first.
    fn load(&mut self, wanted: &Wanted) -> Result<(Report, usize), PluginError> {
        for warning in &wanted.warnings {
            tracing::warn!("audit rules: {warning}");
        }
        let loaded = self.control.rules().map_err(PluginError::transient)?;
        self.warn_of_never(&loaded);
        self.status = self.control.status().map_err(PluginError::transient)?;
        let before = self.ledger.clone();
        let plan = Plan::make(wanted, &loaded, &self.status, &mut self.ledger);
        if plan.locked {
            tracing::warn!(
                missing = wanted.rules.len() - plan.present,
                "the kernel's audit configuration is locked until the next boot; rules stay as they are"
            );
        }
        // What stays on disk while the kernel changes: what was ours and
        // what will be, so that neither is forgotten by a kill in between.
        let mut both = self.ledger.clone();
        both.adopt(&before);
        if both != before {
            self.keep(&both);
        }
        let present = plan.present;
        let report = plan.carry_out(&mut self.control, &mut self.ledger);
        self.refused_rules = report.failed.len();
        for (what, error) in &report.failed {
            tracing::error!("{what}: {error}");
        }
        if report.stopped {
            tracing::error!("further rules were not tried; begin the rules with -c to go on");
        }
        if self.ledger != both {
            self.keep(&self.ledger.clone());
        }
        Ok((report, present))
    }

    fn warn_of_never(&self, loaded: &[Loaded]) {
        let blind = loaded.iter().any(|rule| {
            matches!(rule, Loaded::Rule(rule)
                if rule.list == audit_rule::List::Task && rule.action == audit_rule::Action::Never)
        });
        if blind {
            tracing::warn!("a rule `-a never,task` is loaded: programs that start under it are never audited");
        }
    }

    /// Puts the ledger into the journal and waits for it.
    fn keep(&self, ledger: &Ledger) {
        let mut batch = self.emitter.batch();
        for (key, value) in memory::ledger_records(ledger) {
            if let Err(error) = batch.remember(&key, None, &value) {
                tracing::error!(%error, "the list of loaded rules does not fit the journal");
            }
        }
        let (tell, told) = sync_channel(1);
        self.emitter.emit_with(batch, Linger::NONE, move |verdict| {
            // Nobody may be waiting any more.
            let _ = tell.try_send(verdict);
        });
        match told.recv_timeout(KEEP) {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => tracing::warn!(
                %refused,
                "the list of loaded rules is not on disk: after a kill they would stay loaded"
            ),
            Err(_) => {
                tracing::warn!("the list of loaded rules is not on disk yet: after a kill they would stay loaded")
            }
        }
    }

    fn announce(&mut self, boot: &str, mark: Option<&Mark>, report: &Report, present: usize) {
        let Some(reader) = &self.reader else { return };
        let buffer = reader.receive_buffer();
        if !buffer.forced {
            tracing::warn!(
                bytes = buffer.bytes,
                "the receive buffer is limited by net.core.rmem_max; CAP_NET_ADMIN would lift it"
            );
        }
        let at_boot = audit_at_boot();
        if !at_boot {
            tracing::info!(
                "the kernel was started without audit=1: programs started before auditing was first switched on are not seen"
            );
        }
        let readers = holder::multicast_readers();
        if readers > 0 {
            tracing::info!(readers, "another program (usually journald) copies every audit record");
        }
        tracing::info!(
            rules_added = report.added,
            rules_present = present,
            restore = self.on_stop == OnStop::Restore,
            "receiving the kernel's audit records"
        );
        self.status = self.control.status().unwrap_or(self.status);
        let changed: serde_json::Map<String, serde_json::Value> = self
            .ledger
            .changed()
            .iter()
            .map(|changed| {
                let values = [changed.before, changed.after];
                (changed.setting.name().to_owned(), values.into())
            })
            .collect();
        self.note(
            "kernel.start",
            Severity::Info,
            serde_json::json!({
                "boot_id": boot,
                "after_serial": mark.map(|mark| mark.serial),
                "pid": std::process::id(),
                "receive_buffer": buffer.bytes,
                "audit_at_boot": at_boot,
                "rules": {
                    "added": report.added,
                    "present": present,
                    "removed": report.deleted,
                    "refused": report.failed.len(),
                },
                "settings": changed,
                "enabled": self.status.enabled,
                "backlog_limit": self.status.backlog_limit,
                "kernel_lost": self.status.lost,
            }),
        );
    }

    fn note(&self, name: &'static str, severity: Severity, data: serde_json::Value) {
        self.shared.notes.lock().push(Note {
            name,
            outcome: Outcome::Success,
            severity,
            data,
        });
        self.waker.wake();
    }

    /// Watches until the end; returns what ended it, if not the order to.
    fn watch(&mut self, stop: &Stop) -> Option<String> {
        let mut ticks = 0u32;
        loop {
            if stop.wait(TICK) {
                return None;
            }
            if self.reader.as_ref().is_none_or(Reader::is_finished) {
                return Some("the record socket has failed".into());
            }
            if self.worker.as_ref().is_none_or(JoinHandle::is_finished) {
                return Some("the working thread has died".into());
            }
            ticks = ticks.wrapping_add(1);
            self.tick(ticks);
        }
    }

    fn tick(&mut self, ticks: u32) {
        let problem = self.look(ticks).or_else(|| {
            (self.refused_rules > 0).then(|| format!("the kernel refused {} rules or settings", self.refused_rules))
        });
        if ticks != 0 && problem == self.problem {
            return;
        }
        match &problem {
            Some(problem) => {
                tracing::warn!("kernel source: {problem}");
                self.health.degraded(problem.as_str());
            }
            None => self.health.ok(),
        }
        self.problem = problem;
    }

    /// The end: unregister first, then read what is left, hand it over, put
    /// rules and settings back, and say so.
    fn end(mut self, cause: Option<String>) -> Result<(), PluginError> {
        let deadline = Instant::now() + DRAIN;
        let signal = self.control.signal_sender().ok().flatten();
        self.unregister();
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
        let worker = self.worker.take().map(JoinHandle::join);
        let Some(Ok(mut processor)) = worker else {
            self.put_back();
            return Err(PluginError::transient("the working thread has died"));
        };
        processor.drain(deadline);
        let restored = self.put_back();
        let tally = processor.tally();
        self.note(
            "kernel.stop",
            if cause.is_some() {
                Severity::Error
            } else {
                Severity::Info
            },
            serde_json::json!({
                "cause": cause,
                "signal": signal.map(|(auid, pid)| serde_json::json!({"auid": auid, "pid": pid})),
                "last_serial": processor.highest(),
                "records": tally.records,
                "events": tally.events,
                "missing": tally.missing,
                "discarded": tally.discarded,
                "rules_removed": restored.rules,
                "settings_restored": restored.settings,
            }),
        );
        processor.end(
            memory::ledger_records(&self.ledger),
            deadline.max(Instant::now() + Duration::from_secs(1)),
        );
        match cause {
            Some(cause) => Err(PluginError::transient(cause)),
            None => Ok(()),
        }
    }

    fn unregister(&mut self) {
        if !std::mem::take(&mut self.registered) {
            return;
        }
        self.shared.metrics.registered.set(0);
        if let Err(error) = self.control.unregister() {
            tracing::error!("{error}");
        }
    }

    fn put_back(&mut self) -> Restored {
        if self.on_stop == OnStop::Keep {
            return Restored::default();
        }
        match load::restore(&mut self.control, &mut self.ledger) {
            Ok(restored) => {
                for (what, error) in &restored.failed {
                    tracing::error!("{what}: {error}");
                }
                for left in &restored.left {
                    tracing::info!("{} was changed by somebody else and stays", left.name());
                }
                restored
            }
            Err(error) => {
                tracing::error!("rules and settings stay as they are: {error}");
                Restored::default()
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.unregister();
    }
}

/// What waiting may mend, and what only a person can.
fn failed(error: ControlError) -> PluginError {
    match error {
        ControlError::TimedOut { .. } | ControlError::Thread(_) => PluginError::transient(error),
        _ => PluginError::permanent(error),
    }
}

fn boot_id() -> Result<String, PluginError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(|error| PluginError::permanent(format!("{path}: {error}")))?;
    Ok(text.trim().to_owned())
}

/// Whether the kernel was started with auditing on.
fn audit_at_boot() -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_ascii_whitespace()
        .any(|word| matches!(word, "audit=1" | "audit=on"))
}
