//! Values, checked here: entries are held to their transaction's header, that to the trusted state, and values to their
//! entries. What is new comes first, then all of it, the newest first, again and again. And one key of each round's page
//! is asked for as a user would ask for it.

use std::hash::{BuildHasher as _, RandomState};

use auditmon_core::time::{self, Nanos};
use auditmon_proto::immudb as proto;
use immudb_verify::{Get, Part, Reason, State, TxHeader, Verified, verify_get};
use prost::Message as _;

use crate::checked::{Values, Way};
use crate::chore::{Line, Stop};
use crate::client::{At, Fault, wire};
use crate::descent::Descent;
use crate::key::MAX_KEYS;
use crate::trusted::Record;
use crate::verdict::{Code, Finding, Verdict};

/// Most transactions of a page.
const PAGE: u64 = 100;
/// How far the server's clock may be ahead, in seconds, when it leaves out what has expired: no finding depends on clocks.
const CLOCK: i64 = 86_400;
/// Kinds of entries that can be asked for with their values: keys, sets, SQL.
const ASKED: std::ops::RangeInclusive<u8> = 0..=2;

/// What is asked for of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    Values,
    /// Entries without values, which are gone.
    Entries,
    /// Not even those, which are larger than an answer may be, or accepted as damaged.
    Header,
}

/// A page of transactions, in order.
struct Page {
    txs: Vec<proto::FullTx>,
    /// The same with all entries, where some came without.
    whole: Option<Vec<proto::FullTx>>,
}

/// A page that was found in order.
struct Sound {
    down: Descent,
    not_given: u64,
    truncated: u64,
    /// Whether a value was among what was given.
    gives: bool,
    /// A stored key, and its transaction.
    key: Option<(Vec<u8>, u64)>,
}

/// What was given of a transaction's values.
#[derive(Debug, Default, Eq, PartialEq)]
struct Given {
    /// All of them.
    all: bool,
    /// At least one that is not empty.
    any: bool,
    /// Keys whose values came empty and were not set so: what servers before 1.2.3 do, which give none.
    blank: Vec<Vec<u8>>,
}

