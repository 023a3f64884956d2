//! What a running agent has written and not signed yet: no part of what is checked, but sinks act on it as soon as it is on
//! disk.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditmon_journal::format::Record;

use super::Check;
use crate::accepted::tells;
use crate::event::{declares, disagrees};
use crate::files::Generation;
use crate::report::CouldNot;
use crate::segment::Segment;

/// A running agent signs what it has within a second. What stays unsigned for longer may be anybody's.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);

impl Check<'_> {
    /// Listens to the records behind those that were checked, from the segment on that was read last. The database was
    /// opened before, so whatever the store went by is among them.
    pub(super) fn hear_unsigned(&mut self, open: Option<Segment>) -> Result<(), CouldNot> {
        self.listen(self.segment, open, Self::hear)?;
        self.tell_late()
    }

    /// Hands over the records from the segment on that begins with `from`, and in that from where it is open on.
    fn listen(
        &mut self,
        from: u64,
        mut open: Option<Segment>,
        mut each: impl FnMut(&mut Self, u64, &Record<'_>),
    ) -> Result<(), CouldNot> {
        for (first, parts) in self.list()?.range(from..) {
            let name = Generation::seg_name(*first);
            let path = self.setting.generation.dir.join(&name);
            let segment = match open.take() {
                // It may have grown.
                Some(mut segment) => segment.reopen(&path, None).map(|()| segment),
                None if parts.seg => Segment::open(&path, None),
                None => continue,
            };
            let heard = segment.and_then(|mut segment| segment.rest(|seq, record| each(self, seq, record)));
            match heard {
                // Retention took it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                heard => heard.map_err(self.could_not(name))?,
            }
        }
        Ok(())
    }

    /// Says what should have been signed by now. What was written since the newest segment was begun to be checked, which
    /// may take longer than that, is held to the checkpoint as it is now.
    fn tell_late(&mut self) -> Result<(), CouldNot> {
        let Some((oldest, _)) = self.unsigned.received else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = |received: u64| now.saturating_sub(Duration::from_nanos(received));
        if age(oldest) <= SIGNED_WITHIN {
            return Ok(());
        }
        let signed = self.heads.signed_now(self.setting.generation)?;
        let signed = signed.map_or(self.covered, |signed| signed.max(self.covered));
        let age = age(match signed > self.covered {
            true => self.oldest_behind(signed)?,
            false => oldest,
        });
        if age > SIGNED_WITHIN && self.heard > signed {
            self.report.unseen(format!(
                "{}: whether seq {} to {} are as they were written: something runs there and has not signed them, the oldest for {} s, which an agent does within a second: it can't, it isn't one, or later checkpoints were removed; one kept elsewhere, given with --against, tells",
                self.setting.generation.origin,
                signed,
                self.heard - 1,
                age.as_secs()
            ));
        }
        Ok(())
    }

    /// When the oldest was received of the records that were heard and are not below `signed`.
    fn oldest_behind(&mut self, signed: u64) -> Result<u64, CouldNot> {
        let (mut oldest, heard) = (u64::MAX, self.heard);
        if heard > signed {
            self.listen(self.segment_of(signed), None, |_, seq, record| {
                if (signed..heard).contains(&seq) {
                    oldest = oldest.min(record.prefix.received_ns);
                }
            })?;
        }
        Ok(oldest)
    }

    fn hear(&mut self, seq: u64, record: &Record<'_>) {
        if seq >= self.covered {
            let at = record.prefix.received_ns;
            let (first, last) = self.unsigned.received.unwrap_or((at, at));
            self.unsigned.received = Some((first.min(at), last.max(at)));
        }
        self.heard = self.heard.max(seq + 1);
        let Some(payload) = record.payload().filter(|_| seq >= self.seq) else {
            return;
        };
        let (declaration, told) = (declares(&record.prefix, payload), tells(&record.prefix, payload));
        if (declaration.is_none() && told.is_none()) || disagrees(&record.prefix, payload).is_some() {
            return;
        }
        if let Some(declaration) = declaration {
            self.absences.declare(seq, &declaration);
        }
        if self.setting.generation.number > 1
            && let Some(told) = told
        {
            self.told.push((seq, told));
        }
    }
}
