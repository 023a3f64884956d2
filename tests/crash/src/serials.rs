//! The agent's account of the kernel's serials, and whether it is exact.

use std::collections::{BTreeMap, BTreeSet};

use auditmon_source_kernel::serials::serial_of;
use serde_json::Value;

use crate::oracle::{Seen, What, number};

/// What the journal says about the kernel's events.
#[derive(Debug, Default)]
pub struct Account {
    /// Shipped events by serial.
    pub shipped: BTreeMap<u32, Shipped>,
    /// Numbers of the load's calls that were shipped.
    pub numbers: BTreeSet<u64>,
    /// Ranges of all `kernel.gap` events, with the reason.
    pub gaps: Vec<(u32, u32, String)>,
    /// Sum of `missing`.
    pub missing: u64,
    /// Number of `kernel.gap` events.
    pub gap_events: usize,
    /// A gap says too much, because it had too many ranges.
    pub merged: bool,
    /// `last_serial` of the last `kernel.stop`.
    pub last: Option<u32>,
}

/// What was shipped under one serial.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shipped {
    /// Events. More than one: what came after the first was given up, and says that it is late.
    pub times: u32,
    /// It says that a part of it is missing.
    pub incomplete: bool,
    /// Of them, those that say so.
    pub late: u32,
}

/// The account, checked.
#[derive(Debug)]
pub struct Balance {
    /// Serials between the first and the last.
    pub serials: u64,
    /// Of them, shipped.
    pub shipped: u64,
    /// Of them, reported as missing.
    pub missing: u64,
    /// Of them, heartbeats, which are neither.
    pub heartbeats: u64,
    /// Of the missing ones, those of which a part came late, and says so.
    pub remnants: u64,
    /// Calls of the load that were shipped with their number.
    pub calls_shipped: u64,
    /// Calls that were shipped, but without the record that has their number, and say `incomplete`.
    pub calls_in_part: u64,
    /// Calls whose serial is in a gap.
    pub calls_missing: u64,
    /// Calls that the kernel never numbered (its own counter).
    pub calls_without_serial: u64,
}

impl Account {
    /// Reads it from the lines of `auditmon journal dump`.
    #[must_use]
    pub fn of(dump: &[Value]) -> Self {
        let mut account = Self::default();
        for event in dump.iter().map(|line| &line["event"]) {
            let data = &event["event_data"];
            match event["event_name"].as_str() {
                Some("kernel.gap") if event["kind"] == "agent" => account.gap(data),
                Some("kernel.stop") if event["kind"] == "agent" => {
                    account.last = data["last_serial"]
                        .as_u64()
                        .and_then(|serial| u32::try_from(serial).ok());
                }
                _ if event["kind"] == "kernel" => account.event(data),
                _ => {}
            }
        }
        account
    }

    fn gap(&mut self, data: &Value) {
        self.gap_events += 1;
        self.missing += data["missing"].as_u64().unwrap();
        self.merged |= data["merged"] == true;
        let reason = data["reason"].as_str().unwrap();
        for range in data["ranges"].as_array().unwrap() {
            let end = |at: usize| u32::try_from(range[at].as_u64().unwrap()).unwrap();
            self.gaps.push((end(0), end(1), reason.to_owned()));
        }
    }

    fn event(&mut self, data: &Value) {
        let records = data["records"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let mut serial = None;
        for record in records {
            let payload = record.find("audit(").map(|at| &record[at..]);
            serial = serial.or_else(|| serial_of(payload?.as_bytes()));
            self.numbers.extend(number(record));
        }
        if let Some(serial) = serial {
            let shipped = self.shipped.entry(serial).or_default();
            shipped.times += 1;
            shipped.incomplete |= data["incomplete"] == true;
            shipped.late += u32::from(data["late"] == true);
        }
    }

    /// Missing serials by reason, as the events say.
    #[must_use]
    pub fn by_reason(&self) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::new();
        for (first, last, reason) in &self.gaps {
            *sums.entry(reason.as_str()).or_default() += u64::from(last - first) + 1;
        }
        sums
    }

