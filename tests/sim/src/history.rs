//! One random life of a journal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use auditmon_journal::bare::{self, Core, Fault, Submission, Time};
use auditmon_journal::format::{FRAME_HEAD, Kind, Prefix, RECORD_HEAD, SEGMENT_HEAD, parse_frame, source_hash};
use auditmon_journal::{AgentEvent, AgentNote, Opened, Options, Records, Refused, fsck};

use crate::checkpoints::size_of;
use crate::disk::SimFs;
use crate::model::{Model, Violation, encode, retention_payload};
use crate::rng::Rng;

const DIR: &str = "/d";
const SECOND: u64 = 1_000_000_000;

/// What histories had in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// A segment was sealed.
    pub seal: u64,
    /// Payloads were removed.
    pub retention: u64,
    /// Leaves were collapsed.
    pub collapse: u64,
    /// Recovery cut a torn tail.
    pub cut: u64,
    /// A sync failed.
    pub failed_sync: u64,
    /// A submission was refused by the size limit.
    pub size_limit: u64,
    /// A submission was refused by a full disk.
    pub disk_full: u64,
    /// The power went again inside recovery.
    pub second_crash: u64,
    /// A good frame stood behind the place of a cut.
    pub stale_frame: u64,
    /// The process was killed while the page cache lived on.
    pub killed: u64,
    /// An orderly stop.
    pub orderly: u64,
    /// A checkpoint was signed.
    pub checkpoint: u64,
}

impl Seen {
    /// Adds 1 for each thing that the other has.
    pub fn count(&mut self, other: &Self) {
        let pairs = [
            (&mut self.seal, other.seal),
            (&mut self.retention, other.retention),
            (&mut self.collapse, other.collapse),
            (&mut self.cut, other.cut),
            (&mut self.failed_sync, other.failed_sync),
            (&mut self.size_limit, other.size_limit),
            (&mut self.disk_full, other.disk_full),
            (&mut self.second_crash, other.second_crash),
            (&mut self.stale_frame, other.stale_frame),
            (&mut self.killed, other.killed),
            (&mut self.orderly, other.orderly),
            (&mut self.checkpoint, other.checkpoint),
        ];
        for (sum, value) in pairs {
            *sum += u64::from(value > 0);
        }
    }

    /// Adds sums up.
    pub fn add(&mut self, other: &Self) {
        self.seal += other.seal;
        self.retention += other.retention;
        self.collapse += other.collapse;
        self.cut += other.cut;
        self.failed_sync += other.failed_sync;
        self.size_limit += other.size_limit;
        self.disk_full += other.disk_full;
        self.second_crash += other.second_crash;
        self.stale_frame += other.stale_frame;
        self.killed += other.killed;
        self.orderly += other.orderly;
        self.checkpoint += other.checkpoint;
    }

    /// Name and number of each thing.
    pub fn list(&self) -> [(&'static str, u64); 12] {
        [
            ("seal", self.seal),
            ("retention", self.retention),
            ("collapse", self.collapse),
            ("cut tail", self.cut),
            ("failed sync", self.failed_sync),
            ("size limit", self.size_limit),
            ("disk full", self.disk_full),
            ("second crash inside recovery", self.second_crash),
            ("stale frame behind a cut", self.stale_frame),
            ("kill", self.killed),
            ("orderly stop", self.orderly),
            ("checkpoint", self.checkpoint),
        ]
    }
}

/// The choices that hold for a whole history.
#[derive(Clone, Copy, Debug)]
struct Shape {
    segment_size: u64,
    max_size: u64,
    keep_age: u64,
    keep_size: u64,
    reserve: u64,
    filling: usize,
    /// All frames end with a sector, so that a new one can end where a stale one
    /// in a sector of its own begins.
    aligned: bool,
    /// Recovery's findings are not told, so that no event stands between a cut
    /// and the first new frame.
    silent: bool,
}

struct History {
    rng: Rng,
    fs: SimFs,
    fault: Option<Fault>,
    shape: Shape,
    model: Model,
    now: Time,
    next_id: u64,
    seen: Seen,
}

/// Runs the history of a seed; says what it had in it, or which rule was broken.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    let mut rng = Rng::new(seed);
    let segment_size = rng.pick(&[4096, 4096, 6000, 16384]);
    let shape = Shape {
        segment_size,
        max_size: segment_size * rng.pick(&[4, 4, 6, 100]),
        keep_age: rng.pick(&[1, 5, 30, 1000]),
        keep_size: segment_size * rng.pick(&[0, 1, 3, 1000]),
        reserve: rng.pick(&[0, 4096, 8192]),
        filling: rng.pick(&[20, 300, 900]),
        aligned: rng.chance(30),
        silent: rng.chance(50),
    };
    let mut history = History {
        fs: SimFs::new(rng.bits()),
        rng,
        fault,
        shape,
        model: Model::default(),
        now: Time {
            wall_ns: 1_700_000_000 * SECOND,
            mono_ns: SECOND,
        },
        next_id: 1,
        seen: Seen::default(),
    };
    history.live()?;
    Ok(history.seen)
}

