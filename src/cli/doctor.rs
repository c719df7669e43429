//! `lockgate doctor`: finds problems of this machine and of a configuration.

mod machine;
mod network;

use super::{EX_USAGE, args::DoctorArgs, cert, print};
use crate::{
    config::{Config, Located},
    gateway::Gateway,
};
use anyhow::Context;
use serde::Serialize;
use std::process::ExitCode;
use tokio::runtime;

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    state: FindingStatus,
    /// The subject of the check.
    what: String,
    /// The observation and, if there is a problem, the remedy.
    seen: String,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum FindingStatus {
    Ok,
    /// A possible problem.
    Warn,
    /// A problem that prevents operation.
    Fail,
}

impl Finding {
    fn new(state: FindingStatus, what: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding {
            state,
            what: what.into(),
            seen: seen.into(),
        }
    }
}

/// Runs every check: returns 0 if no check fails, 1 if one fails, 64 if the configuration is invalid.
pub(super) fn doctor(arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut findings = machine::check_machine();
    if let Some(file) = &arguments.config {
        let checked = Config::load(file).and_then(|config| {
            let dev = match config.tls.dev_ca {
                true => cert::peek(arguments.data.data.as_deref()).ok(),
                false => None,
            };
            Gateway::build(&config, None, &cert::issuers(dev.as_ref())).map(|_| config)
        });
        let mut config = match checked {
            Ok(config) => config,
            Err(diagnostics) => {
                print_findings(&findings, arguments.json)?;
                eprintln!("{diagnostics}");
                return Ok(ExitCode::from(EX_USAGE));
            }
        };
        if let Some(admin) = &arguments.admin {
            config.server.admin = Located::nowhere(admin.clone());
        }
        let shown = file.display().to_string();
        findings.push(Finding::new(
            FindingStatus::Ok,
            shown,
            "is a valid configuration",
        ));
        findings.extend(machine::certificates(&config));
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        findings.extend(runtime.block_on(network::check_network(&config)));
    }
    print_findings(&findings, arguments.json)?;
    let failed = findings
        .iter()
        .any(|finding| finding.state == FindingStatus::Fail);
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn print_findings(findings: &[Finding], json: bool) -> anyhow::Result<()> {
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
