//! Loading the configuration again: validated first, then each key as its class says; a bad file changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditmon_config::{Changed, Class, Loaded, PluginChange, changes};
use auditmon_core::event::{Outcome, Severity};
use auditmon_core::health::State;
use auditmon_core::privileged::ConfiguredFile;
use auditmon_core::time::{self, Nanos};
use serde::Serialize;
use tokio::time::Instant;

use crate::admin::Reloaded;
use crate::agent::{Agent, Inner, Running};
use crate::files::stamp;
use crate::plan::{self, Planned, Plans, Recipe};
use crate::plugins::Plugins;
use crate::privileges::Wanted;
use crate::start::tls_files;

/// How long a plugin that is built anew has to end: a sink delivers what is there.
const END_SINK: Duration = Duration::from_secs(5);
/// The same for a source or service.
const END_OTHER: Duration = Duration::from_secs(8);
/// How long a reload waits for a plugin to be built; then it goes on by itself.
const BUILD: Duration = Duration::from_secs(30);
/// How long a built plugin may say that it has failed at once.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a running plugin has to take new values over.
const CHANGE: Duration = Duration::from_secs(10);

/// Live keys outside plugins, beside those of certificates.
const LIVE: [&str; 3] = ["http.protect", "logging.format", "logging.level"];

fn is_tls(path: &str) -> bool {
    path.starts_with("http.tls.")
}

/// How a reload went.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ReloadStatus {
    /// When.
    #[serde(serialize_with = "crate::status::time_text")]
    pub at: Nanos,
    /// Whether the new configuration is at work, save for what waits for a restart.
    pub ok: bool,
    /// Paths of keys that took effect.
    pub changed: Vec<String>,
    /// Paths of keys that wait for the next start of the agent.
    pub pending_restart: Vec<String>,
    /// What went wrong, a line each. If the configuration itself is bad nothing has changed.
    pub error: Option<String>,
}

/// What status shows of reloads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) last: Option<ReloadStatus>,
    /// Keys that wait for a restart; a configuration that is refused changes nothing about them.
    pub(crate) pending: Vec<String>,
}

impl ReloadStatus {
    fn refused(error: impl std::fmt::Display) -> Self {
        Self {
            at: time::now(),
            error: Some(error.to_string()),
            ..Self::default()
        }
    }

    fn fault(&mut self, line: String) {
        match &mut self.error {
            Some(error) => {
                error.push('\n');
                error.push_str(&line);
            }
            None => self.error = Some(line),
        }
    }

    fn faults(&self) -> impl Iterator<Item = &str> {
        self.error.iter().flat_map(|error| error.lines())
    }
}

impl From<ReloadStatus> for Reloaded {
    fn from(status: ReloadStatus) -> Self {
        Self {
            ok: status.ok,
            errors: status.faults().map(str::to_owned).collect(),
            changed: status.changed,
            pending: status.pending_restart,
        }
    }
}

impl Agent {
    /// Reads the configuration again and puts it to work, as far as that goes without a restart. `by` says in the
    /// event who wanted it. Goes on if the caller gives up; several go one after the other.
    pub async fn reload(&self, by: &'static str) -> ReloadStatus {
        let agent = self.clone();
        let task = tokio::spawn(async move {
            let mut status = agent.load_again().await;
            status.at = time::now();
            agent.0.tell_reload(&status, by).await;
            status
        });
        task.await.unwrap_or_else(ReloadStatus::refused)
    }

    async fn load_again(&self) -> ReloadStatus {
        let work = async {
            let mut running = self.0.running.lock().await;
            // Read while nobody else reloads: of two at once, the file that was read last is the one at work.
            let agent = self.clone();
            match tokio::task::spawn_blocking(move || agent.0.read()).await {
                Ok(Ok((loaded, plans))) => self.0.put_to_work(&mut running, loaded, plans).await,
                Ok(Err(errors)) => ReloadStatus::refused(errors),
                Err(error) => ReloadStatus::refused(error),
            }
        };
        let stopping = ReloadStatus::refused("the agent is stopping");
        self.0.stopping.run_until_cancelled(work).await.unwrap_or(stopping)
    }
}

