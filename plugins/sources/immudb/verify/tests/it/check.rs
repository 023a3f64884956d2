//! One check of one recorded answer, from bytes to verdict.

use std::collections::BTreeMap;

use immudb_verify::{
    Alh, Entries as Asked, Get, Keys, Progress, PublicKey, Reason, State, TxHeader, TxId, Verified, Walk, verify_dual,
    verify_dual_v2, verify_get, verify_signature, wire,
};
use prost::Message;

use crate::fields::Name;
use crate::proto::{self, Entries};

/// Why an answer was not accepted.
#[derive(Debug, PartialEq)]
pub enum Rejected {
    Decode,
    Reason(Reason),
}

impl From<prost::DecodeError> for Rejected {
    fn from(_: prost::DecodeError) -> Self {
        Self::Decode
    }
}

impl From<Reason> for Rejected {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

const HEADER: Reason = Reason::Missing {
    part: immudb_verify::Part::TxHeader,
};

#[derive(Clone)]
pub struct Dual {
    pub trusted: State,
    pub claimed: State,
    pub tx: TxId,
    pub layout: Entries,
    pub all_entries: bool,
    pub headers: BTreeMap<u64, proto::TxHeader>,
    pub signed: Option<(String, PublicKey)>,
}

#[derive(Clone)]
pub enum Check {
    /// A `VerifiableTx`.
    Dual(Dual),
    /// A `VerifiableTxV2`.
    DualV2 { trusted: State, claimed: State },
    /// A `VerifiableEntry`.
    Get {
        trusted: Option<State>,
        key: Vec<u8>,
        at: Option<TxId>,
        layout: Entries,
    },
    /// A `Tx` with all entries, whose Alh is known.
    Tx { alh: Alh, layout: Entries },
    /// A `TxList` that goes on from a walk and ends at a known state.
    Page {
        from: Walk,
        to: State,
        layout: Entries,
        all_entries: bool,
    },
    /// An `ImmutableState`, signed or known, and what was trusted before.
    State {
        db: String,
        signer: Option<PublicKey>,
        known: Option<State>,
    },
}

impl Check {
    /// The name of the message that it reads.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Dual(_) => "VerifiableTx",
            Self::DualV2 { .. } => "VerifiableTxV2",
            Self::Get { .. } => "VerifiableEntry",
            Self::Tx { .. } => "Tx",
            Self::Page { .. } => "TxList",
            Self::State { .. } => "ImmutableState",
        }
    }

    pub fn run(&self, bytes: &[u8]) -> Result<(), Rejected> {
        match self {
            Self::Dual(dual) => dual.run(bytes),
            Self::DualV2 { trusted, claimed } => {
                let answer = proto::VerifiableTxV2::decode(bytes)?;
                let proof = answer.dual_proof.as_ref().ok_or(Rejected::Decode)?;
                let proven = verify_dual_v2(trusted, claimed, &proof.wire())?;
                let tx = answer.tx.as_ref().ok_or(Rejected::Decode)?;
                let entries = tx.entries(Entries::Since1_2)?;
                let id = tx.header.as_ref().map(|header| TxId(header.id)).unwrap_or_default();
                proven.verify_tx(id, &tx.wire(&entries), Asked::All)?;
                Ok(())
            }
            Self::Get {
                trusted,
                key,
                at,
                layout,
            } => {
                let answer = proto::VerifiableEntry::decode(bytes)?;
                let tx = answer.verifiable_tx.as_ref().and_then(|tx| tx.tx.as_ref());
                let entries = tx.map(|tx| tx.entries(*layout)).transpose()?.unwrap_or_default();
                let get = Get { key, at: *at };
                match verify_get(&get, trusted.as_ref(), &answer.wire(&entries))? {
                    Verified::Proven(_) if entries.is_empty() => Err(Rejected::Decode),
                    Verified::Proven(_) => Ok(()),
                    Verified::NeedsHeaders(_) => panic!("no recorded history of these lags"),
                }
            }
            Self::Tx { alh, layout } => {
                let tx = proto::Tx::decode(bytes)?;
                let header = TxHeader::new(&tx.header.as_ref().ok_or(HEADER)?.wire())?;
                if header.alh() != *alh {
                    return Err(Rejected::Reason(Reason::WalkHash { tx: header.id() }));
                }
                let entries = tx.entries(*layout)?;
                header.verify_entries(&tx.wire(&entries).entries)?;
                Ok(())
            }
            Self::Page {
                from,
                to,
                layout,
                all_entries,
            } => {
                let page = proto::TxList::decode(bytes)?;
                let mut walk = from.clone();
                for tx in &page.txs {
                    let header = walk.step(&tx.header.as_ref().ok_or(HEADER)?.wire())?;
                    if *all_entries || !tx.entries.is_empty() {
                        header.verify_entries(&tx.wire(&tx.entries(*layout)?).entries)?;
                    }
                }
                Ok(walk.finish(to)?)
            }
            Self::State { db, signer, known } => {
                let answer = proto::ImmutableState::decode(bytes)?;
                let state = State::new(db, &answer.wire())?;
                if let Some(known) = known
                    && known.compare(&state)? != Progress::Same
                {
                    return Err(Rejected::Reason(Reason::OtherDatabase));
                }
                let keys = signer.map(|signer| [signer]);
                let keys = keys.as_ref().map_or(Keys::Unknown, |keys| Keys::Configured(keys));
                let signature = answer.signature.as_ref().map(proto::Signature::wire);
                verify_signature(keys, db, &state, signature.as_ref())?;
                Ok(())
            }
        }
    }

    /// What the message says to whoever decodes it: unknown fields are gone, an
    /// empty message of metadata is none, and the fields `blank` are empty.
    pub fn meaning(&self, bytes: &[u8], blank: &[Name]) -> Option<String> {
        let clear = |mut entries: Vec<proto::TxEntry>, layout| {
            let name = ("TxEntry", if layout == Entries::UpTo1_1 { 4 } else { 3 });
            if blank.contains(&name) {
                entries.iter_mut().for_each(|entry| entry.v_len = 0);
            }
            format!("{entries:?}")
        };
        let of = |tx: &mut Option<proto::Tx>, layout| {
            let Some(tx) = tx else { return Some("None".to_owned()) };
            let entries = clear(tx.entries(layout).ok()?, layout);
            tx.entries.clear();
            Some(entries)
        };
        let text = match self {
            Self::Dual(dual) => {
                let mut answer = proto::VerifiableTx::decode(bytes).ok()?;
                let entries = of(&mut answer.tx, dual.layout)?;
                format!("{answer:?} {entries}")
            }
            Self::DualV2 { .. } => {
                let mut answer = proto::VerifiableTxV2::decode(bytes).ok()?;
                let entries = of(&mut answer.tx, Entries::Since1_2)?;
                format!("{answer:?} {entries}")
            }
            Self::Get { layout, .. } => {
                let mut answer = proto::VerifiableEntry::decode(bytes).ok()?;
                let entries = of(&mut answer.verifiable_tx.as_mut()?.tx, *layout)?;
                clear_entry(answer.entry.as_mut()?, blank);
                format!("{answer:?} {entries}")
            }
            Self::Tx { layout, .. } => {
                let mut tx = Some(proto::Tx::decode(bytes).ok()?);
                let entries = of(&mut tx, *layout)?;
                format!("{tx:?} {entries}")
            }
            Self::Page { layout, .. } => {
                let page = proto::TxList::decode(bytes).ok()?;
                let mut text = String::new();
                for tx in page.txs {
                    let mut tx = Some(tx);
                    let entries = of(&mut tx, *layout)?;
                    text.push_str(&format!("{tx:?} {entries}"));
                }
                text
            }
            Self::State { .. } => {
                let mut state = proto::ImmutableState::decode(bytes).ok()?;
                if blank.contains(&("ImmutableState", 5)) {
                    state.precommitted_tx_id = 0;
                }
                if blank.contains(&("ImmutableState", 6)) {
                    state.precommitted_tx_hash.clear();
                }
                format!("{state:?}")
            }
        };
        let empty = "metadata: Some(TxMetadata { truncated_tx_id: 0, extra: [] })";
        Some(text.replace(empty, "metadata: None"))
    }
}

