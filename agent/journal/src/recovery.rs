//! Opening: makes or finds the journal, and decides what of its end is good.

use std::sync::Arc;

use crate::checkpoint::{self, Checkpointer};
use crate::core::{Core, FIRST_FRAME, Time};
use crate::fault::{Fault, Faults};
use crate::format::{LEAF, origin_hash};
use crate::fs::{Fs, is_full};
use crate::keys::{self, KeyFault, Keys};
use crate::layout::{Layout, SegFile};
use crate::options::{AgentNote, OpenError, Opened, Options, PauseReason};
use crate::seal::SealJob;
use crate::shared::{Segment, Shared};
use crate::states::States;
use crate::{collapse, reserve};

mod former;
mod full;
mod newest;
mod rebuild;
mod remembered;
mod tree;

use full::no_room;
use newest::{Newest, Verdict};
use rebuild::Rebuilt;
pub(crate) use rebuild::make_again as make_tiles_again;
use remembered::Remembered;

/// What the `seg` directory holds.
#[derive(Default)]
struct Listing {
    /// First seqs of segments, ascending.
    segs: Vec<u64>,
    /// First seqs of leaf files, ascending.
    leaves: Vec<u64>,
    /// First seqs of collapsed segments, ascending.
    subs: Vec<u64>,
}

/// Opens or creates the journal and recovers it; `now` is the time of events
/// that tell what was found.
pub(crate) fn open_core(
    fs: Arc<dyn Fs>,
    mut options: Options,
    now: Time,
    faults: Faults,
) -> Result<(Core, Opened), OpenError> {
    if options.segment_size < 4096 {
        return Err(OpenError::Options("segment_size must be at least 4 KiB"));
    }
    if options.max_size < options.segment_size.saturating_mul(4) {
        return Err(OpenError::Options(
            "max_size, 80 % of the volume unless it is set, must be at least four segments; choose a larger volume or a smaller journal.segment_size",
        ));
    }
    if options.host.is_empty() || options.host.contains(['/', '\n', '\0']) {
        return Err(OpenError::Options("host must be a host name"));
    }
    let mut place = tree::prepare(&*fs, &mut options)?;
    let mut former = Former::default();
    loop {
        match open_generation(&fs, options, &place, former, now, faults)? {
            Outcome::Open(core, opened) => return Ok((*core, opened)),
            Outcome::GivenUp(back, found) => {
                options = *back;
                place = full::begin(&*fs, &options, &place, &found)?;
                former = found;
            }
        }
    }
}

/// What a generation takes over from one that can't be gone on with.
#[derive(Default)]
struct Former {
    findings: Vec<AgentNote>,
    states: States,
    /// The newest generation that a position names.
    named: u32,
    /// 1 + the largest seq that anything names there.
    end: u64,
    /// It lacks leaves, and nothing contradicts it.
    damaged: bool,
}

/// What became of a generation.
enum Outcome {
    Open(Box<Core>, Opened),
    /// It is not the one that was signed, or that a sink has seen, or nothing
    /// can be signed in its name any more: the journal goes on as another.
    GivenUp(Box<Options>, Former),
}

fn open_generation(
    fs: &Arc<dyn Fs>,
    mut options: Options,
    place: &tree::Place,
    former: Former,
    now: Time,
    faults: Faults,
) -> Result<Outcome, OpenError> {
    let (layout, origin) = (place.layout.clone(), place.origin.clone());
    let mut keys = keys::prepare(&**fs, &layout, &origin, &mut options.entropy);
    let full = |keys: &Result<Keys, KeyFault>| matches!(keys, Err(KeyFault::Io { source, .. }) if is_full(source));
    // Without a key nothing can be compared with what was signed.
    if full(&keys) {
        reserve::release(&**fs, &layout);
        keys = keys::prepare_full(&**fs, &layout, &origin, &mut options.entropy);
    }
    let keys = match keys {
        Ok(keys) => Some(keys),
        // A start on a full disk must still serve reads; who signs asks for the key again.
        Err(KeyFault::Io { source, .. }) if is_full(&source) => None,
        Err(KeyFault::Io { path, source }) => return Err(OpenError::Io { path, source }),
        Err(KeyFault::Unreadable { path, reason }) => return Err(OpenError::Key { path, reason }),
    };
    let mut listing = list(&**fs, &layout)?;
    let shared = Arc::new(Shared::new(Arc::clone(fs), layout, origin.clone()));
    let mut recovery = Recovery {
        shared: Arc::clone(&shared),
        faults,
        findings: former.findings,
        states: former.states,
        remembered: Remembered::ask(&shared, &options.remembered),
        named: 0,
        end: 0,
    };
    recovery.ask_checkpoint(keys.as_ref());
    recovery.count_leaves(&listing)?;
    let collapsed = collapse::load(&shared, &listing.subs);
    recovery.named = recovery.named.max(collapsed);
    recovery.end = recovery.end.max(collapsed);
    recovery.named = recovery.named.max(recovery.remembered.named(&shared.origin));
    let newest = recovery.find_newest(&mut listing)?;
    recovery.list_segments(&listing)?;
    let clean_stop = newest.as_ref().is_none_or(Newest::ended_in_order);
    let (core, findings) = match recovery.into_core(newest, keys, &listing, options, now)? {
        Recovered::Core(core, findings) => (core, findings),
        Recovered::GivenUp(options, former) => return Ok(Outcome::GivenUp(options, former)),
    };
    let opened = Opened {
        origin,
        generation: place.generation,
        next_seq: core.shared.durable(),
        findings,
        states: core.states.map().clone(),
        clean_stop,
        paused: core.pause.reason(),
    };
    Ok(Outcome::Open(core, opened))
}