impl Inner {
    /// Log, metrics, status, and an event with the keys, never the values.
    async fn tell_reload(&self, status: &ReloadStatus, by: &str) {
        for error in status.faults() {
            tracing::error!("configuration: {error}");
        }
        let (changed, pending) = (status.changed.join(", "), status.pending_restart.join(", "));
        if status.ok {
            tracing::info!(changed, pending, by, "the configuration was loaded again");
        } else {
            tracing::error!(changed, pending, by, "the configuration was loaded again, with faults");
        }
        self.parts.telemetry.reload.loaded(status.ok);
        self.reloads.lock().last = Some(status.clone());
        if status.ok && status.changed.is_empty() && status.pending_restart.is_empty() {
            return;
        }
        let (outcome, severity) = if status.ok {
            (Outcome::Success, Severity::Notice)
        } else {
            (Outcome::Failure, Severity::Error)
        };
        let data = serde_json::json!({
            "by": by,
            "changed": status.changed,
            "pending_restart": status.pending_restart,
            "faults": status.faults().count(),
        });
        self.tell(("agent.reload", outcome, severity), &data).await;
    }

    /// Reads the configuration and looks at the files that it names, both by the control thread. Blocks.
    fn read(&self) -> Result<(Arc<Loaded>, Plans), String> {
        let privileges = &self.parts.privileges;
        let loaded = (self.load)(privileges).map_err(|errors| errors.to_string())?;
        let loaded = Arc::new(loaded);
        let look = |path: &Path| privileges.files.look(path).as_ref().map(stamp);
        let read = |file: &ConfiguredFile| privileges.files.read(file);
        let plans = plan::all(&loaded, &self.entries, &look, &read).map_err(|errors| errors.join("\n"))?;
        Ok((loaded, plans))
    }

    async fn put_to_work(&self, running: &mut Running, new: Arc<Loaded>, plans: Plans) -> ReloadStatus {
        let privileges = &self.parts.privileges;
        let wanted = Wanted::new(&new, &self.parts.data_dir, plans.needs());
        // Those at work stay until all is done: a plugin may go on with its former values.
        let files = wanted.files().into_iter().chain(self.files_at_work(running));
        privileges.files.replace(files.collect());
        let mut status = ReloadStatus::default();
        if let Err(error) = self.change_agent(running, &new, &mut status).await {
            privileges.files.replace(self.files_at_work(running));
            return ReloadStatus::refused(error);
        }
        for line in privileges.lacks(&wanted) {
            tracing::warn!("{line}; it takes a restart of the agent");
        }
        let mut work = Work {
            plugins: &mut running.plugins,
            status: &mut status,
        };
        work.carry_out(&new, plans).await;
        privileges.files.replace(self.files_at_work(running));
        status.ok = status.error.is_none();
        self.reloads.lock().pending.clone_from(&status.pending_restart);
        status
    }

    /// Files of what is at work: that may be older than the configuration that was loaded last.
    fn files_at_work(&self, running: &Running) -> Vec<ConfiguredFile> {
        let wanted = Wanted::new(&running.loaded, &self.parts.data_dir, running.plugins.needs());
        let mut files = wanted.files();
        let listening = running.tls.iter().chain(&running.further_tls);
        files.extend(listening.flat_map(|tls| tls.files().configured()));
        files
    }