    /// Checks that every serial between the first shipped one and the last has exactly one place, and that
    /// every one of `calls` is accounted for. `lost`: what the kernel's own counter rose by.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub fn balance(&self, seen: &Seen, calls: std::ops::Range<u64>, lost: u32) -> Result<Balance, String> {
        let mut faults = Faults::default();
        // What only came late may be the rest of an event from before the account began.
        let in_time = self.shipped.iter().filter(|(_, shipped)| shipped.times > shipped.late);
        let first = in_time.map(|(serial, _)| *serial).next().unwrap_or_default();
        let last = self
            .last
            .or(self.shipped.keys().next_back().copied())
            .unwrap_or_default();
        if seen.overruns > 0 {
            faults.say(format!("the test's own reader was overrun {} times", seen.overruns));
        }
        let mut in_gap: BTreeMap<u32, u32> = BTreeMap::new();
        for (from, to, _) in &self.gaps {
            if to < from || to - from > 10_000_000 {
                faults.say(format!("a gap from {from} to {to}"));
                continue;
            }
            for serial in *from..=*to {
                *in_gap.entry(serial).or_default() += 1;
            }
        }
        let in_range = |serial: &u32| (first..=last).contains(serial);
        let shipped = self.shipped.keys().filter(|serial| in_range(serial)).count() as u64;
        let (mut heartbeats, mut remnants) = (0, 0);
        for serial in first..=last {
            let Shipped {
                times,
                incomplete,
                late,
            } = self.shipped.get(&serial).copied().unwrap_or_default();
            let gaps = in_gap.get(&serial).copied().unwrap_or_default();
            let whole = times - late;
            if whole > 1 || times > 1 && !incomplete {
                faults.say(format!("serial {serial} is shipped {times} times"));
            }
            if self.merged {
                continue;
            }
            match (times, gaps) {
                (1.., 0) | (0, 1) => {}
                // An event, or the rest of one, that comes when it has been given up must say so.
                (1.., 1) if whole == 0 => remnants += 1,
                (0, 0) if seen.serials.get(&serial) == Some(&What::Heartbeat) => heartbeats += 1,
                (0, 0) => {
                    faults.say(format!(
                        "serial {serial} ({:?}) is neither shipped nor reported",
                        seen.serials.get(&serial)
                    ));
                }
                _ => faults.say(format!(
                    "serial {serial} is shipped {times} times and reported missing {gaps} times"
                )),
            }
        }
        if let Some(serial) = in_gap.keys().find(|serial| !in_range(serial)) {
            faults.say(format!("serial {serial} is reported missing, beyond {first} to {last}"));
        }
        let ranges: u64 = self
            .gaps
            .iter()
            .map(|(from, to, _)| u64::from(to.wrapping_sub(*from)) + 1)
            .sum();
        if !self.merged && ranges != self.missing {
            faults.say(format!(
                "the ranges name {ranges} serials, `missing` says {}",
                self.missing
            ));
        }
        let serials = u64::from(last - first) + 1;
        if self.merged {
            // The ranges say too much, the sum does not.
            let beats = seen
                .serials
                .iter()
                .filter(|(serial, what)| in_range(serial) && **what == What::Heartbeat)
                .count() as u64;
            let rest = serials.saturating_sub(shipped + self.missing);
            if shipped + self.missing > serials || rest > beats {
                faults.say(format!(
                    "{serials} serials, {shipped} shipped, {} missing, {beats} heartbeats",
                    self.missing
                ));
            }
            heartbeats = rest;
        }
        let mut balance = Balance {
            serials,
            shipped,
            missing: self.missing,
            heartbeats,
            remnants,
            calls_shipped: 0,
            calls_in_part: 0,
            calls_missing: 0,
            calls_without_serial: 0,
        };
        let of_call = seen.calls();
        for number in calls {
            let serial = of_call.get(&number);
            let shipped = serial.and_then(|serial| self.shipped.get(serial));
            let gap = serial.is_some_and(|serial| in_gap.contains_key(serial));
            match (self.numbers.contains(&number), shipped, gap) {
                (true, Some(_), _) => balance.calls_shipped += 1,
                (true, None, _) => faults.say(format!("call {number} is shipped under another serial than {serial:?}")),
                (false, Some(event), _) if event.incomplete => balance.calls_in_part += 1,
                (false, Some(_), _) => faults.say(format!(
                    "call {number}: its event (serial {serial:?}) lost a record and does not say so"
                )),
                (false, None, true) => balance.calls_missing += 1,
                (false, None, false) if serial.is_none() => balance.calls_without_serial += 1,
                (false, None, false) => faults.say(format!(
                    "call {number}, serial {serial:?}, is neither shipped nor reported"
                )),
            }
        }
        if balance.calls_without_serial > u64::from(lost) {
            faults.say(format!(
                "{} calls have no serial, the kernel counted {lost} as lost",
                balance.calls_without_serial
            ));
        }
        faults.verdict(balance)
    }
}

