//! A real journal, real drivers, and sinks that do as they are told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auditmon_core::batch::push_agent_event;
use auditmon_core::delivery::{BatchLimits, Begin, Delivery, Receipt, RefusedEvent, Retry, Retrying};
use auditmon_core::emitter::{Emitter, Refused};
use auditmon_core::event::{Draft, EventView, Kind};
use auditmon_core::health::{Health, HealthBoard};
use auditmon_core::plugin::{PluginError, Sink, Start};
use auditmon_core::subscription::Events;
use auditmon_core::units::{Size, Span};
use auditmon_journal::format::Position;
use auditmon_journal::{Gap, Handle, Item, Linger, Options, RealFs};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::driver::life::Life;
use crate::driver::{Driver, DriverEnd};
use crate::hot::{DEFAULT_LIMIT, Hot};
use crate::telemetry::Telemetry;

/// How long a condition may take to come true on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An agent without anything but sinks.
pub(super) struct Agent {
    pub(super) journal: Handle,
    pub(super) hot: Arc<Hot>,
    pub(super) durable: watch::Receiver<u64>,
    pub(super) drain: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) health: HealthBoard,
    pub(super) telemetry: Telemetry,
    pub(super) emitter: Emitter,
    dir: std::path::PathBuf,
    _temp: Option<tempfile::TempDir>,
}

pub(super) fn options(dir: &Path) -> Options {
    let note = |note, records: &mut _| {
        let name = format!("journal {note:?}");
        push_agent_event(records, "h", Draft::new(auditmon_core::event::cut(&name, 256), "agent")).unwrap();
    };
    Options {
        segment_size: 64 << 10,
        reserve: 0,
        // What goes at the size limit is signed first.
        checkpoint_interval: Duration::from_millis(20),
        ..Options::new(dir, "h", Box::new(note))
    }
}

