//! What Prometheus shows of every process.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

/// `process_*` from `/proc/self`; the library's own feature would bring a second copy of the system bindings.
pub struct ProcessCollector {
    desc: Desc,
    start: f64,
}

/// Help texts are those that other libraries have, too.
const CPU: &str = "Total user and system CPU time spent in seconds.";

impl ProcessCollector {
    /// # Errors
    /// None that a caller could cause: the names are constants.
    pub fn new() -> Result<Self, prometheus::Error> {
        let desc = Desc::new(
            "process_cpu_seconds_total".to_owned(),
            CPU.to_owned(),
            Vec::new(),
            std::collections::HashMap::new(),
        )?;
        Ok(Self {
            desc,
            start: crate::time::now() as f64 / 1e9,
        })
    }

    fn gather(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields behind the command's closing bracket; proc(5) counts from 1, these start at 3.
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().map(|f| f.parse().unwrap_or(0)).collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0) as f64;
        let tick = rustix::param::clock_ticks_per_second() as f64;
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(0);
        let mut families = Vec::new();
        let mut gauge = |name: &str, help: &str, value: f64| -> Result<(), prometheus::Error> {
            let gauge = prometheus::Gauge::new(name, help)?;
            gauge.set(value);
            families.extend(gauge.collect());
            Ok(())
        };
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            field(24) * rustix::param::page_size() as f64,
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            field(23),
        )?;
        gauge("process_open_fds", "Number of open file descriptors.", open as f64)?;
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            limit as f64,
        )?;
        gauge("process_threads", "Threads.", field(20))?;
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            self.start,
        )?;
        let cpu = prometheus::Counter::new("process_cpu_seconds_total", CPU)?;
        cpu.inc_by((field(14) + field(15)) / tick);
        families.extend(cpu.collect());
        Ok(families)
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gather().unwrap_or_default()
    }
}
