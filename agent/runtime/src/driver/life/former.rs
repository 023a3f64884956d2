//! A sink that was behind when the journal went on as a new generation: it is first given what is left for it in the
//! former ones.

use std::sync::Arc;

use auditmon_core::plugin::{PluginError, Start};
use auditmon_journal::{Gap, GapReason, Handle, Position, PositionVerdict, origins_before};

use super::{Halt, Life};
use crate::driver::batching::Feed;
use crate::driver::place::{Found, Keeper};
use crate::hot::Hot;

/// Generations before one whose files are gone for which a sink is asked: each is a question to its other side.
const MOST_OLDER: usize = 1000;

impl Life {
    /// Finds the generation, and the place there, where a sink goes on that has answered so for the one that is
    /// written to.
    pub(super) async fn find(&mut self, start: Start) -> Result<(), Halt> {
        let keeper = Keeper::from(&start);
        self.read_from(vec![self.driver.journal.clone()]);
        let mut found = self.places().found(start)?;
        let path = match &found {
            _ if keeper == Keeper::Nobody => None,
            Found::Front => None,
            Found::Position(position) if position.origin == self.journal.origin() => None,
            Found::Position(position) => match self.journal.check_position(position) {
                PositionVerdict::Accepted => Some(self.path_to(position)?),
                // It can't go on at all, and is told why.
                _ => None,
            },
            Found::Nothing if keeper == Keeper::Sink => self.ask_for_formers().await?,
            Found::Nothing if !self.places().begins_at_the_oldest() => None,
            Found::Nothing | Found::Damage => Some(Path::There(self.oldest_path()?)),
        };
        if let Some(Path::Gone(path)) = path {
            found = match keeper {
                Keeper::Sink => self.found_in(path.last(), Found::Front).await?,
                _ => Found::Front,
            };
            self.read_from(path);
        } else if let Some(Path::There(mut path)) = path {
            // What the sink says of the generation that was found.
            if keeper == Keeper::Sink && path.len() > 1 {
                found = self.found_in(path.last(), Found::Damage).await?;
            }
            if let (Found::Position(position), Some(former)) = (&found, path.last())
                && path.len() > 1
                && !is_left(former, position)
            {
                path.pop();
                found = match keeper {
                    Keeper::Sink => self.found_in(path.last(), Found::Front).await?,
                    _ => Found::Front,
                };
            }
            self.read_from(path);
        }
        self.place = Some(self.places().place(keeper, found)?);
        if !self.ahead.is_empty() {
            tracing::info!(
                sink = self.driver.name,
                origin = self.journal.origin(),
                "is given first what it lacks of a former generation"
            );
        }
        Ok(())
    }

    /// Everything of a former generation is delivered: goes on at the front of the next one.
    pub(super) async fn pass_on(&mut self) -> Result<(), Halt> {
        let Some(place) = &self.place else {
            return Err(Halt::End);
        };
        let keeper = place.keeper;
        let found = match keeper {
            Keeper::Sink => {
                let next = self.ahead.last().cloned();
                self.found_in(next.as_ref(), Found::Front).await?
            }
            _ => Found::Front,
        };
        // Found anew if it can't be kept.
        self.place = None;
        let path = std::mem::take(&mut self.ahead);
        self.read_from(path);
        self.place = Some(self.places().place(keeper, found)?);
        // Tried again if its place could not be written.
        self.remember(None, true);
        Ok(())
    }

    /// Records behind the generation that is read.
    pub(super) fn later(&self) -> u64 {
        self.ahead.iter().map(Handle::durable).fold(0, u64::saturating_add)
    }

    /// Reads the last of these generations, and then those before it.
    fn read_from(&mut self, mut path: Vec<Handle>) {
        let Some(journal) = path.pop() else { return };
        let hot = if path.is_empty() {
            Arc::clone(&self.driver.hot)
        } else {
            // Nobody else reads there: nothing is kept beside the part at hand.
            Arc::new(Hot::new(journal.clone(), 0))
        };
        self.feed = Feed::new(hot, self.driver.name, &self.driver.delivery.batch);
        self.journal = journal;
        self.ahead = path;
    }

    /// From the newest generation down to the one that a position is in. If that is not there any more, tells so.
    fn path_to(&self, position: &Position) -> Result<Path, PluginError> {
        let mut path = vec![self.driver.journal.clone()];
        while let Some(former) = former(path.last())? {
            let is_it = former.origin() == position.origin;
            path.push(former);
            if is_it {
                return Ok(Path::There(path));
            }
        }
        self.tell_gone(gone(path.last())?, position);
        Ok(Path::Gone(path))
    }