impl Agent {
    pub(super) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        Self {
            _temp: Some(temp),
            ..Self::with(options(&dir))
        }
    }

    pub(super) fn with(options: Options) -> Self {
        let dir = options.dir.clone();
        // What retention has removed must not be in memory still.
        let hot = usize::try_from(options.max_size / 8).unwrap().min(DEFAULT_LIMIT);
        let (writer, opened) = auditmon_journal::open(RealFs, options).unwrap();
        // Nothing goes before a test has said what it needs.
        writer.set_hold("test", 0);
        let (tell, durable) = watch::channel(opened.next_seq);
        let journal = writer
            .spawn(Box::new(move |seq| {
                tell.send_replace(seq);
            }))
            .unwrap();
        let telemetry = Telemetry::new("0").unwrap();
        let emitter = Emitter::new(
            "test",
            Kind::Application,
            "h".into(),
            journal.clone(),
            CancellationToken::new(),
            telemetry.sources.clone(),
        );
        Self {
            hot: Arc::new(Hot::new(journal.clone(), hot)),
            durable,
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            health: HealthBoard::default(),
            telemetry,
            emitter,
            journal,
            dir,
            _temp: None,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn driver(&self, name: &'static str, delivery: Delivery) -> Driver {
        Driver {
            name,
            delivery,
            journal: self.journal.clone(),
            hot: Arc::clone(&self.hot),
            durable: self.durable.clone(),
            drain: self.drain.clone(),
            abort: self.abort.clone(),
            health: self.health.reporter(name),
            state: self.telemetry.sinks.state(name),
            telemetry: self.telemetry.clone(),
            emitter: self.emitter.clone(),
            host: "h".into(),
            data_dir: self.dir.clone(),
            lag: None,
        }
    }

    /// A driver's loop on the thread of the test, where time may be paused.
    pub(super) fn life(&self, name: &'static str, delivery: Delivery, sink: impl Sink) -> Life {
        let driver = self.driver(name, delivery);
        driver.telemetry.sink(name);
        Life::new(driver, Box::new(sink), Arc::new(AtomicBool::new(false)))
    }

    /// One frame of `n` events; returns the place of the first. A journal that is full is waited for.
    pub(super) async fn emit(&self, n: usize) -> u64 {
        let begun = Instant::now();
        loop {
            match self.try_emit(n).await {
                Ok(first) => return first,
                Err(Refused::SizeLimit) => assert!(begun.elapsed() < PATIENCE, "the journal stays full"),
                Err(refused) => panic!("{refused}"),
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn try_emit(&self, n: usize) -> Result<u64, Refused> {
        let mut batch = self.emitter.batch();
        for _ in 0..n {
            batch.push(Draft::new("login", "alice")).unwrap();
        }
        let accepted = self.emitter.emit(batch, Linger::NONE).await?;
        self.await_durable(accepted.last_seq).await;
        Ok(accepted.first_seq)
    }

    /// One frame with nothing but what a source remembers.
    pub(super) async fn emit_state(&self) {
        let mut batch = self.emitter.batch();
        batch.remember(b"key", None, b"value").unwrap();
        let accepted = self.emitter.emit(batch, Linger::NONE).await.unwrap();
        self.await_durable(accepted.last_seq).await;
    }

    /// Drivers are told a moment after the source; paused time must not run meanwhile.
    async fn await_durable(&self, seq: u64) {
        let mut durable = self.durable.clone();
        durable.wait_for(|durable| *durable > seq).await.unwrap();
    }

    /// See [`told_in`].
    pub(super) fn told(&self) -> Vec<(String, serde_json::Value)> {
        told_in(&self.journal)
    }

    pub(super) fn told_names(&self) -> Vec<String> {
        self.told().into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn health(&self, sink: &str) -> Health {
        self.health.all()[sink].clone()
    }

    pub(super) fn events_total(&self, sink: &str, result: &str) -> u64 {
        self.telemetry.sink_events.with_label_values(&[sink, result]).get()
    }

    pub(super) fn position(&self, sink: &str) -> Option<u64> {
        self.journal.read_position(sink).unwrap().map(|position| position.seq)
    }
}

/// Names of the agent's events in a journal with their data, but for those of the journal itself.
pub(super) fn told_in(journal: &Handle) -> Vec<(String, serde_json::Value)> {
    let mut told = Vec::new();
    let mut reader = journal.reader(0);
    while let Some(item) = reader.next().unwrap() {
        let Item::Records(batch) = item else { continue };
        for entry in batch.iter().filter(|entry| entry.record.prefix.kind == Kind::Agent) {
            let view = EventView::parse(entry.record.payload().unwrap()).unwrap();
            if !view.event_name.starts_with("journal") {
                let data = serde_json::from_str(view.event_data.get()).unwrap();
                told.push((view.event_name.into_owned(), data));
            }
        }
    }
    told
}

/// Small batches, short pauses, no waiting for company.
pub(super) fn delivery() -> Delivery {
    Delivery {
        batch: BatchLimits {
            events: 10,
            bytes: Size(1 << 20),
            age: Span(Duration::ZERO),
        },
        timeout: Span(Duration::from_secs(20)),
        retry: Retrying {
            min: Span(Duration::from_millis(1)),
            max: Span(Duration::from_millis(20)),
        },
        from: Begin::Oldest,
        ..Delivery::default()
    }
}

/// What a fake does with what it is handed.
pub(super) enum Act {
    Take,
    /// These are pending, asked for after a while.
    Later(Vec<u64>, Option<Duration>),
    Refuse(Vec<u64>),
    Receipt(Receipt),
    Fail(&'static str),
    Broken(&'static str),
    Hang,
    Block,
    Panic,
}

/// What a fake says about its position.
#[derive(Clone)]
pub(super) enum Keeps {
    Nothing,
    Cursor,
    Own(Arc<Mutex<Option<Position>>>),
    /// One for each origin, as the store does.
    ByOrigin(Arc<Mutex<BTreeMap<String, Position>>>),
}

impl Keeps {
    pub(super) fn own() -> Self {
        Self::ByOrigin(Arc::default())
    }
}

/// What a fake was handed.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    starts: usize,
    writes: Vec<Vec<u64>>,
    delivered: Vec<u64>,
    /// The same, with the generation's number.
    by_generation: Vec<(u64, u64)>,
    gaps: Vec<Gap>,
    /// When the events up to a place were handed over.
    times: Vec<(u64, Instant)>,
    closed: bool,
}

impl Log {
    pub(super) fn starts(&self) -> usize {
        self.0.lock().starts
    }

    pub(super) fn writes(&self) -> Vec<Vec<u64>> {
        self.0.lock().writes.clone()
    }

    pub(super) fn delivered(&self) -> Vec<u64> {
        self.0.lock().delivered.clone()
    }

    pub(super) fn by_generation(&self) -> Vec<(u64, u64)> {
        self.0.lock().by_generation.clone()
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.0.lock().gaps.clone()
    }

    /// Longest time from on disk to handed over.
    pub(super) fn slowest(&self, durable: &[(u64, Instant)]) -> Duration {
        let inner = self.0.lock();
        let lag = |(next, on_disk): &(u64, Instant)| {
            let at = inner.times.partition_point(|(last, _)| last + 1 < *next);
            inner.times.get(at).map(|(_, handed)| *handed - *on_disk)
        };
        durable.iter().filter_map(lag).max().unwrap_or_default()
    }

    pub(super) fn closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Waits until so many events are delivered.
    pub(super) async fn await_delivered(&self, n: usize) {
        eventually(&format!("{n} events"), || self.0.lock().delivered.len() >= n).await;
    }
}

/// Waits until something is true.
pub(super) async fn eventually(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A sink that does as it is told.
pub(super) struct Fake<F> {
    pub(super) log: Log,
    keeps: Keeps,
    act: F,
}

impl<F: FnMut(&Events) -> Act + Send + 'static> Fake<F> {
    pub(super) fn new(keeps: Keeps, act: F) -> Self {
        Self {
            log: Log::default(),
            keeps,
            act,
        }
    }
}

/// A sink that takes everything.
pub(super) fn healthy() -> Fake<impl FnMut(&Events) -> Act + Send + 'static> {
    Fake::new(Keeps::Cursor, |_| Act::Take)
}

#[async_trait]
impl<F: FnMut(&Events) -> Act + Send + 'static> Sink for Fake<F> {
    async fn start(&mut self, origin: &str) -> Result<Start, PluginError> {
        self.log.0.lock().starts += 1;
        Ok(match &self.keeps {
            Keeps::Nothing => Start::Live,
            Keeps::Cursor => Start::Cursor,
            Keeps::Own(position) => Start::Own(position.lock().clone()),
            Keeps::ByOrigin(positions) => Start::Own(positions.lock().get(origin).cloned()),
        })
    }

    async fn write(&mut self, events: &Events) -> Result<Receipt, PluginError> {
        let given: Vec<u64> = events.iter().map(|event| event.seq).collect();
        {
            let mut log = self.log.0.lock();
            log.writes.push(given.clone());
            if let Some(last) = given.last() {
                log.times.push((*last, Instant::now()));
            }
        }
        let receipt = match (self.act)(events) {
            Act::Take => Receipt::all(),
            Act::Later(pending, after) => Receipt {
                pending,
                retry: Some(Retry {
                    after,
                    reason: "busy".to_owned(),
                }),
                ..Receipt::default()
            },
            Act::Refuse(seqs) => Receipt {
                refused: seqs
                    .into_iter()
                    .map(|seq| RefusedEvent {
                        seq,
                        reason: "bad event".to_owned(),
                    })
                    .collect(),
                ..Receipt::default()
            },
            Act::Receipt(receipt) => receipt,
            Act::Fail(reason) => return Err(PluginError::transient(reason)),
            Act::Broken(reason) => return Err(PluginError::permanent(reason)),
            Act::Hang => std::future::pending().await,
            Act::Block => loop {
                std::thread::park();
            },
            Act::Panic => panic!("as told"),
        };
        let not: Vec<u64> = receipt
            .pending
            .iter()
            .copied()
            .chain(receipt.refused.iter().map(|refused| refused.seq))
            .collect();
        let taken: Vec<u64> = given.into_iter().filter(|seq| !not.contains(seq)).collect();
        let generation = events.origin().rsplit_once("/gen/");
        let generation = generation.map_or(1, |(_, number)| number.parse().unwrap());
        {
            let mut log = self.log.0.lock();
            log.by_generation.extend(taken.iter().map(|seq| (generation, *seq)));
            log.delivered.extend(taken);
        }
        if let (Keeps::ByOrigin(positions), Some(end)) = (&self.keeps, events.end()) {
            positions.lock().insert(end.origin.clone(), end);
        }
        if let Keeps::Own(position) = &self.keeps {
            *position.lock() = events.end();
        }
        Ok(receipt)
    }

    async fn gap(&mut self, gap: &Gap) -> Result<(), PluginError> {
        self.log.0.lock().gaps.push(*gap);
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), PluginError> {
        self.log.0.lock().closed = true;
        Ok(())
    }
}

/// Drivers that run on their threads.
pub(super) struct Running {
    pub(super) ends: BTreeMap<&'static str, tokio::task::JoinHandle<DriverEnd>>,
}

impl Running {
    pub(super) fn none() -> Self {
        Self { ends: BTreeMap::new() }
    }

    pub(super) fn start(&mut self, driver: Driver, sink: impl Sink) {
        self.ends.insert(driver.name, tokio::spawn(driver.run(Box::new(sink))));
    }

    pub(super) fn one(driver: Driver, sink: impl Sink) -> Self {
        let mut running = Self::none();
        running.start(driver, sink);
        running
    }

    pub(super) async fn end(&mut self, name: &str) -> DriverEnd {
        let end = self.ends.remove(name).unwrap();
        tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap()
    }
}