impl Line<'_> {
    /// Goes on with so many calls; a page that has to be asked for in parts is brought to its end. `proven` counts the keys
    /// that were asked for and proven.
    pub(crate) async fn values(
        &self,
        values: &mut Values,
        record: &Record,
        past: u64,
        calls: &mut u32,
        proven: &mut u64,
    ) -> Result<(), Stop> {
        let (mut most, mut ask, mut again, mut asked) = (PAGE, None, false, false);
        let now = time::now();
        while let Some((way, down)) = values.way(record.state, past, now) {
            let last = down.next.tx.0;
            let accepted = record.damaged.contains(&last);
            let truncated = last < values.truncated;
            // Those that were accepted as damaged make pages of their own, and so do those that may be truncated.
            let damaged = record.damaged.iter().copied().filter(|tx| *tx < last);
            let above = (!truncated).then(|| values.truncated.saturating_sub(1));
            let low = damaged.chain(above).max().unwrap_or(0);
            let first = down.page(if accepted { 1 } else { most }, low).unwrap_or(last);
            if *calls == 0 && !again {
                break;
            }
            again = true;
            let what = ask.unwrap_or(match (accepted, truncated) {
                (true, _) => Ask::Header,
                (_, true) => Ask::Entries,
                _ => Ask::Values,
            });
            let page = match self.page(first, last, what, calls).await {
                Err(Stop::Fault(Fault::TooLarge(_) | Fault::Gone(_))) if first < last => None,
                Err(Stop::Found(finding)) if first < last && finding.tx.is_none() && is_damage(&finding) => None,
                Err(Stop::Fault(Fault::TooLarge(_))) if what != Ask::Header => {
                    ask = Some(if what == Ask::Values { Ask::Entries } else { Ask::Header });
                    continue;
                }
                Err(Stop::Fault(Fault::Gone(_))) if what == Ask::Values => {
                    // What is new is left to the next round, which sees all headers behind it.
                    if way == Way::Round {
                        gone(values, last)?;
                    }
                    ask = Some(Ask::Entries);
                    continue;
                }
                Err(Stop::Found(finding)) if !accepted && finding.tx.is_none() && is_damage(&finding) => {
                    let keys = self.damaged(last, calls).await;
                    let tx = Some(last);
                    return Err(Stop::Found(Finding { tx, ..finding }.name(keys)));
                }
                other => Some(other),
            };
            let Some(page) = page else {
                most = ((last - first + 1) / 8).max(1);
                continue;
            };
            if let Ok(page) = &page
                && (page.txs.len() as u64) < last - first + 1
            {
                // Half of it at most, so that few calls more come to an end.
                most = (page.txs.len() as u64).min((last - first).div_ceil(2).max(1));
                continue;
            }
            let sound = match page.and_then(|page| check(&down, &page, (what, values.gives), now)) {
                // Its header isn't what it was, so nothing below can be held to anything.
                Err(Stop::Found(_)) if accepted => {
                    values.lose(way, down, now);
                    if way == Way::Round {
                        break;
                    }
                    (again, ask) = (false, None);
                    continue;
                }
                other => other?,
            };
            values.truncated = values.truncated.max(sound.truncated);
            values.gives |= sound.gives;
            if way == Way::Round {
                values.not_given += sound.not_given;
            }
            values.reach(way, sound.down, now);
            (again, ask, most) = (false, None, most.saturating_mul(2).min(PAGE));
            if let Some((key, tx)) = sound.key
                && way == Way::Round
                && !asked
                && *calls > 0
                && self.asks()
            {
                asked = true;
                *calls -= 1;
                let known = self.key(&key, tx, &record.state).await;
                self.asked(!matches!(known, Err(Stop::Fault(Fault::Timeout(_)))));
                *proven += u64::from(known?);
            }
            if way == Way::Round && values.round.is_none() {
                // One round is enough for now.
                break;
            }
        }
        Ok(())
    }

    /// Fetches a page. One that the server denies is a finding.
    async fn page(&self, first: u64, last: u64, what: Ask, calls: &mut u32) -> Result<Page, Stop> {
        let count = last - first + 1;
        *calls = calls.saturating_sub(1);
        let txs: Vec<proto::FullTx> = if what == Ask::Header {
            let list = self.same(self.client.headers(self.seat, first, count).await?)?;
            let bare = |tx: proto::Tx| proto::FullTx {
                header: tx.header,
                entries: Vec::new(),
            };
            list.txs.into_iter().map(bare).collect()
        } else {
            let values = what == Ask::Values;
            self.same(self.client.entries(self.seat, first, count, values).await?)?
                .txs
        };
        if txs.is_empty() {
            let text = format!("the server has shown transaction {last} and gives none from {first} on");
            return Err(Stop::Found(Finding::new(Code::Rollback, "no-such-tx", text)));
        }
        let lacks = |tx: &proto::FullTx| {
            let expected = tx.header.as_ref().map(|header| header.nentries);
            expected.is_some_and(|expected| u64::try_from(expected) != Ok(tx.entries.len() as u64))
        };
        let whole = if what == Ask::Values && txs.iter().any(lacks) {
            *calls = calls.saturating_sub(1);
            let list = self.same(self.client.entries(self.seat, first, count, false).await?)?;
            if list.txs.len() != txs.len() {
                return Err(Stop::Later);
            }
            Some(list.txs)
        } else {
            None
        };
        Ok(Page { txs, whole })
    }

    /// Which keys of a transaction have values that the server itself can't read; none if that can't be told.
    async fn damaged(&self, tx: u64, calls: &mut u32) -> Vec<Vec<u8>> {
        let mut damaged = Vec::new();
        for key in self.keys(tx, calls).await {
            let [0, name @ ..] = &key[..] else { continue };
            *calls = calls.saturating_sub(1);
            let got = self.client.get(self.seat, name, At::Tx(tx), tx).await;
            if matches!(got, Err(Fault::Value(_))) {
                damaged.push(key);
            }
        }
        damaged
    }

    /// Keys that a transaction holds as the server has it now, at most [`MAX_KEYS`]; none if it doesn't tell.
    pub(crate) async fn keys(&self, tx: u64, calls: &mut u32) -> Vec<Vec<u8>> {
        *calls = calls.saturating_sub(1);
        let answer = self.client.entries(self.seat, tx, 1, false).await.map_err(Stop::from);
        let Ok(list) = answer.and_then(|answer| self.same(answer)) else {
            return Vec::new();
        };
        let Some(tx) = list.txs.into_iter().next().filter(|found| is_of(found, tx)) else {
            return Vec::new();
        };
        let keys = tx.entries.iter().take(MAX_KEYS).filter_map(|bytes| entry(bytes).ok());
        keys.map(|entry| entry.key).collect()
    }

    /// Asks for a key that a transaction set, as a user would, and looks whether the answer holds. Whether it could be told.
    async fn key(&self, key: &[u8], tx: u64, trusted: &State) -> Result<bool, Stop> {
        let [_, name @ ..] = key else { return Ok(false) };
        // Which transaction set it last nobody knows, whatever the answer says.
        let finding = |finding: Finding| Stop::Found(finding.name(vec![key.to_vec()]));
        let answer = match self
            .client
            .get(self.seat, name, At::Now { since: tx }, trusted.tx.0)
            .await
        {
            // Deleted, expired or truncated since; or no proof over trees that lag, which 1.0.5 calls damaged.
            Err(Fault::Other(_) | Fault::Gone(_) | Fault::Lag(_) | Fault::Corrupt { .. }) => return Ok(false),
            other => other.map_err(|fault| match Stop::from(fault) {
                Stop::Found(found) => finding(found),
                stop => stop,
            })?,
        };
        let answer = self.same(answer)?;
        let get = Get { key: name, at: None };
        match verify_get(&get, Some(trusted), &wire::verifiable_entry(&answer)) {
            Ok(Verified::Proven(entry)) if entry.tx.0 < tx => {
                let text = format!(
                    "a key that transaction {tx} set is shown as transaction {} set it before",
                    entry.tx
                );
                let stale = Finding::new(Code::Value, "stale-key", text);
                Err(finding(Finding { tx: Some(tx), ..stale }))
            }
            Ok(Verified::Proven(_)) => Ok(true),
            Ok(Verified::NeedsHeaders(_)) => Ok(false),
            Err(reason) => match Verdict::of_reason(&reason) {
                Verdict::Tampered(found) => Err(finding(found)),
                _ => Ok(false),
            },
        }
    }
}

