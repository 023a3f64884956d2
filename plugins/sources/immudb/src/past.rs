//! Headers from before the first contact: each is held to the hash that the one after it names, down from a state that is
//! trusted. So what is seen once is as good as if it had been seen from the beginning, whether or not trees lag.

use immudb_verify::{Part, Reason, State};

use crate::chore::{Line, Stop};
use crate::client::{Fault, PAGE, wire};
use crate::descent::Descent;
use crate::verdict::{Code, Finding};

impl Line<'_> {
    /// Goes on down with so many calls, and not to `low`; `found` takes what it comes by, newest first. A page that has
    /// to be asked for in parts is brought to its end.
    pub(crate) async fn past(
        &self,
        past: &mut Descent,
        low: u64,
        calls: &mut u32,
        found: &mut Vec<State>,
    ) -> Result<(), Stop> {
        let (mut most, mut again) = (u64::from(PAGE), false);
        while let Some(first) = past.page(most, low) {
            if *calls == 0 && !again {
                break;
            }
            *calls = calls.saturating_sub(1);
            again = true;
            let last = past.next.tx.0;
            let count = last - first + 1;
            let answer = match self.client.headers(self.seat, first, count).await {
                // Up to 1.2.2 all entries come along; and 1.0.5 doesn't say which transaction is damaged.
                Err(Fault::TooLarge(_) | Fault::Corrupt { tx: None, .. }) if count > 1 => {
                    most = (count / 8).max(1);
                    continue;
                }
                Err(Fault::Corrupt { tx: None, text }) => {
                    let tx = Some(last);
                    return Err(Fault::Corrupt { tx, text }.into());
                }
                other => other?,
            };
            let page = self.same(answer)?.txs;
            match page.len() as u64 {
                0 => {
                    let text = format!("the server has shown transaction {last} and gives none from {first} on");
                    return Err(Stop::Found(Finding::new(Code::Rollback, "no-such-tx", text)));
                }
                // It gives fewer at a time.
                given if given < count => {
                    // Half of it at most, so that few calls more come to an end.
                    most = given.min((count / 2).max(1));
                    continue;
                }
                _ => {}
            }
            let (mut walk, mut seen) = (past.walk(), Vec::new());
            for tx in page.iter().rev() {
                let known = walk.next();
                let wrong = |reason: Reason| Stop::at(known.tx.0, &reason);
                let header = tx.header.as_ref();
                let header = header.ok_or_else(|| wrong(Reason::Missing { part: Part::TxHeader }))?;
                walk.step(&wire::header(header)).map_err(wrong)?;
                seen.push(known);
            }
            past.reach(&walk);
            again = false;
            found.append(&mut seen);
        }
        Ok(())
    }
}
