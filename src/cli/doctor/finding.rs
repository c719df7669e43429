//! The result of one check of `lockgate doctor`, and how the results are printed.

use crate::cli::output::print;
use serde::Serialize;

/// The result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) state: FindingStatus,
    /// The subject of the check.
    pub(crate) what: String,
    /// The observation and, if there is a problem, the remedy.
    pub(crate) seen: String,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingStatus {
    Ok,
    /// A problem that may prevent operation.
    Warn,
    /// A problem that prevents operation.
    Fail,
}

// === impl Finding ===

impl Finding {
    pub(crate) fn new(
        state: FindingStatus,
        what: impl Into<String>,
        seen: impl Into<String>,
    ) -> Finding {
        Finding {
            state,
            what: what.into(),
            seen: seen.into(),
        }
    }
}

/// Prints one line for each finding, or all as JSON.
pub(crate) fn print_findings(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    if json {
        print(serde_json::to_string_pretty(findings)?);
        return Ok(());
    }
    for Finding { state, what, seen } in findings {
        let state = match state {
            FindingStatus::Ok => "ok  ",
            FindingStatus::Warn => "warn",
            FindingStatus::Fail => "FAIL",
        };
        print(format_args!("{state}  {what}: {seen}"));
    }
    Ok(())
}
