//! Checks the places to which `lockgate run` writes.

use crate::{
    cli::{
        cert,
        doctor::finding::{Finding, FindingStatus},
    },
    config::{Access, AdminAddress, Config},
    fs,
    tls::acme::ca_check::check_store,
};
use std::{io, path::Path};

/// Checks the places to which `run` writes: the certificate store, the access log, the admin socket, and the
/// development CA. May block.
pub(crate) fn written_files(config: &Config, data: Option<&Path>) -> Vec<Finding> {
    let finding = |what: String, checked: io::Result<()>, remedy: &str| match checked {
        Ok(()) => Finding::new(FindingStatus::Ok, what, "can be written"),
        Err(error) => {
            let user = rustix::process::geteuid();
            let seen = format!(
                "the user {} cannot write there ({error}): {remedy}",
                user.as_raw()
            );
            Finding::new(FindingStatus::Fail, what, seen)
        }
    };
    let parent = |file: &Path| fs::check_writable(file.parent().unwrap_or(Path::new("")));
    let mut findings = Vec::new();
    if let Some(acme) = &config.acme {
        let folder = acme.storage.display();
        let remedy = format!(
            "certificates would be lost at a restart; create it for the user that runs lockgate, as with \
             `install -d -m 700 -o lockgate {folder}`, or name another directory in acme.storage"
        );
        let what = format!("acme.storage {folder}");
        findings.push(finding(what, check_store(acme), &remedy));
    }
    if let Access::File(file) = &config.server.access {
        let what = format!("server.access {}", file.display());
        let remedy =
            "create its directory for the user that runs lockgate, or write access = \"stdout\"";
        findings.push(finding(what, parent(file), remedy));
    }
    if let AdminAddress::Unix(file) = &config.server.admin.value {
        let what = format!("server.admin {}", file.display());
        let remedy = "create its directory for the user that runs lockgate, or write admin = \"127.0.0.1:9180\"";
        findings.push(finding(what, parent(file), remedy));
    }
    if config.tls.dev_ca {
        findings.push(match cert::peek(data) {
            Ok(ca) => {
                let what = format!("development CA {}", ca.certificate_path().display());
                let folder = ca.certificate_path().parent().unwrap_or(Path::new(""));
                let remedy = "set LOCKGATE_DATA, or --data, to a directory of this user";
                if folder.exists() {
                    Finding::new(FindingStatus::Ok, what, "can be read")
                } else {
                    finding(what, fs::check_writable(folder), remedy)
                }
            }
            Err(error) => Finding::new(FindingStatus::Fail, "development CA", format!("{error:#}")),
        });
    }
    findings
}