    /// The files of the generation that a position is in are gone, and with them what the sink has still to get of it;
    /// `gone` is the first generation of which that is so, and its end.
    fn tell_gone(&self, gone: Option<(String, u64)>, position: &Position) {
        let Position { origin, seq, .. } = position;
        if !self.driver.state.notes.is_first_of(origin) {
            return;
        }
        let (of, end) = gone.unwrap_or_default();
        let first = if of == *origin { *seq } else { 0 };
        if of != *origin {
            tracing::warn!(
                sink = self.driver.name,
                origin,
                seq,
                "a former generation can't be reached any more, and how many records from there on the sink never gets isn't known"
            );
        }
        if first < end {
            let gap = Gap {
                first,
                last: end - 1,
                reason: GapReason::Damaged,
            };
            self.count_gap(&gap, Some(&of));
        }
    }

    /// Down to the oldest generation from which on nothing but damage made new ones.
    fn oldest_path(&self) -> Result<Vec<Handle>, PluginError> {
        let mut path = vec![self.driver.journal.clone()];
        while path.last().is_some_and(Handle::continues_damaged)
            && let Some(former) = former(path.last())?
        {
            path.push(former);
        }
        Ok(path)
    }

    /// Down to the newest generation in which a sink that keeps its position itself has one, or to where its files are gone.
    async fn ask_for_formers(&mut self) -> Result<Option<Path>, Halt> {
        let mut path = vec![self.driver.journal.clone()];
        while let Some(former) = former(path.last())? {
            path.push(former);
            if let Found::Position(_) = self.found_in(path.last(), Found::Nothing).await? {
                return Ok(Some(Path::There(path)));
            }
        }
        if let Some(gone) = gone(path.last())? {
            // It may have been off since a generation before that one; what leads there has gone with that one.
            let older = origins_before(&gone.0).take(MOST_OLDER);
            let asked: Vec<String> = std::iter::once(gone.0.clone()).chain(older).collect();
            for origin in asked {
                if let Some(position) = self.position_in(&origin).await? {
                    self.tell_gone(Some(gone), &position);
                    return Ok(Some(Path::Gone(path)));
                }
            }
        }
        // It is new.
        let path = self.places().begins_at_the_oldest().then(|| self.oldest_path());
        Ok(path.transpose()?.map(Path::There))
    }

    /// What a sink that keeps its position itself remembers of a generation; `nothing` if it doesn't, whatever a new
    /// sink would be given.
    async fn found_in(&mut self, journal: Option<&Handle>, nothing: Found) -> Result<Found, Halt> {
        let Some(journal) = journal else {
            return Ok(Found::Nothing);
        };
        let position = self.position_in(journal.origin()).await?;
        Ok(position.map_or(nothing, Found::Position))
    }

    /// The position of a sink that keeps it itself, in the generation with this origin.
    async fn position_in(&mut self, origin: &str) -> Result<Option<Position>, Halt> {
        let origin: Arc<str> = Arc::from(origin);
        Ok(match self.ask(|sink| sink.start(&origin)).await? {
            Start::Own(position) => position.filter(|position| position.origin == *origin),
            _ => None,
        })
    }
}

/// Generations, the newest first.
enum Path {
    /// Down to the one in which a sink goes on.
    There(Vec<Handle>),
    /// The files of that one are gone: down to the oldest one behind it, at whose front the sink goes on.
    Gone(Vec<Handle>),
}

/// Whether a position fits a former generation, and something is left behind it.
fn is_left(former: &Handle, position: &Position) -> bool {
    position.seq < former.durable()
        && matches!(
            former.check_position(position),
            PositionVerdict::Ok | PositionVerdict::Gone
        )
}

fn former(journal: Option<&Handle>) -> Result<Option<Handle>, PluginError> {
    read(journal, Handle::former)
}

/// Origin and end of the former generation, if its files are gone.
fn gone(journal: Option<&Handle>) -> Result<Option<(String, u64)>, PluginError> {
    read(journal, Handle::gone_former)
}

fn read<T>(
    journal: Option<&Handle>,
    read: impl FnOnce(&Handle) -> std::io::Result<Option<T>>,
) -> Result<Option<T>, PluginError> {
    journal.map(read).transpose().map(Option::flatten).map_err(|error| {
        let reason = format!("a former generation can't be read: {error}");
        match error.kind() {
            // Only a person can mend that.
            std::io::ErrorKind::InvalidData => PluginError::permanent(reason),
            _ => PluginError::transient(reason),
        }
    })
}