impl History {
    fn options(&self) -> Options {
        let mut seed = Rng::new(self.now.wall_ns);
        let mut options = Options::new(DIR, "sim", word(self.shape));
        options.segment_size = self.shape.segment_size;
        options.max_size = self.shape.max_size;
        options.keep_age = Duration::from_secs(self.shape.keep_age);
        options.keep_size = self.shape.keep_size;
        options.reserve = self.shape.reserve;
        options.give_up = Duration::from_secs(3);
        options.entropy = Box::new(move |buf| buf.fill_with(|| seed.bits() as u8));
        options
    }

    fn live(&mut self) -> Result<(), Violation> {
        let lives = 2 + self.rng.below(4);
        for _ in 0..lives {
            let mut core = self.start()?;
            let steps = 1 + self.rng.below(25);
            if self.rng.chance(if self.shape.aligned { 40 } else { 10 }) {
                // The power goes between the first write and its sync.
                self.fs.crash_in(1);
                self.submit(&mut core);
                self.look(&mut core)?;
            }
            let mut up = true;
            for _ in 0..steps {
                if self.fs.crashed() {
                    up = false;
                    break;
                }
                self.step(&mut core)?;
            }
            up &= !self.fs.crashed();
            self.end(core, up)?;
        }
        self.fs.heal();
        self.fs.set_free(u64::MAX / 2);
        let core = self.start()?;
        drop(core);
        Ok(())
    }

    /// Ends a life: in order, by a kill, or by a crash.
    fn end(&mut self, mut core: Core, up: bool) -> Result<(), Violation> {
        if !up {
            self.model.take_answers()?;
            drop(core);
            self.fs.power_cycle();
            return Ok(());
        }
        match self.rng.below(10) {
            0..=1 => {
                core.close(self.now);
                self.look(&mut core)?;
                drop(core);
                self.seen.orderly += 1;
                if self.fs.crashed() || self.rng.chance(50) {
                    self.fs.power_cycle();
                } else {
                    self.fs.kill();
                }
            }
            2 => {
                self.look(&mut core)?;
                drop(core);
                self.seen.killed += 1;
                self.fs.kill();
            }
            _ => {
                // The power goes within the next few operations.
                let operations = self.rng.below(12);
                self.fs.crash_in(operations);
                for _ in 0..20 {
                    self.step(&mut core)?;
                    if self.fs.crashed() {
                        break;
                    }
                }
                self.model.take_answers()?;
                drop(core);
                self.fs.power_cycle();
            }
        }
        self.model.take_answers()
    }

    /// Opens, through crashes inside recovery, and checks all that is there.
    fn start(&mut self) -> Result<Core, Violation> {
        self.fs.heal();
        loop {
            if self.rng.chance(30) {
                let operations = self.rng.below(16);
                self.fs.crash_in(operations);
            }
            let image = self.images();
            self.judge_end(&image)?;
            let options = self.options();
            let opened = bare::open(Arc::new(self.fs.clone()), options, self.now, self.fault);
            if self.fs.crashed() {
                drop(opened);
                self.seen.second_crash += 1;
                self.fs.power_cycle();
                continue;
            }
            self.fs.heal();
            match opened {
                Ok((core, opened)) => {
                    self.judge(&core, &opened, &image)?;
                    return Ok(core);
                }
                Err(error) => {
                    // Only a volume that is full from the beginning refuses.
                    self.fs.set_free(1 << 20);
                    if image.is_empty() {
                        continue;
                    }
                    return Err(format!("can't be opened: {error}"));
                }
            }
        }
    }

