//! Metrics of the process itself, under the names that Prometheus's own libraries give them.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// Reads `/proc/self` whenever metrics are asked for.
pub(crate) struct ProcessMetrics {
    memory: Gauge,
    memory_peak: Gauge,
    files: Gauge,
    files_max: Gauge,
}

impl ProcessMetrics {
    /// The metrics, not yet registered.
    ///
    /// # Errors
    /// Never: the names are valid.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        Ok(Self {
            memory: gauge("process_resident_memory_bytes", "Resident memory.")?,
            memory_peak: gauge(
                "process_resident_memory_peak_bytes",
                "Most resident memory so far.",
            )?,
            files: gauge("process_open_fds", "Open file descriptors.")?,
            files_max: gauge("process_max_fds", "The most that may be open.")?,
        })
    }

    fn gauges(&self) -> [&Gauge; 4] {
        [
            &self.memory,
            &self.memory_peak,
            &self.files,
            &self.files_max,
        ]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let kib = |name: &str| number_after(&status, name).unwrap_or(0.0) * 1024.0;
        self.memory.set(kib("VmRSS:"));
        self.memory_peak.set(kib("VmHWM:"));
        self.files
            .set(std::fs::read_dir("/proc/self/fd").map_or(0.0, |fds| fds.count() as f64));
        self.files_max
            .set(number_after(&limits, "Max open files").unwrap_or(0.0));
        self.gauges()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_open_files() {
        let families = ProcessMetrics::new().unwrap().collect();
        let value = |name: &str| {
            let family = families
                .iter()
                .find(|family| family.name() == name)
                .unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(
            value("process_resident_memory_peak_bytes") >= value("process_resident_memory_bytes")
        );
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > 3.0);
    }
}