/// Values that are gone although no header that was looked at says why: those that came meanwhile are looked at first.
fn gone(values: &mut Values, tx: u64) -> Result<(), Stop> {
    if values.gone == Some(tx) {
        let text = format!("the values of transaction {tx} are gone, and no transaction says that they were truncated");
        let finding = Finding::new(Code::Value, "values-gone", text);
        let tx = Some(tx);
        return Err(Stop::Found(Finding { tx, ..finding }));
    }
    values.gone = Some(tx);
    Err(Stop::Later)
}

/// Whether the server says of itself that something is damaged.
fn is_damage(finding: &Finding) -> bool {
    matches!(finding.code, Code::Value | Code::CorruptTx)
}

fn is_of(tx: &proto::FullTx, id: u64) -> bool {
    tx.header.as_ref().is_some_and(|header| header.id == id)
}

/// An entry in either layout.
fn entry(bytes: &[u8]) -> Result<proto::TxEntry, prost::DecodeError> {
    proto::TxEntry::decode(bytes).or_else(|_| {
        // Up to 1.1, where field 4 is a number.
        let old = proto::OldTxEntry::decode(bytes)?;
        Ok(proto::TxEntry {
            key: old.key,
            h_value: old.h_value,
            v_len: old.v_len,
            ..proto::TxEntry::default()
        })
    })
}

fn entries(tx: &proto::FullTx) -> Result<Vec<proto::TxEntry>, Stop> {
    // No more room than is needed: there may be very many.
    let mut entries = Vec::with_capacity(tx.entries.len());
    for bytes in &tx.entries {
        entries.push(entry(bytes).map_err(|error| Stop::from(Fault::Malformed(error.to_string())))?);
    }
    Ok(entries)
}

