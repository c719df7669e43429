//! Issues certificates of the development CA for hosts that have none from files or by ACME.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::table::{CertSource, CertTable, LoadedCert, address};
use crate::config::{Diagnostic, HostPattern, Located};
use crate::observe::ErrorChain;
use crate::tls::DevCa;

/// Issues certificates for all hosts without one.
pub(super) fn issue_dev_certs(
    table: &mut CertTable,
    ca: &DevCa,
    hosts: &[Located<HostPattern>],
    acme_names: &BTreeSet<Box<str>>,
    problems: &mut Vec<Diagnostic>,
) {
    // A client that connects to an address sends no name, so one certificate must cover all addresses.
    let mut local: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    for host in hosts {
        let name = match &host.value {
            HostPattern::Any => continue,
            HostPattern::Under(parent) => format!("*.{parent}"),
            HostPattern::Exact(name) => match address(name) {
                Some(address) => {
                    let address = address.to_string();
                    if !local.contains(&address) {
                        local.push(address);
                    }
                    continue;
                }
                None => name.to_string(),
            },
        };
        // Localhost is in the certificate for addresses.
        if local.contains(&name) {
            continue;
        }
        if table.find(&name).is_none() && !acme_names.contains(name.as_str()) {
            issue(table, ca, vec![name], problems);
        }
    }
    table.local_cert = issue(table, ca, local, problems);
}

fn issue(
    table: &mut CertTable,
    ca: &DevCa,
    names: Vec<String>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Arc<CertifiedKey>> {
    match ca.issue(&names) {
        Ok(key) => {
            let key = Arc::new(key);
            let names = names.into_iter().map(Into::into).collect();
            let source = CertSource::Dev(ca.certificate_path().to_owned());
            table.insert(LoadedCert::new(source, names, key.clone()));
            Some(key)
        }
        Err(error) => {
            problems.push(Diagnostic {
                at: None,
                message: format!(
                    "the development CA cannot issue a certificate for {}",
                    names.join(", ")
                ),
                hint: Some(ErrorChain(&error).to_string()),
            });
            None
        }
    }
}