    /// Segments as they are before a start.
    fn images(&self) -> Vec<(u64, Vec<u8>)> {
        let dir = PathBuf::from(DIR).join("journal/1/seg");
        let names = auditmon_journal::Fs::list(&self.fs, &dir).unwrap_or_default();
        let segments = names.iter().filter_map(|name| {
            let first = name.strip_suffix(".seg")?.parse().ok()?;
            Some((first, self.fs.content(&dir.join(name))?))
        });
        segments.collect()
    }

    /// A newest segment that is cut behind a mark says that the run ended in order: then all of it is signed.
    fn judge_end(&self, image: &[(u64, Vec<u8>)]) -> Result<(), Violation> {
        let Some((first, bytes)) = image.iter().max_by_key(|(first, _)| first) else {
            return Ok(());
        };
        let (mut at, mut seq, mut marked) = (SEGMENT_HEAD, *first, false);
        while let Some((head, _)) = bytes.get(at..).and_then(|rest| parse_frame(rest).ok()) {
            at += head.len();
            seq = head.next_seq();
            marked = head.count == 0;
        }
        let left = bytes.get(at..).unwrap_or_default();
        if left.last().is_some_and(|byte| *byte != 0) {
            return Err("bytes that are no frame end with the file".to_owned());
        }
        if !marked || left.len() > FRAME_HEAD || left.iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        let stored = self.fs.content(Path::new("/d/journal/1/checkpoint"));
        let signed = stored.as_deref().and_then(size_of).unwrap_or(0);
        if signed < seq {
            return Err(format!("{seq} records end as if in order, and {signed} are signed"));
        }
        Ok(())
    }

    fn judge(&mut self, core: &Core, opened: &Opened, image: &[(u64, Vec<u8>)]) -> Result<(), Violation> {
        for finding in &opened.findings {
            match finding {
                AgentNote::TornTail {
                    segment,
                    offset,
                    length,
                } => {
                    self.seen.cut += 1;
                    let tail = image.iter().find(|(first, _)| first == segment);
                    let from = *offset as usize;
                    if let Some((_, bytes)) = tail
                        && (from..from + *length as usize)
                            .any(|at| bytes.get(at..).is_some_and(|b| parse_frame(b).is_ok()))
                    {
                        self.seen.stale_frame += 1;
                    }
                }
                other => return Err(format!("found at start: {other:?}")),
            }
        }
        if opened.next_seq != core.durable() {
            return Err("next_seq isn't durable".to_owned());
        }
        self.model.verify(core.reader(0), core.durable())?;
        let newest = core.newest_checkpoint();
        self.model.check_checkpoint(newest.as_deref())?;
        self.model.check_states(&opened.states, self.now.wall_ns)?;
        let report = fsck::check(&self.fs, Path::new(DIR)).map_err(|error| error.to_string())?;
        if report.is_clean() {
            Ok(())
        } else {
            Err(format!("fsck: {report:?}"))
        }
    }

    fn step(&mut self, core: &mut Core) -> Result<(), Violation> {
        match self.rng.below(100) {
            0..=44 => self.submit(core),
            45..=49 => {
                core.checkpoint(self.now);
            }
            50..=69 => {
                let pause = self.rng.pick(&[SECOND / 10, SECOND, 3 * SECOND]);
                self.now.wall_ns += pause;
                self.now.mono_ns += pause;
                core.maintain(self.now);
            }
            70..=79 => {
                core.seal_all(self.now);
                core.maintain(self.now);
                self.seen.collapse += u64::from(core.collapse_due());
            }
            80..=84 => {
                let next = self.model.next_seq();
                let hold = next.saturating_sub(self.rng.pick(&[0, 0, 10, 100]));
                core.set_hold("sink", hold);
            }
            85..=89 => self.fs.fail_sync_in(self.rng.below(3)),
            90..=91 => self.fs.fail_op_in(self.rng.below(10)),
            92..=94 => {
                let free = self.rng.pick(&[0, 100, 5000, 20_000]);
                self.fs.set_free(free);
            }
            95..=97 => self.fs.set_free(1 << 20),
            _ => self.fs.crash_in(self.rng.below(6)),
        }
        self.look(core)
    }

