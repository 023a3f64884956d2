//! The metrics of the two programs: one set of gauges a server, without a label for the database.

use auditmon_core::time::{self, Nanos};
use prometheus::{Counter, GaugeVec, Opts, Registry};

use super::config::Program;

/// Labels, as upstream has them; they are shown in the order of their names.
const LABELS: &[&str] = &["server_id", "server_address"];

/// Values of one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shown {
    /// 1 in order, 0 tampered, -1 not checked, -2 an error.
    pub(crate) result: i64,
    /// Transaction of the trusted state, or -1, -2.
    pub(crate) previous: i64,
    /// Transaction that the server showed, or -1, -2.
    pub(crate) current: i64,
}

impl Shown {
    /// Before the first tick.
    pub(crate) const NOTHING: Self = Self {
        result: -1,
        previous: -1,
        current: -1,
    };

    /// How bad it is: of several databases the worst is shown. One without transactions has nothing to show, and hides
    /// no other.
    pub(crate) fn rank(self) -> u8 {
        match (self.result, self.current) {
            (0, _) => 4,
            (-2, _) => 3,
            (-1, 0) => 0,
            (-1, _) => 2,
            _ => 1,
        }
    }
}

/// All of them.
pub(crate) struct Gauges {
    result: GaugeVec,
    current: GaugeVec,
    previous: GaugeVec,
    run: GaugeVec,
    /// Hours since the start; immugw's.
    uptime: Option<(Counter, Nanos)>,
}

impl Gauges {
    pub(crate) fn new(program: Program, registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let name = format!("{}_audit_{name}_per_server", program.name());
            let gauge = GaugeVec::new(Opts::new(name, help), LABELS)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let uptime = match program {
            Program::Immuclient => None,
            Program::Immugw => {
                let counter = Counter::new("immugw_uptime_hours", "Immu gateway server uptime in hours.")?;
                registry.register(Box::new(counter.clone()))?;
                Some((counter, time::now()))
            }
        };
        Ok(Self {
            result: gauge("result", "Latest audit result (1 = ok, 0 = tampered).")?,
            current: gauge("curr_root", "Current root index used for the latest audit.")?,
            previous: gauge("prev_root", "Previous root index used for the latest audit.")?,
            run: gauge("run_at", "Timestamp in unix seconds at which latest audit run.")?,
            uptime,
        })
    }

    /// Shows a server's values; `at` is when its last tick ended, -1 before.
    pub(crate) fn set(&self, (id, address): (&str, &str), shown: Shown, at: f64) {
        let each = &[id, address];
        self.result.with_label_values(each).set(shown.result as f64);
        self.previous.with_label_values(each).set(shown.previous as f64);
        self.current.with_label_values(each).set(shown.current as f64);
        self.run.with_label_values(each).set(at);
    }

    /// Takes the values of a server away, which has another name from now on.
    pub(crate) fn remove(&self, (id, address): (&str, &str)) {
        for gauge in [&self.result, &self.previous, &self.current, &self.run] {
            // It may never have been shown.
            let _ = gauge.remove_label_values(&[id, address]);
        }
    }

    /// It runs.
    pub(crate) fn running(&self, now: Nanos) {
        if let Some((counter, since)) = &self.uptime {
            counter.reset();
            counter.inc_by(now.saturating_sub(*since) as f64 / 3.6e12);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut out = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_as_recorded() {
        let registry = Registry::new();
        let gauges = Gauges::new(Program::Immuclient, &registry).unwrap();
        let server = ("dc0clu1ksduflchqfku0", "127.0.0.1:15810");
        gauges.set(("unknown", "127.0.0.1:15810"), Shown::NOTHING, -1.0);
        assert!(text(&registry).contains(
            "immuclient_audit_result_per_server{server_address=\"127.0.0.1:15810\",server_id=\"unknown\"} -1\n"
        ));
        gauges.remove(("unknown", "127.0.0.1:15810"));
        let shown = Shown {
            result: 1,
            previous: 7,
            current: 9,
        };
        gauges.set(server, shown, 1_795_214_088.129_234);
        let labels = "{server_address=\"127.0.0.1:15810\",server_id=\"dc0clu1ksduflchqfku0\"}";
        let wanted = format!(
            "# HELP immuclient_audit_curr_root_per_server Current root index used for the latest audit.\n\
             # TYPE immuclient_audit_curr_root_per_server gauge\n\
             immuclient_audit_curr_root_per_server{labels} 9\n\
             # HELP immuclient_audit_prev_root_per_server Previous root index used for the latest audit.\n\
             # TYPE immuclient_audit_prev_root_per_server gauge\n\
             immuclient_audit_prev_root_per_server{labels} 7\n\
             # HELP immuclient_audit_result_per_server Latest audit result (1 = ok, 0 = tampered).\n\
             # TYPE immuclient_audit_result_per_server gauge\n\
             immuclient_audit_result_per_server{labels} 1\n\
             # HELP immuclient_audit_run_at_per_server Timestamp in unix seconds at which latest audit run.\n\
             # TYPE immuclient_audit_run_at_per_server gauge\n\
             immuclient_audit_run_at_per_server{labels} 1795214088.129234\n"
        );
        assert_eq!(text(&registry), wanted);
    }

    #[test]
    fn immugw_has_names_of_its_own() {
        let registry = Registry::new();
        let gauges = Gauges::new(Program::Immugw, &registry).unwrap();
        gauges.set(("a", "b"), Shown::NOTHING, -1.0);
        gauges.running(time::now() + 7_200_000_000_000);
        let text = text(&registry);
        assert!(text.contains("immugw_audit_result_per_server{server_address=\"b\",server_id=\"a\"} -1\n"));
        assert!(text.contains("# HELP immugw_uptime_hours Immu gateway server uptime in hours.\n"));
        assert!(text.contains("\nimmugw_uptime_hours 2"), "{text}");
    }

    #[test]
    fn tampered_is_worse_than_an_error_than_nothing_than_in_order() {
        let rank = |result| {
            Shown {
                result,
                ..Shown::NOTHING
            }
            .rank()
        };
        assert!(rank(0) > rank(-2) && rank(-2) > rank(-1) && rank(-1) > rank(1));
        let empty = Shown {
            current: 0,
            ..Shown::NOTHING
        };
        assert!(rank(1) > empty.rank());
    }
}