/// Faults, of which the first are said.
#[derive(Default)]
struct Faults {
    lines: Vec<String>,
    count: usize,
}

impl Faults {
    fn say(&mut self, line: String) {
        self.count += 1;
        if self.lines.len() < 20 {
            self.lines.push(line);
        }
    }

    fn verdict<T>(self, good: T) -> Result<T, String> {
        if self.count == 0 {
            Ok(good)
        } else {
            Err(format!("{} faults:\n{}", self.count, self.lines.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, kind: &str, data: &Value) -> Value {
        serde_json::json!({"seq": 0, "event": {"event_name": name, "kind": kind, "event_data": data}})
    }

    fn call(serial: u32, number: u64) -> Value {
        let dir = crate::kernel::LOAD_DIR;
        let record = format!("type=PATH msg=audit(1.000:{serial}): item=0 name=\"{dir}{number:06}\"");
        line("execve", "kernel", &serde_json::json!({"records": [record]}))
    }

    fn gap(first: u32, last: u32) -> Value {
        let data = serde_json::json!({"ranges": [[first, last]], "missing": last - first + 1, "reason": "overrun"});
        line("kernel.gap", "agent", &data)
    }

    fn rest(serial: u32, late: bool) -> Value {
        let record = format!("type=EOE msg=audit(1.000:{serial}): ");
        let data = serde_json::json!({"records": [record], "incomplete": true, "late": late});
        line("eoe", "kernel", &data)
    }

    #[test]
    fn sees_what_is_wrong() {
        let mut seen = Seen::default();
        for (serial, number) in [(10, 0), (11, 1), (12, 2), (14, 3)] {
            seen.serials.insert(serial, What::Call(number));
        }
        seen.serials.insert(13, What::Heartbeat);
        let balance = |lines: &[Value], lost| Account::of(lines).balance(&seen, 0..4, lost);
        let good = balance(&[call(10, 0), gap(11, 12), call(14, 3)], 0).unwrap();
        assert_eq!((good.shipped, good.missing, good.heartbeats), (2, 2, 1));
        assert_eq!((good.calls_shipped, good.calls_missing), (2, 2));
        let late = balance(&[call(10, 0), gap(11, 12), rest(11, true), call(14, 3)], 0);
        assert_eq!(late.unwrap().remnants, 1);
        let mut whole = call(11, 1);
        whole["event"]["event_data"]["late"] = true.into();
        let late = balance(&[call(10, 0), gap(11, 12), whole, call(14, 3)], 0).unwrap();
        assert_eq!((late.remnants, late.calls_shipped, late.calls_missing), (1, 3, 1));
        let before = balance(&[rest(3, true), call(10, 0), gap(11, 12), call(14, 3)], 0).unwrap();
        assert_eq!((before.serials, before.shipped), (5, 2));
        let parts = [call(10, 0), rest(11, false), rest(11, true), gap(12, 12), call(14, 3)];
        assert_eq!(balance(&parts, 0).unwrap().calls_in_part, 1);
        let twice = [call(10, 0), rest(11, false), rest(11, false), gap(12, 12), call(14, 3)];
        assert!(balance(&twice, 0).unwrap_err().contains("shipped 2 times"));
        for (lines, says) in [
            (
                vec![call(10, 0), gap(11, 11), call(14, 3)],
                "neither shipped nor reported",
            ),
            (
                vec![call(10, 0), gap(11, 12), call(12, 2), call(14, 3)],
                "reported missing 1 times",
            ),
            (
                vec![call(10, 0), gap(11, 12), rest(11, false), call(14, 3)],
                "reported missing 1 times",
            ),
            (
                vec![call(10, 0), call(10, 0), gap(11, 12), call(14, 3)],
                "shipped 2 times",
            ),
            (
                vec![call(10, 0), gap(11, 12), gap(12, 12), call(14, 3)],
                "reported missing 2 times",
            ),
            (vec![call(10, 0), gap(11, 12), call(14, 3), gap(15, 15)], "beyond"),
        ] {
            let said = balance(&lines, 0).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
