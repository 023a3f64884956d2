//! Events as JSON lines on standard output, for eyes and pipes. Live: it begins at the head of the journal and
//! delays nothing.
//!
//! Writing to a pipe may wait for ever, so it is done on a thread of its own, one batch at a time.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;

use async_trait::async_trait;
use auditmon_core::delivery::Receipt;
use auditmon_core::event::write_output;
use auditmon_core::plugin::{BuildContext, BuiltSink, Faults, PluginConfig, PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::Gap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Events as lines of JSON on standard output, for eyes and pipes: it begins with what comes next and holds nothing back.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StdoutConfig {}

#[async_trait]
impl PluginConfig for StdoutConfig {
    type Plugin = BuiltSink;

    fn validate(&self, _faults: &mut Faults) {}

    async fn build(self, _cx: &mut BuildContext) -> Result<BuiltSink, PluginError> {
        Ok(BuiltSink {
            sink: Box::new(Stdout::new(Box::new(io::stdout()))),
            reader: None,
            lag: None,
        })
    }
}

/// Lines to write, and where to tell how that went.
type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// The sink.
struct Stdout {
    /// Until the thread starts.
    out: Option<Box<dyn Write + Send>>,
    jobs: Option<mpsc::SyncSender<Job>>,
}

impl Stdout {
    fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: Some(out),
            jobs: None,
        }
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn start(&mut self, _origin: &str) -> Result<Start, PluginError> {
        if let Some(out) = self.out.take() {
            let (jobs, queue) = mpsc::sync_channel(1);
            // Nobody joins it: it may wait for a reader that never comes, and ends with the process then.
            std::thread::Builder::new()
                .name("stdout".to_owned())
                .spawn(move || work(out, &queue))
                .map_err(|error| {
                    PluginError::permanent(format!("the thread for standard output can't start: {error}"))
                })?;
            self.jobs = Some(jobs);
        }
        Ok(Start::Live)
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        if events.is_empty() {
            return Ok(Receipt::all());
        }
        let ended = || PluginError::permanent("the thread for standard output has ended");
        let (done, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        // The one place in the queue is taken only by a batch whose write was given up.
        jobs.try_send((lines(events), done)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => {
                PluginError::transient("standard output takes nothing: its reader is not reading")
            }
            mpsc::TrySendError::Disconnected(_) => ended(),
        })?;
        answer.await.map_err(|_| ended())?.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => PluginError::permanent("standard output was closed by its reader"),
            _ => PluginError::transient(format!("standard output can't be written: {error}")),
        })?;
        Ok(Receipt::all())
    }

    async fn gap(&mut self, _gap: &Gap) -> Result<(), PluginError> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), PluginError> {
        Ok(())
    }
}

/// One line per event.
fn lines(events: &Events) -> Vec<u8> {
    // Origin, seq and received time come to each event's bytes.
    let mut out = Vec::with_capacity(events.bytes() + events.len() * (96 + events.origin().len()));
    for event in events.iter() {
        write_output(event.canonical, events.origin(), event.seq, event.received, &mut out);
        out.push(b'\n');
    }
    out
}

fn work(mut out: Box<dyn Write + Send>, queue: &mpsc::Receiver<Job>) {
    let mut torn = false;
    while let Ok((lines, done)) = queue.recv() {
        let written = put(&mut *out, &lines, torn);
        // After a fault the batch comes again; a line that was begun is ended first.
        torn = written.is_err();
        // Who asked may have been stopped meanwhile.
        let _ = done.send(written);
    }
}

fn put(out: &mut dyn Write, lines: &[u8], torn: bool) -> io::Result<()> {
    if torn {
        out.write_all(b"\n")?;
    }
    out.write_all(lines)?;
    out.flush()
}

#[cfg(test)]
mod tests;