/// What recovery made of a generation.
enum Recovered {
    Core(Box<Core>, Vec<AgentNote>),
    GivenUp(Box<Options>, Former),
}

fn list(fs: &dyn Fs, layout: &Layout) -> Result<Listing, OpenError> {
    let dir = layout.seg_dir();
    let mut listing = Listing::default();
    for name in fs.list(&dir).map_err(OpenError::io(&dir))? {
        match Layout::parse_seg(&name) {
            Some(SegFile::Seg(first)) => listing.segs.push(first),
            Some(SegFile::Leaf(first)) => listing.leaves.push(first),
            Some(SegFile::Sub(first)) => listing.subs.push(first),
            Some(SegFile::New) => {
                let path = dir.join(name);
                fs.remove(&path).map_err(OpenError::io(&path))?;
            }
            None => {}
        }
    }
    listing.segs.sort_unstable();
    listing.leaves.sort_unstable();
    listing.subs.sort_unstable();
    Ok(listing)
}

struct Recovery {
    shared: Arc<Shared>,
    faults: Faults,
    findings: Vec<AgentNote>,
    /// What sources remember from a former generation.
    states: States,
    /// What sinks have seen.
    remembered: Remembered,
    /// 1 + the largest seq that anything but the newest segment names.
    named: u64,
    /// Seq behind the last record of which anything can be read.
    end: u64,
}

impl Recovery {
    /// Counts the leaves of sealed segments; what they name exists.
    fn count_leaves(&mut self, listing: &Listing) -> Result<(), OpenError> {
        let mut leaves = self.shared.leaves.write();
        for first in &listing.leaves {
            let path = self.shared.layout.leaf(*first);
            let size = self
                .shared
                .fs
                .open_read(&path)
                .and_then(|file| file.size())
                .map_err(OpenError::io(&path))?;
            let count = size / LEAF as u64;
            leaves.insert(*first, count);
            self.end = self.end.max(first.saturating_add(count));
        }
        self.named = self.named.max(self.end);
        Ok(())
    }

    /// The newest checkpoint names what was on disk when it was signed.
    fn ask_checkpoint(&mut self, keys: Option<&Keys>) {
        let Some(keys) = keys else { return };
        let shared = &self.shared;
        let found = checkpoint::find_newest(&*shared.fs, &shared.layout, &shared.origin, &keys.known);
        if keys.made && (found.unreadable || found.newest.is_some()) {
            let vkey = keys.known.first().map(|key| key.vkey().to_string());
            self.findings.push(AgentNote::NewKey {
                vkey: vkey.unwrap_or_default(),
            });
        } else if found.unreadable {
            self.findings.push(AgentNote::CheckpointUnreadable);
        }
        if let Some(newest) = found.newest {
            self.named = self.named.max(newest.size);
            *shared.checkpoint.write() = Some(Arc::new(newest));
        }
    }

    /// Reads the newest segment; takes unfinished creations out of the listing.
    fn find_newest(&mut self, listing: &mut Listing) -> Result<Option<Newest>, OpenError> {
        let mut until = u64::MAX;
        while let Some(first) = listing.segs.last().copied() {
            let previous = listing.segs.iter().rev().nth(1).copied();
            let sealed = listing.leaves.contains(&first);
            let mut newest = Newest::read(&self.shared, first, until)?;
            if newest.is_unfinished() && !sealed {
                // Its name says that everything below is on disk, and ends the
                // segment before: frames there from this seq on were given up,
                // and must be gone before the name is.
                self.named = self.named.max(first);
                until = first;
                if let Some(previous) = previous {
                    self.cut_given_up(previous, first)?;
                }
                self.remove_unfinished(first)?;
                listing.segs.pop();
                continue;
            }
            newest.judge(self.named, sealed)?;
            if let (Verdict::Damaged { .. }, Some(previous)) = (&newest.verdict, previous) {
                newest.restore_states(previous)?;
            }
            return Ok(Some(newest));
        }
        Ok(None)
    }

