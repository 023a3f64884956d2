//! `/metrics` as OpenMetrics 1.0.0, and who wants it so.
//!
//! Source of the format and of the media type: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use prometheus::proto::{Metric, MetricFamily, MetricType};

/// What an answer in this format says of itself.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The families in this format. A counter's family is named without `_total`, which its samples keep.
pub(crate) fn encode(families: &[MetricFamily]) -> String {
    let mut out = String::with_capacity(16 << 10);
    for family in families {
        let kind = family.get_field_type();
        let (name, word) = match kind {
            MetricType::COUNTER => (family.name().strip_suffix("_total").unwrap_or(family.name()), "counter"),
            MetricType::GAUGE => (family.name(), "gauge"),
            MetricType::HISTOGRAM => (family.name(), "histogram"),
            // The library makes none.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "# TYPE {name} {word}");
        if !family.help().is_empty() {
            let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
        }
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => sample(&mut out, name, "_total", metric, None, metric.get_counter().get_value()),
                MetricType::HISTOGRAM => histogram(&mut out, name, metric),
                _ => sample(&mut out, name, "", metric, None, metric.get_gauge().get_value()),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let all = histogram.get_sample_count() as f64;
    for bucket in histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound().is_finite())
    {
        let bound = canonical(bucket.upper_bound());
        sample(
            out,
            name,
            "_bucket",
            metric,
            Some(&bound),
            bucket.cumulative_count() as f64,
        );
    }
    sample(out, name, "_bucket", metric, Some("+Inf"), all);
    sample(out, name, "_count", metric, None, all);
    sample(out, name, "_sum", metric, None, histogram.get_sample_sum());
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, bound: Option<&str>, value: f64) {
    let _ = write!(out, "{name}{suffix}");
    let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
    let mut separator = '{';
    for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        let _ = write!(out, "{separator}{label}=\"{}\"", escaped(value));
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = if value.is_finite() || value.is_nan() {
        writeln!(out, " {value}")
    } else {
        writeln!(out, " {}Inf", if value > 0.0 { '+' } else { '-' })
    };
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// A bucket's bound as all exposers write it, so that the same bound is the same series: as C's `%g` does, and never
/// without a point or an exponent.
fn canonical(bound: f64) -> String {
    let size = bound.abs();
    if bound != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{bound:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        format!("{digits}e{sign}{exponent:0>2}")
    } else {
        format!("{bound:?}")
    }
}

/// Whether a client prefers this format: it names it, and nothing that it likes better is Prometheus' own text.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let (mut openmetrics, mut text) = (0.0_f64, Preference::default());
    for range in ranges.flat_map(|value| value.split(',')).filter_map(Range::parse) {
        match range.media.as_str() {
            "application/openmetrics-text" if range.is_version("1.0.0") => openmetrics = openmetrics.max(range.quality),
            "text/plain" if range.is_version("0.0.4") => text.add(2, range.quality),
            "text/*" => text.add(1, range.quality),
            "*/*" => text.add(0, range.quality),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= text.quality
}

/// What the range that fits best says; of several the most.
#[derive(Default)]
struct Preference {
    fit: u8,
    quality: f64,
}

impl Preference {
    fn add(&mut self, fit: u8, quality: f64) {
        if fit > self.fit {
            *self = Self { fit, quality };
        } else if fit == self.fit {
            self.quality = self.quality.max(quality);
        }
    }
}

/// One media range of an `Accept` header.
struct Range {
    media: String,
    version: Option<String>,
    /// 0 to 1.
    quality: f64,
}

impl Range {
    /// `None` if its weight is none.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media: parts.next()?.to_ascii_lowercase(),
            version: None,
            quality: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
                "version" => range.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(range)
    }

    /// Who names no version takes any.
    fn is_version(&self, version: &str) -> bool {
        self.version.as_ref().is_none_or(|wanted| wanted == version)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    fn encoded(collector: Box<dyn prometheus::core::Collector>) -> String {
        let registry = Registry::new();
        registry.register(collector).unwrap();
        encode(&registry.gather())
    }

    #[test]
    fn a_counters_family_has_no_total_and_its_samples_have() {
        let opts = Opts::new("a_events_total", "Says \"hi\" \\ and\nmore.");
        let counters = IntCounterVec::new(opts, &["key", "result"]).unwrap();
        counters.with_label_values(&["k\"\\\n", "ok"]).inc_by(3);
        assert_eq!(
            encoded(Box::new(counters)),
            "# TYPE a_events counter\n# HELP a_events Says \\\"hi\\\" \\\\ and\\nmore.\n\
             a_events_total{key=\"k\\\"\\\\\\n\",result=\"ok\"} 3\n# EOF\n"
        );
        // The sample has it, whatever the name says.
        let counter = IntCounter::new("a_events", "Help.").unwrap();
        let text = encoded(Box::new(counter));
        assert_eq!(
            text,
            "# TYPE a_events counter\n# HELP a_events Help.\na_events_total 0\n# EOF\n"
        );
    }

    #[test]
    fn a_gauge_stays_what_it_is() {
        let gauge = IntGauge::new("a_gauge", "Help.").unwrap();
        gauge.set(-7);
        assert_eq!(
            encoded(Box::new(gauge)),
            "# TYPE a_gauge gauge\n# HELP a_gauge Help.\na_gauge -7\n# EOF\n"
        );
        let gauge = prometheus::Gauge::new("a_gauge", "Help.").unwrap();
        for (value, text) in [
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (0.25, "0.25"),
        ] {
            gauge.set(value);
            let shown = encoded(Box::new(gauge.clone()));
            assert!(shown.contains(&format!("\na_gauge {text}\n")), "{shown}");
        }
    }

    #[test]
    fn a_histograms_bounds_are_canonical_and_the_last_is_infinite() {
        let opts = HistogramOpts::new("a_seconds", "Help.")
            .const_label("sink", "s")
            .buckets(vec![0.00005, 0.0005, 1.0, 10.0, 2_500_000.0]);
        let histogram = Histogram::with_opts(opts).unwrap();
        for value in [0.25, 0.5, 16.25, 3e6] {
            histogram.observe(value);
        }
        assert_eq!(
            encoded(Box::new(histogram)),
            "# TYPE a_seconds histogram\n# HELP a_seconds Help.\n\
             a_seconds_bucket{sink=\"s\",le=\"5e-05\"} 0\n\
             a_seconds_bucket{sink=\"s\",le=\"0.0005\"} 0\n\
             a_seconds_bucket{sink=\"s\",le=\"1.0\"} 2\n\
             a_seconds_bucket{sink=\"s\",le=\"10.0\"} 2\n\
             a_seconds_bucket{sink=\"s\",le=\"2.5e+06\"} 3\n\
             a_seconds_bucket{sink=\"s\",le=\"+Inf\"} 4\n\
             a_seconds_count{sink=\"s\"} 4\n\
             a_seconds_sum{sink=\"s\"} 3000017\n# EOF\n"
        );
    }

    #[test]
    fn who_wants_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", true),
            ("application/openmetrics-text, text/plain", true),
            ("application/openmetrics-text;q=0.3, */*;q=0.2", true),
            ("application/openmetrics-text;q=0.5, text/*;q=0.2, */*", true),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.4", false),
            ("application/openmetrics-text;q=0.3, */*", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=much", false),
            ("application/openmetrics-text;q=NaN", false),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", false),
            ("text/plain", false),
            ("application/*", false),
            ("*/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(is_wanted(&headers), wanted, "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
        let mut two = HeaderMap::new();
        for accept in ["text/plain;q=0.5", "application/openmetrics-text"] {
            two.append(header::ACCEPT, HeaderValue::from_static(accept));
        }
        assert!(is_wanted(&two));
    }
}
