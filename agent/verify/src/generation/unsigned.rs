//! What a running agent has said and not signed yet: no part of what is checked, but the store acts on it as soon as it
//! is on disk.

use auditmon_journal::format::Record;

use super::Check;
use crate::accepted::tells;
use crate::event::{declares, disagrees};
use crate::files::Generation;
use crate::report::CouldNot;
use crate::segment::Segment;

impl Check<'_> {
    /// Listens to the records behind those that were checked, from the segment on that was read last. The database was
    /// opened before, so whatever the store went by is among them.
    pub(super) fn hear_unsigned(&mut self, open: Option<Segment>) -> Result<(), CouldNot> {
        let mut open = open;
        let from = self.segment;
        for (first, parts) in self.list()?.range(from..) {
            let name = Generation::seg_name(*first);
            let path = self.setting.generation.dir.join(&name);
            let segment = match open.take() {
                // It may have grown.
                Some(mut segment) => segment.reopen(&path, None).map(|()| segment),
                None if parts.seg => Segment::open(&path, None),
                None => continue,
            };
            let heard = segment.and_then(|mut segment| segment.rest(|seq, record| self.hear(seq, record)));
            match heard {
                // Retention took it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                heard => heard.map_err(self.could_not(name))?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, seq: u64, record: &Record<'_>) {
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
