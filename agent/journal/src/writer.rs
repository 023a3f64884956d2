//! The one thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::Records;
use crate::checkpoint::{CheckpointThread, OnCheckpoint};
use crate::collapse;
use crate::core::{Core, Done, Refused, Submission, Time};
use crate::erase::{self, Erasure};
use crate::handle::Handle;
use crate::options::SourceStates;
use crate::seal::{SealJob, SealResult};
use crate::shared::{Hold, Shared};
use crate::tree::{AT_ONCE, store_tiles};

/// How long a submission may wait for company.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Linger {
    /// At most this long; 0 goes at once.
    pub max_wait: Duration,
    /// Or until this many bytes are waiting.
    pub max_bytes: usize,
}

impl Linger {
    /// Doesn't wait.
    pub const NONE: Self = Self {
        max_wait: Duration::ZERO,
        max_bytes: 0,
    };
}

/// The journal's writer, recovered and ready to run.
pub struct Writer {
    core: Core,
}

impl Writer {
    pub(crate) fn new(core: Core) -> Self {
        Self { core }
    }

    /// Starts the thread `journal`. `on_commit` is told the durable seq after
    /// every commit, on that thread: it must not wait.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn spawn(self, on_commit: Box<dyn Fn(u64) + Send>) -> io::Result<Handle> {
        let queue = Arc::new(Queue::new());
        let shared = Arc::clone(&self.core.shared);
        let sealer = Sealer::spawn(Arc::clone(&shared), Arc::clone(&queue))?;
        let mut core = self.core;
        let interval = core.options.checkpoint_interval;
        let signer = core
            .checkpointer
            .take()
            .map(|signer| CheckpointThread::spawn(signer, Arc::clone(&shared.alarm), interval))
            .transpose()?;
        let run = Run {
            core,
            signer,
            queue: Arc::clone(&queue),
            sealer,
            on_commit,
            shown: shared.durable(),
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run.run())?;
        Ok(Handle::new(shared, queue, thread))
    }

    /// Says from which seq on a durable sink still needs payloads, before
    /// retention first runs; see [`Handle::set_hold`].
    pub fn set_hold(&self, name: &str, seq: u64) {
        self.core.shared.set_hold(name, Some(Hold { seq, yields: false }));
    }

    /// The same for a sink that yields; see [`Handle::set_yielding_hold`].
    pub fn set_yielding_hold(&self, name: &str, seq: u64) {
        self.core.shared.set_hold(name, Some(Hold { seq, yields: true }));
    }

    /// Is told each checkpoint once it is on disk, on the thread that signs: it must not wait.
    pub fn on_checkpoint(&mut self, told: OnCheckpoint) {
        if let Some(signer) = &mut self.core.checkpointer {
            signer.on_checkpoint(told);
        }
    }

    /// The logic alone, to be driven without a thread.
    #[doc(hidden)]
    pub fn into_core(self) -> Core {
        self.core
    }
}

/// What waits for the writer.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    base: Instant,
}

/// What a source remembers is asked for.
pub(crate) struct Question {
    source: [u8; 8],
    answer: Box<dyn FnOnce(Option<SourceStates>) + Send>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    /// Answered behind everything that waits.
    questions: Vec<Question>,
    erasures: Vec<Erasure>,
    bytes: usize,
    /// When the first of them must go, on the queue's clock.
    due_ns: Option<u64>,
    /// Until when the writer sleeps; `None` while it works.
    sleeps_until: Option<u64>,
    /// Since when the oldest that was taken, or left without an answer, waits.
    oldest_taken: Option<u64>,
    sealed: Vec<(SealJob, SealResult)>,
    closing: bool,
    ended: bool,
}

