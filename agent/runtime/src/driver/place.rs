//! How far a sink is: what it has confirmed, and what of that is remembered where.

use auditmon_core::delivery::{Begin, Delivery, WhenBehind};
use auditmon_core::plugin::{PluginError, Start};
use auditmon_core::subscription::Events;
use auditmon_journal::format::Position;
use auditmon_journal::{Handle, PositionVerdict};
use tokio::time::Instant;

/// Longest time that a position file may stay behind what only state records have moved.
const STATES_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Who remembers a sink's position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keeper {
    /// Nobody: it starts at the head.
    Nobody,
    /// The sink.
    Sink,
    /// A file of ours.
    File,
}

impl From<&Start> for Keeper {
    fn from(start: &Start) -> Self {
        match start {
            Start::Live => Self::Nobody,
            Start::Own(_) => Self::Sink,
            Start::Cursor => Self::File,
        }
    }
}

/// Where a sink goes on.
pub(crate) struct Place {
    pub(crate) keeper: Keeper,
    /// The record to read next. Everything before it was handed over, or is no event.
    pub(crate) next: u64,
    /// What of that is not delivered.
    pub(crate) pending: Option<Events>,
    /// What the position file says, or [`NOTHING`].
    written: u64,
    written_at: Instant,
}

/// There is no position file.
const NOTHING: u64 = u64::MAX;

/// What a sink remembers.
pub(crate) enum Found {
    Nothing,
    Position(Position),
    /// Something that can't be read.
    Damage,
    /// All of a generation before this one, as far as it is left: it goes on at the front of this one, and is told
    /// what of it has gone.
    Front,
}

/// What is needed to find and to keep a place.
pub(crate) struct Places<'a> {
    pub(crate) sink: &'static str,
    /// The generation that is written to.
    pub(crate) current: &'a Handle,
    /// The one that is read.
    pub(crate) journal: &'a Handle,
    pub(crate) delivery: &'a Delivery,
}

impl Place {
    /// End of the contiguous confirmed part.
    pub(crate) fn confirmed(&self) -> u64 {
        let first = self.pending.as_ref().and_then(|pending| pending.iter().next());
        first.map_or(self.next, |event| event.seq)
    }
}