    /// Makes sure that no frame of a segment at or beyond `until` comes back.
    fn cut_given_up(&self, first: u64, until: u64) -> Result<(), OpenError> {
        let path = self.shared.layout.seg(first);
        let newest = Newest::read(&self.shared, first, until)?;
        if newest.stop.reached && newest.size > newest.stop.offset {
            newest
                .cut_behind()
                .and_then(|()| newest.file.sync())
                .map_err(OpenError::io(&path))?;
        }
        Ok(())
    }

    fn remove_unfinished(&self, first: u64) -> Result<(), OpenError> {
        let path = self.shared.layout.seg(first);
        let dir = self.shared.layout.seg_dir();
        self.shared
            .fs
            .remove(&path)
            .and_then(|()| self.shared.fs.sync_dir(&dir))
            .map_err(OpenError::io(&path))
    }

    /// Enters all segments into the shared list.
    fn list_segments(&self, listing: &Listing) -> Result<(), OpenError> {
        let mut segments = self.shared.segments.write();
        for first in &listing.segs {
            let path = self.shared.layout.seg(*first);
            let size = self
                .shared
                .fs
                .open_read(&path)
                .and_then(|file| file.size())
                .map_err(OpenError::io(&path))?;
            let segment = Segment::new(*first, path, u64::MAX, size);
            segments.insert(*first, Arc::new(segment));
        }
        Ok(())
    }

    fn into_core(
        mut self,
        newest: Option<Newest>,
        keys: Option<Keys>,
        listing: &Listing,
        options: Options,
        now: Time,
    ) -> Result<Recovered, OpenError> {
        let mut core = Core::new(Arc::clone(&self.shared), options, std::mem::take(&mut self.states));
        core.faults = self.faults;
        core.now = now;
        for pair in listing.segs.windows(2) {
            if let [first, next] = pair
                && !listing.leaves.contains(first)
            {
                let end = listing.leaves.iter().find(|leaves| *leaves > first);
                let end = end.map_or(*next, |end| *end.min(next));
                core.seals.push_back(SealJob::new(*first, end));
            }
        }
        let mut full = false;
        match newest {
            None => {
                self.shared.set_durable(self.named);
                core.next_seq = self.named;
            }
            Some(newest) => full = self.settle(newest, &mut core)?,
        }
        let lacks = self.rebuild_tree(core.active.is_some())?;
        let contradicts = self.remembered.compare(&self.shared, self.end);
        if lacks.is_some() || !contradicts.notes.is_empty() {
            let damaged = matches!(lacks, Some(AgentNote::LeafMissing { .. })) && contradicts.notes.is_empty();
            let former = former::note(&self.shared, self.end, damaged);
            let told = lacks.into_iter().chain(contradicts.notes).chain([former]);
            self.findings.extend(told);
            let former = Former {
                findings: self.findings,
                states: core.states,
                named: contradicts.generation,
                end: self.shared.durable(),
                damaged,
            };
            return Ok(Recovered::GivenUp(Box::new(core.options), former));
        }
        *self.shared.keys.lock() = keys.map_or_else(Vec::new, |keys| keys.signers);
        core.checkpointer = Some(Checkpointer::new(Arc::clone(&self.shared), core.faults));
        full |= self.preallocate(&mut core)?;
        if core.active.is_none() {
            match self.first_segment(&mut core) {
                Ok(whole) => full |= !whole,
                Err(error) if is_full(&error) => full = true,
                Err(_) => core.break_off(now),
            }
        }
        let reserve = core.options.reserve;
        let filled = reserve::fill(&*self.shared.fs, &self.shared.layout, reserve);
        if full || filled.is_err_and(|error| is_full(&error)) {
            core.pause_for(PauseReason::Reserve);
        }
        if self.is_new_generation() {
            // Whole or not there: a start that finds none of it looks at the former again.
            let told = core.tell_at_once(&self.findings);
            if !told && core.pause.reason() == Some(PauseReason::Reserve) {
                // Sinks must not be given a generation that the next start doesn't know.
                let path = self.shared.layout.generation_dir();
                return Err(no_room(path, &self.findings, &core.options));
            }
        } else {
            for finding in &self.findings {
                core.tell(finding.clone());
            }
        }
        core.flush_notes();
        Ok(Recovered::Core(Box::new(core), self.findings))
    }