impl Queue {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            base: Instant::now(),
        }
    }

    /// One that takes nothing: nobody writes.
    pub(crate) fn ended() -> Self {
        let queue = Self::new();
        queue.end();
        queue
    }

    fn now_ns(&self) -> u64 {
        crate::core::duration_ns(self.base.elapsed())
    }

    pub(crate) fn submit(&self, records: Records, linger: Linger, own: bool, done: Done) {
        let since_ns = self.now_ns();
        let due = since_ns.saturating_add(crate::core::duration_ns(linger.max_wait));
        let mut state = self.state.lock();
        if state.closing {
            let refused = if state.ended {
                Refused::Closed
            } else {
                Refused::Draining
            };
            drop(state);
            return done(Err(refused));
        }
        state.bytes += records.bytes();
        let due = if state.bytes >= linger.max_bytes { since_ns } else { due };
        let earliest = state.due_ns.map_or(due, |earlier| earlier.min(due));
        state.due_ns = Some(earliest);
        state.waiting.push_back(Submission {
            records,
            done,
            since_ns,
            own,
        });
        // A writer that works looks at the queue anyway before it sleeps.
        if state.sleeps_until.is_some_and(|until| earliest < until) {
            state.sleeps_until = Some(0);
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(crate) fn ask(&self, source: [u8; 8], answer: Box<dyn FnOnce(Option<SourceStates>) + Send>) {
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            return answer(None);
        }
        state.questions.push(Question { source, answer });
        // What waits for company goes first, and at once.
        state.due_ns = state.due_ns.map(|_| 0);
        state.sleeps_until = state.sleeps_until.map(|_| 0);
        drop(state);
        self.wake.notify_one();
    }

    /// Takes what is to be erased; dropped if the journal is being closed.
    pub(crate) fn erase(&self, erasure: Erasure) {
        let mut state = self.state.lock();
        if state.closing {
            return;
        }
        state.erasures.push(erasure);
        state.sleeps_until = state.sleeps_until.map(|_| 0);
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn oldest_wait(&self) -> Option<Duration> {
        let now = self.now_ns();
        let state = self.state.lock();
        let waiting = state.waiting.front().map(|first| first.since_ns);
        let oldest = waiting.into_iter().chain(state.oldest_taken).min()?;
        Some(Duration::from_nanos(now.saturating_sub(oldest)))
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_all();
    }

    fn take_sealed(&self, job: SealJob, result: SealResult) {
        let mut state = self.state.lock();
        state.sealed.push((job, result));
        state.sleeps_until = state.sleeps_until.map(|_| 0);
        drop(state);
        self.wake.notify_all();
    }

    fn time(&self) -> Time {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Time {
            wall_ns: wall.map_or(0, crate::core::duration_ns),
            mono_ns: self.now_ns(),
        }
    }

    /// Waits until a group is due, or anything else; marks the group as taken.
    fn wait(&self, next_due: Option<Duration>, stranded: Option<u64>) -> Work {
        let mut state = self.state.lock();
        state.oldest_taken = stranded;
        let maintain_ns = next_due.map(|due| self.now_ns().saturating_add(crate::core::duration_ns(due)));
        loop {
            let now = self.now_ns();
            let due = state.due_ns.is_some_and(|due| due <= now);
            let maintain = maintain_ns.is_some_and(|due| due <= now);
            let asked = !state.questions.is_empty() || !state.erasures.is_empty();
            if due || maintain || state.closing || !state.sealed.is_empty() || asked {
                break;
            }
            let until = [state.due_ns, maintain_ns].into_iter().flatten().min();
            state.sleeps_until = Some(until.unwrap_or(u64::MAX));
            match until {
                None => self.wake.wait(&mut state),
                Some(until) => {
                    let timeout = Duration::from_nanos(until.saturating_sub(now));
                    self.wake.wait_for(&mut state, timeout);
                }
            }
            state.sleeps_until = None;
        }
        let take = state.closing || state.due_ns.is_some_and(|due| due <= self.now_ns());
        let group = if take {
            state.due_ns = None;
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        } else {
            VecDeque::new()
        };
        let first = group.front().map(|first: &Submission| first.since_ns);
        state.oldest_taken = first.into_iter().chain(stranded).min();
        Work {
            group,
            questions: std::mem::take(&mut state.questions),
            erasures: std::mem::take(&mut state.erasures),
            sealed: std::mem::take(&mut state.sealed),
            closing: state.closing,
        }
    }

    /// Nothing is taken any more; what came meanwhile was not stored.
    fn end(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.ended = true;
        state.oldest_taken = None;
        let waiting = std::mem::take(&mut state.waiting);
        let questions = std::mem::take(&mut state.questions);
        // Who waits for them sees that they are dropped.
        let erasures = std::mem::take(&mut state.erasures);
        drop(state);
        drop(erasures);
        for submission in waiting {
            (submission.done)(Err(Refused::Closed));
        }
        for question in questions {
            (question.answer)(None);
        }
    }
}

struct Work {
    group: VecDeque<Submission>,
    questions: Vec<Question>,
    erasures: Vec<Erasure>,
    sealed: Vec<(SealJob, SealResult)>,
    closing: bool,
}

struct Run {
    core: Core,
    signer: Option<CheckpointThread>,
    queue: Arc<Queue>,
    sealer: Sealer,
    on_commit: Box<dyn Fn(u64) + Send>,
    shown: u64,
}

impl Run {
    fn run(mut self) {
        // Whoever waits gets an answer even if this thread dies.
        let _end = EndOnDrop(Arc::clone(&self.queue));
        let now = self.queue.time();
        self.core.begin(now);
        self.core.maintain(now);
        self.show();
        loop {
            let stranded = self.core.oldest_stranded();
            let work = self.queue.wait(self.core.next_due(self.queue.time()), stranded);
            let now = self.queue.time();
            if !work.group.is_empty() {
                self.core.commit(work.group, now);
                self.show();
            }
            for question in work.questions {
                // Nothing is staged between two groups: what is remembered now is on disk.
                (question.answer)(Some(self.core.states.of(question.source, now.wall_ns)));
            }
            for (job, result) in work.sealed {
                self.core.sealed(job, result, now);
            }
            if work.closing {
                break;
            }
            for erasure in work.erasures {
                self.core.begin_erasure(erasure, now);
                self.show();
            }
            let due = self.core.next_due(now);
            if due.is_some_and(|due| due.is_zero()) {
                self.core.maintain(self.queue.time());
                self.show();
            }
            if self.core.take_tiles(self.queue.time()) {
                self.sealer.send(Task::Tiles);
            }
            if let Some(limit) = self.core.take_collapse() {
                self.sealer.send(Task::Collapse(limit));
            }
            while let Some(job) = self.core.take_seal(self.queue.time()) {
                self.sealer.send(Task::Seal(job));
            }
            while let Some(erasure) = self.core.take_erasure() {
                self.sealer.send(Task::Erase(erasure));
            }
        }
        self.core.finish(self.queue.time());
        self.show();
        // Signs once more, over everything.
        self.signer = None;
        self.core.cut();
    }

    fn show(&mut self) {
        let durable = self.core.shared.durable();
        if durable != self.shown {
            self.shown = durable;
            (self.on_commit)(durable);
        }
    }
}

struct EndOnDrop(Arc<Queue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Work of the thread that seals.
enum Task {
    Seal(SealJob),
    /// Of a segment that is over.
    Erase(Erasure),
    /// Enough tiles have come together to be written.
    Tiles,
    /// Leaves and tiles take so many bytes or more.
    Collapse(u64),
}

/// The thread that seals, so that commits don't wait for it.
struct Sealer {
    jobs: Option<std::sync::mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    fn spawn(shared: Arc<Shared>, queue: Arc<Queue>) -> io::Result<Self> {
        let (jobs, inbox) = std::sync::mpsc::channel::<Task>();
        let thread = std::thread::Builder::new()
            .name("journal-seal".to_owned())
            .spawn(move || {
                for task in inbox {
                    match task {
                        Task::Seal(job) => {
                            let result = job.run(&shared);
                            queue.take_sealed(job, result);
                        }
                        Task::Erase(erasure) => {
                            let erased = erase::erase(&shared, erasure.seq).map_err(erase::worded);
                            (erasure.done)(erased);
                        }
                        Task::Collapse(limit) => collapse::run(&shared, limit),
                        Task::Tiles => {
                            // What fails stays in memory, and is tried again with those that follow.
                            let _ = store_tiles(&shared, u64::MAX, AT_ONCE - 1);
                        }
                    }
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    fn send(&self, task: Task) {
        if let Some(jobs) = &self.jobs {
            // It only ends when this sender does.
            let _ = jobs.send(task);
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