    /// What is no plugin's; a refusal has changed nothing.
    async fn change_agent(
        &self,
        running: &mut Running,
        new: &Arc<Loaded>,
        status: &mut ReloadStatus,
    ) -> Result<(), String> {
        let settings = &new.settings;
        let certificates = match (&running.tls, tls_files("http.tls", &settings.http.tls)) {
            (Some(tls), Some(files)) => {
                let tls = tls.clone();
                let checked = tokio::task::spawn_blocking(move || tls.check(files)).await;
                Some(checked.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?)
            }
            _ => None,
        };
        // Which files those of further listeners are is decided at the start; what is in them may be new.
        let mut renewed = Vec::with_capacity(running.further_tls.len());
        for tls in &running.further_tls {
            let looked = tls.clone();
            let checked = tokio::task::spawn_blocking(move || looked.check(looked.files())).await;
            renewed.push((
                tls.clone(),
                checked.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?,
            ));
        }
        if running.loaded.settings.logging != settings.logging {
            (self.set_logging)(&settings.logging).map_err(|says| new.fault("logging.level", &says))?;
        }
        self.protect.set(&settings.http);
        let certificates_live = certificates.is_some();
        if let (Some(tls), Some(checked)) = (&running.tls, certificates)
            && tls.put(checked)
        {
            status.changed.push("http.tls".to_owned());
        }
        let others = renewed
            .into_iter()
            .map(|(tls, checked)| (tls.files().section, tls.put(checked)));
        status
            .changed
            .extend(others.filter(|(_, is_other)| *is_other).map(|(section, _)| section));
        // TLS itself is turned on and off with the listener.
        let is_live = |key: &Changed| {
            key.class == Class::Live && (LIVE.contains(&key.path.as_str()) || certificates_live && is_tls(&key.path))
        };
        let since_start = changes(&running.started, new).agent;
        let waiting = since_start.into_iter().filter(|key| !is_live(key)).map(|key| key.path);
        status.pending_restart.extend(waiting);
        let now = changes(&running.loaded, new).agent;
        let at_work = now.into_iter().filter(is_live).map(|key| key.path);
        status.changed.extend(at_work);
        running.loaded = new.clone();
        Ok(())
    }
}

/// What is to be done with a plugin.
enum Step {
    /// It takes new values over while it runs.
    Change(Planned, Vec<String>),
    /// It is ended and built anew.
    Restart(Planned, Vec<String>),
}

struct Work<'a> {
    plugins: &'a mut Plugins,
    status: &'a mut ReloadStatus,
}