impl Places<'_> {
    /// What a sink remembers that has answered so. May wait for the disk.
    ///
    /// # Errors
    /// Its position can't be read now.
    pub(crate) fn found(&self, start: Start) -> Result<Found, PluginError> {
        match start {
            Start::Live | Start::Own(None) => Ok(Found::Nothing),
            Start::Own(Some(position)) => Ok(Found::Position(position)),
            Start::Cursor => self.read(),
        }
    }

    /// Whether a sink without a position is given everything that the journal holds.
    pub(crate) fn begins_at_the_oldest(&self) -> bool {
        self.delivery.from != Begin::Head
    }

    /// Where it begins in the generation that is read. May wait for the disk.
    ///
    /// # Errors
    /// Its position is not of this journal.
    pub(crate) fn place(&self, keeper: Keeper, found: Found) -> Result<Place, PluginError> {
        let (durable, oldest) = (self.journal.durable(), self.journal.status().oldest_payload);
        let found = match found {
            Found::Position(position) if self.is_of_former(&position) => Found::Front,
            found => found,
        };
        let at_the_front = matches!(found, Found::Front);
        let next = match &found {
            Found::Position(position) => self.checked(position)?,
            Found::Nothing if keeper == Keeper::Nobody || !self.begins_at_the_oldest() => durable,
            Found::Nothing | Found::Damage => oldest,
            Found::Front => 0,
        };
        let mut place = Place {
            keeper,
            next,
            pending: None,
            written: match found {
                Found::Position(position) => position.seq,
                Found::Nothing | Found::Damage | Found::Front => NOTHING,
            },
            written_at: Instant::now(),
        };
        if keeper == Keeper::File && place.written == NOTHING {
            // Or a crash before the first delivery would lose what is accepted meanwhile.
            let written = self.write(&mut place, self.position_at(next));
            // That the file still has a place in a former generation keeps nothing from being delivered.
            if !at_the_front {
                written?;
            }
        }
        self.hold(&place);
        Ok(place)
    }

    /// The sink's file. One that is damaged is as good as none, but for what the sink already has.
    fn read(&self) -> Result<Found, PluginError> {
        match self.journal.read_position(self.sink) {
            Ok(Some(position)) => Ok(Found::Position(position)),
            Ok(None) => Ok(Found::Nothing),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::error!(
                    sink = self.sink,
                    "the file `positions/{}` is damaged: everything that the journal still holds is delivered again",
                    self.sink
                );
                Ok(Found::Damage)
            }
            Err(error) => Err(PluginError::transient(format!(
                "positions/{} can't be read: {error}",
                self.sink
            ))),
        }
    }

    /// Whether it is of a generation that this one took the place of, and of which nothing is left for the sink: it
    /// begins this one at its front.
    fn is_of_former(&self, position: &Position) -> bool {
        self.journal.check_position(position) == PositionVerdict::Accepted
    }

    fn checked(&self, position: &Position) -> Result<u64, PluginError> {
        match self.journal.check_position(position) {
            // What it should have read next may be past retention: it is then told of the gap.
            PositionVerdict::Ok | PositionVerdict::Gone => Ok(position.seq),
            PositionVerdict::Former => Err(PluginError::permanent(format!(
                "`{}` has read a former generation of this journal, up to record {}; that was rewritten or put back \
                 (event journal.rollback or journal.rewritten). `auditmon journal accept-rollback --reason TEXT` lets it go on with this one",
                self.sink, position.seq
            ))),
            verdict => Err(PluginError::permanent(format!(
                "the journal is not the one that `{}` has read: it expects record {} next ({verdict:?}); \
                 the journal was rolled back or rewritten. A start of the agent while what `{}` remembers can be read \
                 begins a new generation and tells it; nothing is delivered to it until then",
                self.sink, position.seq, self.sink
            ))),
        }
    }

    /// The position of a sink that goes on with `seq`, if the record before can be read.
    pub(crate) fn position_at(&self, seq: u64) -> Option<Position> {
        Some(Position {
            origin: self.journal.origin().to_owned(),
            seq,
            leaf_hash: self.journal.leaf_hash_before(seq)?,
        })
    }

    /// Remembers how far the sink is, and lets payloads go that it no longer needs, never ahead of what is remembered.
    /// `end` is the position at `place.next`, if it is known. Waits for the disk.
    ///
    /// # Errors
    /// The position could not be written; the former one is still there, and the sink may go on.
    pub(crate) fn confirm(&self, place: &mut Place, end: Option<Position>, events: bool) -> Result<(), PluginError> {
        let confirmed = place.confirmed();
        if place.keeper == Keeper::File && confirmed != place.written {
            if !events && place.written_at.elapsed() < STATES_EVERY {
                return Ok(());
            }
            let position = end
                .filter(|end| end.seq == confirmed)
                .or_else(|| self.position_at(confirmed));
            self.write(place, position)?;
        }
        self.hold(place);
        Ok(())
    }

    fn write(&self, place: &mut Place, position: Option<Position>) -> Result<(), PluginError> {
        // Behind damage the hash is not known: what follows moves the position past it.
        let Some(position) = position else { return Ok(()) };
        self.journal.write_position(self.sink, &position).map_err(|error| {
            PluginError::transient(format!(
                "positions/{} can't be written, so that a crash would repeat what was delivered: {error}",
                self.sink
            ))
        })?;
        place.written = position.seq;
        place.written_at = Instant::now();
        Ok(())
    }

    fn hold(&self, place: &Place) {
        let seq = match place.keeper {
            Keeper::Nobody => return self.current.set_hold(self.sink, None),
            // All of this one is still to come; of a former one nothing goes.
            _ if self.journal.origin() != self.current.origin() => 0,
            Keeper::Sink => place.confirmed(),
            // Its file has a place in a former generation.
            Keeper::File if place.written == NOTHING => 0,
            Keeper::File => place.written.min(place.confirmed()),
        };
        match self.delivery.when_behind {
            WhenBehind::Block => self.current.set_hold(self.sink, Some(seq)),
            WhenBehind::Skip => self.current.set_yielding_hold(self.sink, Some(seq)),
        }
    }
}
