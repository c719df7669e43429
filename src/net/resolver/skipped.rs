//! Lines of `/etc/resolv.conf` and `/etc/hosts` that are skipped because they are malformed.

use std::path::Path;
use tracing::warn;

/// A malformed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SkippedLine {
    /// Its number, from 1.
    pub(crate) number: usize,
    pub(crate) reason: &'static str,
}

/// Logs the malformed lines of one file, in one warning however many there are.
pub(crate) fn log_skipped(file: &Path, lines: &[SkippedLine]) {
    let Some(first) = lines.first() else {
        return;
    };
    let shown = lines.iter().take(MAX_SHOWN);
    let numbers: Vec<_> = shown.map(|line| line.number.to_string()).collect();
    warn!(
        file = %file.display(),
        lines = numbers.join(", "),
        count = lines.len(),
        reason = first.reason,
        "malformed lines of a resolver file are skipped; `reason` is that of the first"
    );
}

/// Maximum number of line numbers in the warning.
const MAX_SHOWN: usize = 8;
