//! What a verdict makes of what is trusted.

use auditmon_core::time::Nanos;

use crate::checked::Values;
use crate::descent::Descent;
use crate::trusted::{Latched, Record, Remembered};
use crate::verdict::{Code, Finding, Good, How, NOT_ACCEPTED, Verdict};

/// What lies before the first contact, after an audit that is in order.
fn past(record: Option<&Record>, good: &Good) -> Option<Descent> {
    match record {
        _ if good.how == How::First => (!good.state.is_empty()).then(|| Descent::new(good.state, 0)),
        None => None,
        Some(record) if record.past.is_some() => record.past,
        // It was empty, and was walked from the first transaction on.
        Some(record) if record.state.is_empty() => (!good.state.is_empty()).then(Descent::nothing),
        // Nobody remembers how far back it was seen: an earlier version, or an operator's word.
        Some(record) => Some(Descent::new(record.state, 0)),
    }
}

/// What is latched of a finding: what was seen once stays so, whatever is shown next.
fn latch(before: Option<&Latched>, finding: &Finding, now: Nanos) -> Latched {
    let identity = Code::Identity.as_str();
    // Another server that shows no other history takes nothing back of what was found before.
    let kept = before.filter(|_| finding.code == Code::Identity && finding.also().is_none());
    let also = finding.also().map(|code| code.as_str().to_owned());
    let also = also.or_else(|| before.and_then(|latched| latched.also.clone()));
    let code = kept.map(|latched| &latched.code).filter(|code| *code != identity);
    Latched {
        code: finding.code.as_str().to_owned(),
        also: also.or_else(|| code.cloned()),
        at: before.map_or(now, |latched| latched.at),
        tx: finding.of_tx().or(kept.and_then(|latched| latched.tx)),
    }
}

/// What is trusted after a verdict, if that changes, and what the verdict is beside an earlier finding.
pub(crate) fn weigh(remembered: Option<&Remembered>, verdict: Verdict, now: Nanos) -> (Verdict, Option<Record>) {
    let record = match remembered {
        Some(Remembered::Broken) => {
            let text = "what was remembered of this database can't be read";
            return (
                Verdict::Tampered(Finding::new(Code::StateLost, "state-lost", text)),
                None,
            );
        }
        Some(Remembered::Record(record)) => Some(record),
        None => None,
    };
    match (verdict, record) {
        (Verdict::Ok(good), Some(record)) => {
            if let Some(latched) = &record.finding {
                let stands = latched.stands();
                let text = format!("what the server shows now follows from the trusted state; {stands}");
                let mut finding = Finding::new(Code::parse(&latched.code), NOT_ACCEPTED, text);
                finding.shown = Some(good.state);
                finding.signature = good.signature;
                finding.uuid = good.uuid;
                return (Verdict::Tampered(finding), None);
            }
            let past = past(Some(&**record), &good);
            let same = record.state == good.state && record.uuid == good.uuid && record.key == good.key;
            let next = (!same || record.past != past).then(|| Record {
                state: good.state,
                signature: good.signature.as_ref().map(|signature| signature.bytes.clone()),
                uuid: good.uuid.clone(),
                key: good.key,
                taken: if same { record.taken } else { now },
                past,
                ..(**record).clone()
            });
            (Verdict::Ok(good), next)
        }
        (Verdict::Ok(good), None) => {
            let record = Record {
                state: good.state,
                signature: good.signature.as_ref().map(|signature| signature.bytes.clone()),
                uuid: good.uuid.clone(),
                key: good.key,
                first: now,
                taken: now,
                finding: None,
                accepted: Vec::new(),
                past: past(None, &good),
                values: Values::default(),
                damaged: Vec::new(),
                given_up: 0,
            };
            (Verdict::Ok(good), Some(record))
        }
        (Verdict::Tampered(finding), Some(record)) => {
            let latched = latch(record.finding.as_ref(), &finding, now);
            let next = (record.finding.as_ref() != Some(&latched)).then(|| Record {
                finding: Some(latched),
                ..(**record).clone()
            });
            (Verdict::Tampered(finding), next)
        }
        (Verdict::Unchecked(mut why), Some(record)) => {
            // Silence takes nothing back.
            if let Some(latched) = &record.finding {
                why.finding = Some(Code::parse(&latched.code));
                why.text.push_str(&format!("; {}", latched.stands()));
            }
            (Verdict::Unchecked(why), None)
        }
        (verdict, None) => (verdict, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::History;

    fn latched(code: &str, also: Option<&str>, tx: Option<u64>) -> Latched {
        Latched {
            code: code.to_owned(),
            also: also.map(str::to_owned),
            at: 3,
            tx,
        }
    }

    /// Another server takes nothing back of what was found before it came.
    #[test]
    fn an_identity_keeps_what_was_found_before() {
        use History::{Differs, Follows, Unknown};
        let rollback = || latched("rollback", None, None);
        let damage = || latched("corrupt-tx", None, Some(5));
        let other = |also, tx| latched("identity", also, tx);
        for (before, history, expected) in [
            (rollback(), Some(Unknown), other(Some("rollback"), None)),
            (rollback(), Some(Follows), other(Some("rollback"), None)),
            (rollback(), None, other(Some("rollback"), None)),
            (damage(), Some(Unknown), other(Some("corrupt-tx"), Some(5))),
            (
                other(Some("corrupt-tx"), Some(5)),
                Some(Unknown),
                other(Some("corrupt-tx"), Some(5)),
            ),
            (other(None, None), Some(Unknown), other(None, None)),
            (other(Some("fork"), None), Some(Follows), other(Some("fork"), None)),
            // Another history says more.
            (damage(), Some(Differs(Code::Proof)), other(Some("proof"), None)),
        ] {
            let mut finding = Finding::new(Code::Identity, "uuid-changed", "another server");
            if let Some(history) = history {
                finding.follow(history, "");
            }
            assert_eq!(latch(Some(&before), &finding, 7), expected, "{before:?} {history:?}");
        }
        // And what is no other server says it itself.
        let finding = Finding::new(Code::Rollback, "rollback", "fewer");
        assert_eq!(latch(Some(&damage()), &finding, 7), rollback());
    }
}