impl Work<'_> {
    async fn carry_out(&mut self, new: &Arc<Loaded>, plans: Plans) {
        let reads = plans.is_readable();
        let other_reader = self.plugins.parts.reader.is_on() != reads;
        // First those that go: what they held may be wanted by others.
        let stays = |name: &&str| plans.on.iter().any(|planned| planned.name == *name);
        let gone: Vec<_> = self.plugins.slots.keys().copied().filter(|name| !stays(name)).collect();
        for name in gone {
            self.turn_off(name, plans.off.contains(&name)).await;
        }
        self.plugins.parts.reader.turn(reads);
        for planned in plans.on {
            let Some(slot) = self.plugins.slots.get(planned.name) else {
                self.start(planned).await;
                continue;
            };
            // What it runs on may be older than the configuration that was loaded last: a value that it did not take.
            let keys = match changes(&slot.planned.loaded, new).plugins.remove(planned.name) {
                Some(PluginChange::Keys(keys)) => keys,
                _ => Vec::new(),
            };
            match self.step(planned, keys, other_reader) {
                Some(Step::Change(planned, keys)) => self.change(planned, keys).await,
                Some(Step::Restart(planned, keys)) => self.restart(planned, keys).await,
                None => {}
            }
        }
    }

    /// What a plugin that stays on needs.
    fn step(&mut self, planned: Planned, mut keys: Vec<Changed>, other_reader: bool) -> Option<Step> {
        let slot = self.plugins.slots.get(planned.name)?;
        for key in slot.planned.files.changed(&planned.files) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let (waits, now): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.class == Class::RestartAgent);
        self.status
            .pending_restart
            .extend(waits.into_iter().map(|key| key.path));
        let all_live = now.iter().all(|key| key.class == Class::Live);
        let paths: Vec<_> = now.into_iter().map(|key| key.path).collect();
        let other_reader = other_reader && matches!(planned.recipe, Recipe::Service(_));
        if paths.is_empty() && !slot.given_up() && !other_reader {
            return None;
        }
        // Sinks take nothing while they run.
        if all_live && slot.listens() && !paths.is_empty() && !other_reader {
            Some(Step::Change(planned, paths))
        } else {
            Some(Step::Restart(planned, paths))
        }
    }

    async fn turn_off(&mut self, name: &'static str, known: bool) {
        let Some(within) = self.plugins.slots.get(name).map(|slot| end_time(&slot.planned)) else {
            return;
        };
        let Some(planned) = self.plugins.end(name, within).await else {
            return;
        };
        self.plugins.forget(name);
        let health = &self.plugins.parts.health;
        if known {
            health.reporter(name).set(State::Disabled, None);
        } else {
            health.remove(name);
        }
        self.status.changed.push(format!("{}.enabled", planned.path));
    }

    async fn start(&mut self, planned: Planned) {
        let (name, path) = (planned.name, format!("{}.enabled", planned.path));
        self.plugins.start(planned);
        match self.comes_up(name).await {
            Ok(()) => self.status.changed.push(path),
            // It is on, and is tried again.
            Err(why) => self.status.fault(format!("{path}: {why}")),
        }
    }

    async fn change(&mut self, planned: Planned, keys: Vec<String>) {
        let Some(slot) = self.plugins.slots.get_mut(planned.name) else {
            return;
        };
        let path = planned.path.clone();
        match slot.change(planned, CHANGE).await {
            Ok(()) => self.status.changed.extend(keys),
            Err(why) => {
                let error = format!("{}: {why}; {path} goes on with the former values", keys.join(", "));
                self.status.fault(error);
            }
        }
    }

    async fn restart(&mut self, planned: Planned, keys: Vec<String>) {
        let (name, path) = (planned.name, planned.path.clone());
        let within = end_time(&planned);
        let Some(former) = self.plugins.end(name, within).await else {
            return;
        };
        self.plugins.start(planned);
        let Err(why) = self.comes_up(name).await else {
            self.status.changed.extend(keys);
            return;
        };
        if keys.is_empty() {
            // It was down and is built from what it was built from before.
            self.status.fault(format!("{path}: {why}"));
            return;
        }
        let keys = keys.join(", ");
        self.plugins.end(name, within).await;
        self.plugins.start(former);
        let error = match self.comes_up(name).await {
            Ok(()) => format!("{keys}: {why}; {path} goes on with the former values"),
            Err(also) => format!("{keys}: {why}; with the former values {path} is down, too: {also}"),
        };
        self.status.fault(error);
    }

    /// Waits until a plugin is built, and a little whether it fails at once.
    async fn comes_up(&mut self, name: &'static str) -> Result<(), String> {
        let health = self.plugins.parts.health.clone();
        let Some(slot) = self.plugins.slots.get_mut(name) else {
            return Ok(());
        };
        match tokio::time::timeout(BUILD, slot.built()).await {
            Ok(built) => built?,
            Err(_) => {
                tracing::warn!(plugin = name, "is still being built; the reload goes on without it");
                return Ok(());
            }
        }
        let (mut changes, deadline) = (health.changes(), Instant::now() + SETTLE);
        loop {
            match health.get(name).map(|health| (health.state, health.reason)) {
                Some((State::Failed, why)) => return Err(why.unwrap_or_default()),
                Some((State::Starting, _)) => {}
                _ => return Ok(()),
            }
            if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return Ok(());
            }
        }
    }
}

fn end_time(planned: &Planned) -> Duration {
    match planned.recipe {
        Recipe::Sink(_) => END_SINK,
        Recipe::Source(..) | Recipe::Service(_) => END_OTHER,
    }
}

#[cfg(test)]
mod tests;
