//! Process metrics from `/proc/self`, read at each scrape, under the names common to Prometheus client libraries.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Unit,
};
use rustix::process::{Resource, getrlimit};
use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// A collector of the process metrics.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    /// In Unix time.
    started: f64,
}

// === impl ProcessCollector ===

impl ProcessCollector {
    /// Creates the collector; the current time counts as the start of the process.
    pub(super) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        ProcessCollector {
            started: since_epoch.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let started = ConstGauge::new(self.started);
        let descriptor = encoder.encode_descriptor(
            "process_start_time",
            "Start time of the process, in Unix time.",
            Some(&Unit::Seconds),
            started.metric_type(),
        )?;
        started.encode(descriptor)?;
        let numbers = [
            (
                "process_resident_memory",
                "Resident memory.",
                Some(&Unit::Bytes),
                resident_bytes(),
            ),
            (
                "process_open_fds",
                "Open file descriptors.",
                None,
                open_descriptors(),
            ),
            (
                "process_max_fds",
                "Limit on open file descriptors.",
                None,
                getrlimit(Resource::Nofile).current,
            ),
        ];
        for (name, help, unit, value) in numbers {
            // A value that the system does not provide is omitted.
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let descriptor = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the size of the directory is the number of descriptors. Listing ten thousand takes milliseconds.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // Minus the descriptor that the listing itself uses.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}
