//! The results, as one line of JSON.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// The results of one client, or of all together.
#[derive(Default)]
pub(crate) struct Report {
    /// The duration of each operation, in nanoseconds.
    took: Vec<u64>,
    failures: BTreeMap<String, u64>,
    /// The delay between the intended and the real send time at a fixed rate, in nanoseconds.
    late: Vec<u64>,
}

impl Report {
    pub(crate) fn done(&mut self, took: Duration) {
        self.took.push(took.as_nanos() as u64);
    }

    pub(crate) fn late(&mut self, by: Duration) {
        self.late.push(by.as_nanos() as u64);
    }

    pub(crate) fn failed(&mut self, why: impl ToString) {
        *self.failures.entry(why.to_string()).or_default() += 1;
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.took.append(&mut other.took);
        self.late.append(&mut other.late);
        self.add_failures(other);
    }

    /// Adds only the failures, such as those of the warm-up.
    pub(crate) fn add_failures(&mut self, other: Self) {
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
    }

    /// Renders the report; `seconds` is the measured duration.
    pub(crate) fn json(mut self, seconds: Duration) -> String {
        let failures: u64 = self.failures.values().sum();
        let mut text = format!(
            "{{\"operations\": {}, \"failures\": {failures}, \"seconds\": {:.3}",
            self.took.len(),
            seconds.as_secs_f64()
        );
        // The first of several reasons suffices.
        if let Some((why, _)) = self.failures.first_key_value() {
            let _ = write!(text, ", \"why\": {:?}", why.replace(['\r', '\n'], " "));
        }
        percentiles(&mut text, "latency_us", &mut self.took);
        percentiles(&mut text, "late_us", &mut self.late);
        text + "}"
    }
}

fn percentiles(text: &mut String, name: &str, nanoseconds: &mut [u64]) {
    nanoseconds.sort_unstable();
    let Some(last) = nanoseconds.len().checked_sub(1) else {
        return;
    };
    let _ = write!(text, ", \"{name}\": {{");
    for (label, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let at = (last as f64 * part).round() as usize;
        let _ = write!(text, "\"{label}\": {:.1}, ", nanoseconds[at] as f64 / 1e3);
    }
    let _ = write!(text, "\"max\": {:.1}}}", nanoseconds[last] as f64 / 1e3);
}
