//! Where a history begins to differ: a binary search over what was seen of it before.

use std::io;

use immudb_verify::{State, TxHeader};
use serde_json::{Value, json};

use crate::client::{Client, Fault, Seat, wire};
use crate::history::Rungs;
use crate::key;

/// What was found; transactions that no audit saw one by one make a range of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Located {
    /// The oldest transaction that is remembered.
    pub(crate) known_from: u64,
    /// The last one that is shown as before; 0 if none is.
    pub(crate) same_to: u64,
    /// The first that differs is one of these.
    pub(crate) changed: Option<(u64, u64)>,
    /// Those that are gone.
    pub(crate) lost: Option<(u64, u64)>,
    /// Calls that it took.
    pub(crate) calls: u32,
    /// Stored keys that the transaction holds now, if it is one and the server tells.
    pub(crate) keys: Vec<Vec<u8>>,
}

impl Located {
    /// For the event.
    pub(crate) fn data(&self) -> Value {
        let range = |(from, to): (u64, u64)| json!({"from": from, "to": to});
        json!({
            "known_from": self.known_from,
            "same_to": self.same_to,
            "first_changed": self.changed.map(range),
            "lost": self.lost.map(range),
            "calls": self.calls,
        })
    }

    /// The transaction, if it is one.
    pub(crate) fn tx(&self) -> Option<u64> {
        self.changed.filter(|(from, to)| from == to).map(|(from, _)| from)
    }

    /// Behind what the finding says.
    pub(crate) fn words(&self) -> String {
        let same = match self.same_to {
            0 => format!(
                "; of what is remembered, from transaction {} on, nothing is as before",
                self.known_from
            ),
            same => format!("; up to transaction {same} the history is as before"),
        };
        let changed = match self.changed {
            Some((from, to)) if from == to => format!("; transaction {from} is the first that differs"),
            Some((from, to)) => format!("; the first that differs is one of the transactions {from} to {to}"),
            None => String::new(),
        };
        let lost = self.lost.map_or_else(String::new, |(from, to)| {
            format!("; {} transactions are gone, {from} to {to}", to - from + 1)
        });
        let keys = key::words("; now it holds ", &self.keys);
        format!("{same}{changed}{keys}{lost}")
    }
}

/// Searches; `trusted` is the last of the rungs, `shown` the last state of the server.
///
/// # Errors
/// The server can't be asked, or the file can't be read.
pub(crate) async fn locate(
    client: &Client,
    seat: &mut Seat,
    database: &str,
    rungs: &Rungs,
    (trusted, shown): (State, State),
) -> Result<Located, Fault> {
    client.select(seat, database).await?;
    let (mut low, mut high, mut calls) = (0, rungs.count, 0);
    // Everything below `low` is as before, nothing from `high` on.
    while low < high {
        let middle = low + (high - low) / 2;
        let rung = get(rungs, middle).await?;
        let same = if rung.tx >= shown.tx {
            rung == shown
        } else {
            calls += 1;
            holds(client, seat, &rung).await?
        };
        if same {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let known_from = get(rungs, 0).await?.tx.0;
    let same_to = match low.checked_sub(1) {
        Some(at) => get(rungs, at).await?.tx.0,
        None => 0,
    };
    let changed = if low < rungs.count {
        let next = get(rungs, low).await?.tx.0;
        (next <= shown.tx.0).then_some((same_to + 1, next))
    } else {
        None
    };
    let lost = (shown.tx < trusted.tx).then_some((shown.tx.0 + 1, trusted.tx.0));
    Ok(Located {
        known_from,
        same_to,
        changed,
        lost,
        calls,
        keys: Vec::new(),
    })
}

async fn get(rungs: &Rungs, at: u64) -> Result<State, Fault> {
    let rungs = rungs.clone();
    let read = tokio::task::spawn_blocking(move || rungs.get(at)).await;
    let read = read.map_err(io::Error::other).flatten();
    read.map_err(|error| Fault::Other(format!("the remembered history can't be read: {error}")))
}

/// Whether the server shows this transaction as it was.
async fn holds(client: &Client, seat: &Seat, state: &State) -> Result<bool, Fault> {
    let page = match client.headers(seat, state.tx.0, 1).await {
        Ok(answer) => answer.message,
        // It had it.
        Err(Fault::NoSuchTx(_) | Fault::Corrupt { .. } | Fault::Malformed(_)) => return Ok(false),
        Err(fault) => return Err(fault),
    };
    let header = page.txs.into_iter().next().and_then(|tx| tx.header);
    let header = header.and_then(|header| {
        let header = TxHeader::new(&wire::header(&header)).ok()?;
        Some((header.id(), header.alh()))
    });
    Ok(header == Some((state.tx, state.alh)))
}