/// Checks a page from its end, which is known, to its beginning; `gives` says that the server has given a value before.
fn check(down: &Descent, page: &Page, (what, gives): (Ask, bool), now: Nanos) -> Result<Sound, Stop> {
    let (mut down, mut walk) = (*down, down.walk());
    let (mut not_given, mut truncated, mut keys) = (0_u64, 0_u64, Vec::new());
    let (mut gives, mut blank) = (gives, None);
    for (at, tx) in page.txs.iter().enumerate().rev() {
        let known = walk.next().tx.0;
        let whole = page.whole.as_ref().and_then(|whole| whole.get(at)).unwrap_or(tx);
        let missing = Reason::Missing { part: Part::TxHeader };
        let header = whole.header.as_ref().ok_or_else(|| Stop::at(known, &missing))?;
        let header = walk
            .step(&wire::header(header))
            .map_err(|reason| Stop::at(known, &reason))?;
        truncated = truncated.max(header.metadata().truncated().map_or(0, |tx| tx.0));
        let given = match what {
            Ask::Values => {
                let (all, with) = (entries(whole)?, entries(tx)?);
                let given = transaction(&header, &all, Some(&with), now)?;
                keys.extend(with.into_iter().find(is_plain).map(|entry| (entry.key, known)));
                given
            }
            Ask::Entries => transaction(&header, &entries(whole)?, None, now)?,
            Ask::Header => Given::default(),
        };
        not_given += u64::from(!given.all);
        gives |= given.any;
        if !given.blank.is_empty() {
            blank = Some((known, given.blank));
        }
    }
    // One that gives values gives all that it has.
    if let Some((tx, keys)) = blank.filter(|_| gives) {
        return Err(wrong(tx, "value-hash", "what is stored is not what was set", keys));
    }
    down.reach(&walk);
    let any = RandomState::new().hash_one(now) as usize;
    let key = (!keys.is_empty()).then(|| keys.swap_remove(any % keys.len()));
    Ok(Sound {
        down,
        not_given,
        truncated,
        gives,
        key,
    })
}

/// A key of a user's that is set for ever.
fn is_plain(entry: &proto::TxEntry) -> bool {
    let plain = entry.metadata.unwrap_or_default() == proto::KvMetadata::default();
    plain && entry.key.len() > 1 && entry.key[0] == 0
}

/// A finding about the values of these keys.
fn wrong(tx: u64, reason: &'static str, what: &str, mut keys: Vec<Vec<u8>>) -> Stop {
    keys.truncate(MAX_KEYS);
    let finding = Finding::new(Code::Value, reason, format!("transaction {tx}: {what}"));
    let tx = Some(tx);
    Stop::Found(Finding { tx, ..finding }.name(keys))
}

/// Checks a transaction: `all` its entries, and those `with` their values.
fn transaction(
    header: &TxHeader,
    all: &[proto::TxEntry],
    with: Option<&[proto::TxEntry]>,
    now: Nanos,
) -> Result<Given, Stop> {
    let tx = header.id().0;
    let entries: Vec<_> = all.iter().map(wire::tx_entry).collect();
    header
        .verify_entries(&entries)
        .map_err(|reason| Stop::at(tx, &reason))?;
    let mut given = Given::default();
    let Some(with) = with else {
        given.all = all.is_empty();
        return Ok(given);
    };
    let (mut with, mut left_out) = (with.iter().peekable(), false);
    let (mut other, mut withheld) = (Vec::new(), Vec::new());
    for (entry, message) in entries.iter().zip(all) {
        match with.next_if(|with| with.key == message.key) {
            Some(with) => match entry.verify_value(&with.value) {
                Ok(()) => given.any |= !with.value.is_empty(),
                Err(_) if with.value.is_empty() => given.blank.push(message.key.clone()),
                Err(_) => other.push(message.key.clone()),
            },
            None if may_lack(message, now) => left_out = true,
            None => withheld.push(message.key.clone()),
        }
    }
    if !other.is_empty() {
        return Err(wrong(tx, "value-hash", "what is stored is not what was set", other));
    }
    if !withheld.is_empty() {
        let what = "the server gives other values and leaves some out";
        return Err(wrong(tx, "value-withheld", what, withheld));
    }
    if let Some(surplus) = with.next() {
        let keys = vec![surplus.key.clone()];
        return Err(wrong(tx, "value-surplus", "the server gives a value of another", keys));
    }
    given.all = !left_out && given.blank.is_empty();
    Ok(given)
}

/// Whether a server leaves out this entry where values are asked for.
fn may_lack(entry: &proto::TxEntry, now: Nanos) -> bool {
    let expires = entry.metadata.and_then(|metadata| metadata.expiration);
    let now = i64::try_from(now / 1_000_000_000).unwrap_or(i64::MAX);
    let expired = expires.is_some_and(|expiration| expiration.expires_at <= now.saturating_add(CLOCK));
    expired || entry.key.first().is_none_or(|kind| !ASKED.contains(kind))
}

#[cfg(test)]
mod tests;