    fn look(&mut self, core: &mut Core) -> Result<(), Violation> {
        self.model.take_answers()?;
        if self.fs.crashed() {
            return Ok(());
        }
        self.seen.size_limit += self.model.size_limited;
        self.model.size_limited = 0;
        let reader = core.reader(self.model.next_seq());
        self.model.observe(reader, core.durable())?;
        if let Some(newest) = core.newest_checkpoint() {
            let stored = self.fs.content(Path::new("/d/journal/1/checkpoint"));
            self.model.shown(&newest, stored.as_deref())?;
            self.seen.checkpoint += 1;
        }
        let counts = core.counts();
        self.seen.failed_sync += counts.failed_syncs;
        self.seen.seal += counts.sealed;
        self.seen.retention += counts.expired;
        self.seen.disk_full += u64::from(core.paused() == Some(auditmon_journal::PauseReason::Reserve));
        Ok(())
    }

    fn submit(&mut self, core: &mut Core) {
        let mut end = core.end();
        let mut group = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            let submission = self.submission(end);
            end += (FRAME_HEAD + submission.records.bytes()) as u64;
            group.push(submission);
        }
        core.commit(group, self.now);
    }

    fn submission(&mut self, at: u64) -> Submission {
        let id = self.next_id;
        self.next_id += 1;
        let mut records = Records::new();
        let prefix = Prefix {
            event_id: [7; 16],
            received_ns: self.now.wall_ns,
            kind: Kind::Application,
            source: source_hash("app"),
        };
        let aligned = self.shape.aligned;
        let events = if aligned { 1 } else { 1 + self.rng.below(3) };
        for index in 0..events {
            let filling = match aligned {
                true => fill_sector(at),
                false => self.rng.pick(&[4, self.shape.filling, self.shape.filling]),
            };
            let salt = [index as u8; 16];
            let pushed = records.push(&prefix, salt, |out| out.extend(encode(id, index, filling)));
            debug_assert!(pushed.is_ok());
        }
        let states = if aligned { 0 } else { self.rng.below(3) };
        for _ in 0..states {
            let plugin = self.rng.pick(&["app", "kernel"]);
            let key = [self.rng.below(5) as u8];
            let expiry = match self.rng.below(4) {
                0 => self.now.wall_ns + self.rng.below(20) * SECOND + 1,
                _ => 0,
            };
            let value = if self.rng.chance(20) {
                Vec::new()
            } else {
                id.to_be_bytes().repeat(1 + self.rng.below(8) as usize)
            };
            let now = self.now.wall_ns;
            let pushed = records.push_state(plugin, [9; 16], now, [8; 16], &key, expiry, &value);
            debug_assert!(pushed.is_ok());
        }
        self.model.submit(id, records.as_bytes(), records.records());
        let answers = Arc::clone(&self.model.answers);
        let fs = self.fs.clone();
        Submission {
            records,
            since_ns: self.now.mono_ns,
            own: false,
            // What is said after the power went is heard by nobody.
            done: Box::new(move |answer| {
                if !fs.crashed() && answer != Err(Refused::Unknown) {
                    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    answers.push((id, answer));
                }
            }),
        }
    }
}

/// Filling of an event whose frame begins at `at` and ends with a sector.
fn fill_sector(at: u64) -> usize {
    let shortest = at + (FRAME_HEAD + RECORD_HEAD + 16) as u64;
    (shortest.next_multiple_of(512) - shortest) as usize
}

/// Words the journal's own events.
fn word(shape: Shape) -> AgentEvent {
    Box::new(move |note, records| {
        let payload = match note {
            AgentNote::Retention { first, last, .. } => retention_payload(first, last),
            AgentNote::TornTail { .. } if shape.silent => return,
            other => format!("{other:?}").into_bytes(),
        };
        let prefix = Prefix {
            event_id: [6; 16],
            received_ns: 0,
            kind: Kind::Agent,
            source: source_hash("agent"),
        };
        let pushed = records.push(&prefix, [5; 16], |out| out.extend(payload));
        debug_assert!(pushed.is_ok());
    })
}