    /// Whether this generation takes the place of another, and must say so.
    fn is_new_generation(&self) -> bool {
        let begins = |note: &AgentNote| matches!(note, AgentNote::NewGeneration { .. });
        self.findings.iter().any(begins)
    }

    /// The tree over what is durable, before anything is appended to it; why it is not what is to be gone on with, if
    /// records are others than those signed, or leaves are missing. The newest segment is hashed if it is
    /// `gone_on_with`; what is damaged there was told.
    fn rebuild_tree(&mut self, gone_on_with: bool) -> Result<Option<AgentNote>, OpenError> {
        let newest = self.shared.checkpoint();
        let dir = self.shared.layout.seg_dir();
        let rebuilt = rebuild::rebuild(&self.shared, newest.as_deref(), gone_on_with).map_err(OpenError::io(&dir))?;
        let origin = self.shared.origin.clone();
        Ok(match rebuilt {
            Rebuilt::Whole => None,
            Rebuilt::Missing(seq) => Some(AgentNote::LeafMissing { origin, seq }),
            Rebuilt::Differs => {
                let size = newest.map_or(0, |newest| newest.size);
                Some(AgentNote::Rewritten { origin, size })
            }
        })
    }

    /// Acts on the verdict; returns whether the disk was too full to do all.
    fn settle(&mut self, mut newest: Newest, core: &mut Core) -> Result<bool, OpenError> {
        let path = self.shared.layout.seg(newest.first_seq);
        let io = |error| OpenError::Io {
            path: path.clone(),
            source: error,
        };
        let first_seq = newest.first_seq;
        core.states = std::mem::take(&mut newest.states);
        core.states.drop_expired(core.now.wall_ns);
        core.states.keep();
        self.end = self.end.max(newest.stop.seq);
        let next_seq = match &newest.verdict {
            Verdict::Damaged { next_seq, gaps } => {
                // The last of them reaches up to what is only named.
                let missing = gaps
                    .iter()
                    .find(|(_, first, last)| first <= last && last + 1 == *next_seq);
                self.end = self.end.max(missing.map_or(*next_seq, |(_, first, _)| *first));
                core.unsealable.insert(first_seq);
                for (offset, first, last) in gaps {
                    self.findings.push(AgentNote::Damage {
                        segment: first_seq,
                        offset: *offset,
                        first: *first,
                        last: *last,
                    });
                }
                *next_seq
            }
            _ => newest.stop.seq,
        };
        let mut full = false;
        let mut stale = false;
        if let Verdict::Torn { end } = newest.verdict
            && !self.faults.is(Fault::KeepTail)
        {
            newest.cut_behind().map_err(io)?;
            // The cut must be on disk before a frame is: or a stale one behind
            // the new one could come back.
            stale = self.faults.is(Fault::StaleFrames);
            if !stale {
                newest.file.sync().map_err(io)?;
            }
            self.findings.push(AgentNote::TornTail {
                segment: first_seq,
                offset: newest.stop.offset,
                length: end - newest.stop.offset,
            });
        }
        let appendable = matches!(newest.verdict, Verdict::Clean | Verdict::Torn { .. });
        if appendable {
            // A write in place may need new space.
            let mut written = newest.rewrite_unproven();
            if written.as_ref().is_err_and(is_full) && reserve::release(&*self.shared.fs, &self.shared.layout) {
                full = true;
                written = newest.rewrite_unproven();
            }
            match written {
                // The old bytes are there, and a start on a full disk must still serve them.
                Err(error) if is_full(&error) => full = true,
                written => written.map_err(io)?,
            }
        }
        if !stale {
            newest.file.sync().map_err(io)?;
            let dir = self.shared.layout.seg_dir();
            self.shared.fs.sync_dir(&dir).map_err(OpenError::io(&dir))?;
        }
        *self.shared.last_leaf.lock() = (newest.stop.seq, newest.last_leaf);
        self.shared.set_durable(next_seq);
        core.next_seq = next_seq;
        if appendable {
            let segments = self.shared.segments.read();
            if let Some(segment) = segments.get(&first_seq) {
                let end = newest.stop.offset;
                let size = newest.file.size().map_err(io)?;
                core.adopt(newest.file, Arc::clone(segment), end, size, newest.head_end);
            }
            drop(segments);
            if !newest.stop.marked && newest.stop.offset > FIRST_FRAME {
                core.upkeep.mark_soon();
            }
        }
        Ok(full)
    }
}

/// Hash that segments of this journal carry.
fn own_hash(shared: &Shared) -> [u8; 32] {
    origin_hash(&shared.origin)
}
