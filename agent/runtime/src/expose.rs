//! What `/metrics` shows: the runtime's registry and that of each plugin, as one.

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{Encoder as _, Registry, TextEncoder};

/// All registries: the runtime's and the newest of each plugin.
#[derive(Clone)]
pub(crate) struct Registries {
    own: Registry,
    plugins: Arc<Mutex<BTreeMap<&'static str, Registry>>>,
}

impl Registries {
    pub(crate) fn new(own: Registry) -> Self {
        Self {
            own,
            plugins: Arc::default(),
        }
    }

    /// Shows a plugin's registry in place of the one it had.
    pub(crate) fn set(&self, plugin: &'static str, registry: Registry) {
        self.plugins.lock().insert(plugin, registry);
    }

    pub(crate) fn remove(&self, plugin: &'static str) {
        self.plugins.lock().remove(plugin);
    }

    /// Everything, ordered by name.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        let plugins: Vec<Registry> = self.plugins.lock().values().cloned().collect();
        merge(std::iter::once(&self.own).chain(&plugins).map(Registry::gather))
    }

    /// The same in Prometheus' text format 0.0.4.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.gather(), &mut out)?;
        Ok(out)
    }
}

/// Families of one name become one: two instances of a plugin have the same with different labels. Where name and
/// labels are the same, or the types differ, the first stays: a reader takes nothing of a page that has them twice.
fn merge(registries: impl Iterator<Item = Vec<MetricFamily>>) -> Vec<MetricFamily> {
    let mut all: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for family in registries.flatten() {
        match all.entry(family.name().to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(family);
            }
            Entry::Occupied(mut entry) => add(entry.get_mut(), family),
        }
    }
    all.into_values().collect()
}

fn add(to: &mut MetricFamily, mut family: MetricFamily) {
    if to.get_field_type() != family.get_field_type() {
        tracing::debug!(
            name = family.name(),
            "two plugins have metrics of one name and different types"
        );
        return;
    }
    let mut metrics = to.take_metric();
    for metric in family.take_metric() {
        if metrics.iter().all(|known| labels(known) != labels(&metric)) {
            metrics.push(metric);
        }
    }
    metrics.sort_by(|a, b| labels(a).cmp(&labels(b)));
    to.set_metric(metrics);
}

fn labels(metric: &Metric) -> Vec<(&str, &str)> {
    let labels = metric.get_label().iter();
    labels.map(|label| (label.name(), label.value())).collect()
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounter, IntGaugeVec, Opts};

    use super::*;

    fn with(registry: &Registry, name: &str, label: &str, value: &str, now: i64) {
        let vec = IntGaugeVec::new(Opts::new(name, "help"), &[label]).unwrap();
        vec.with_label_values(&[value]).set(now);
        registry.register(Box::new(vec)).unwrap();
    }

    fn text(registries: &Registries) -> String {
        String::from_utf8(registries.text().unwrap()).unwrap()
    }

    #[test]
    fn families_of_one_name_are_one_and_the_order_is_fixed() {
        let registries = Registries::new(Registry::new());
        let (siem, archive) = (Registry::new(), Registry::new());
        with(&siem, "z_gauge", "sink", "webhook.siem", 1);
        with(&siem, "a_gauge", "sink", "webhook.siem", 2);
        with(&archive, "z_gauge", "sink", "webhook.archive", 3);
        registries.set("webhook.siem", siem);
        registries.set("webhook.archive", archive);
        assert_eq!(
            text(&registries),
            "# HELP a_gauge help\n# TYPE a_gauge gauge\na_gauge{sink=\"webhook.siem\"} 2\n\
             # HELP z_gauge help\n# TYPE z_gauge gauge\nz_gauge{sink=\"webhook.archive\"} 3\n\
             z_gauge{sink=\"webhook.siem\"} 1\n"
        );
        registries.remove("webhook.siem");
        assert!(!text(&registries).contains("siem"));
    }

    #[test]
    fn what_stands_twice_is_shown_once() {
        let own = Registry::new();
        let registries = Registries::new(own.clone());
        with(&own, "gauge", "sink", "a", 1);
        let (twice, other) = (Registry::new(), Registry::new());
        with(&twice, "gauge", "sink", "a", 2);
        let counter = IntCounter::new("gauge", "of another type").unwrap();
        other.register(Box::new(counter)).unwrap();
        registries.set("twice", twice);
        registries.set("other", other);
        assert_eq!(
            text(&registries),
            "# HELP gauge help\n# TYPE gauge gauge\ngauge{sink=\"a\"} 1\n"
        );
    }

    #[test]
    fn a_plugin_that_is_built_again_shows_the_new_registry() {
        let registries = Registries::new(Registry::new());
        for now in [1, 2] {
            let registry = Registry::new();
            with(&registry, "gauge", "sink", "a", now);
            registries.set("a", registry);
        }
        assert!(text(&registries).ends_with("gauge{sink=\"a\"} 2\n"));
    }
}