fn clear_entry(entry: &mut proto::Entry, blank: &[Name]) {
    if let Some(reference) = &mut entry.referenced_by {
        if blank.contains(&("Reference", 5)) {
            reference.revision = 0;
        }
        // Without a reference these count.
        if blank.contains(&("Entry", 1)) {
            entry.tx = 0;
        }
        if blank.contains(&("Entry", 3)) {
            entry.value.clear();
        }
    }
    if blank.contains(&("Entry", 6)) {
        entry.expired = false;
    }
    if blank.contains(&("Entry", 7)) {
        entry.revision = 0;
    }
}

impl Dual {
    fn run(&self, bytes: &[u8]) -> Result<(), Rejected> {
        let answer = proto::VerifiableTx::decode(bytes)?;
        let proof = answer.dual_proof.as_ref().ok_or(Rejected::Decode)?;
        let proven = match verify_dual(&self.trusted, &self.claimed, &proof.wire())? {
            Verified::Proven(proven) => proven,
            Verified::NeedsHeaders(pending) => {
                let (first, last) = pending.range();
                let headers = self.headers.range(first.0..=last.0);
                pending.verify(headers.map(|(_, header)| header.wire()))?
            }
        };
        let tx = answer.tx.as_ref().ok_or(Rejected::Decode)?;
        let entries = tx.entries(self.layout)?;
        let asked = if self.all_entries { Asked::All } else { Asked::NotAsked };
        proven.verify_tx(self.tx, &tx.wire(&entries), asked)?;
        if let Some((db, key)) = &self.signed {
            let signature: Option<wire::Signature<'_>> = answer.signature.as_ref().map(proto::Signature::wire);
            verify_signature(
                Keys::Configured(&[*key]),
                db,
                &proven.target_state(),
                signature.as_ref(),
            )?;
        }
        Ok(())
    }
}
