//! Reads certificates from files again while they are served. A usable certificate stays until a usable replacement
//! exists.

use crate::{
    config::Diagnostic,
    tls::{
        cert_files,
        certs::table::{CertSource, CertTable, LoadedCert},
        x509::date,
    },
};
use std::{collections::BTreeSet, path::PathBuf};
use tokio::task::JoinError;
use tracing::{error, info, warn};

/// A change found by the reload of a pair.
#[derive(Debug, PartialEq, Eq)]
pub enum CertReload {
    /// Another certificate is served from the next TLS handshake on.
    Replaced {
        /// The certificate's file.
        file: PathBuf,
        /// The names of the certificate.
        names: Vec<Box<str>>,
        /// The names of the previous certificate that no certificate covers now.
        lost: Vec<Box<str>>,
        /// The expiry, in seconds since 1970.
        not_after: Option<i64>,
    },
    /// The files are unusable; the previous certificate is still served.
    Failed {
        /// The certificate's file.
        file: PathBuf,
        /// The error in the certificate or its key.
        diagnostics: Vec<Diagnostic>,
        /// The expiry of the served certificate.
        not_after: Option<i64>,
    },
    /// The files are usable again and contain the served certificate.
    Recovered {
        /// The certificate's file.
        file: PathBuf,
    },
    /// No certificate has the name of `tls.default` now; the previous one is still served.
    DefaultLost {
        /// The name in `tls.default`.
        name: Box<str>,
    },
}

/// Reloads the pairs that have a file in `changed`. Returns each change once, and the new table if there is a change;
/// an error that was returned is not returned again until it changes. `default` is the value of `tls.default`, and
/// `acme_names` are the names with a certificate by ACME.
pub(crate) fn reload_table(
    before: &CertTable,
    changed: &BTreeSet<PathBuf>,
    default: Option<&str>,
    acme_names: &BTreeSet<Box<str>>,
) -> Option<(CertTable, Vec<CertReload>)> {
    let mut changes = Vec::new();
    let mut certs = before.certs.clone();
    let mut replaced = Vec::new();
    for (index, cert) in certs.iter_mut().enumerate() {
        let change = reload_pair(cert, changed);
        if let Some(CertReload::Replaced { .. }) = change {
            replaced.push(index);
        }
        changes.extend(change);
    }
    if changes.is_empty() {
        return None;
    }
    let mut table = before.with_certs(certs);
    if let Some(name) = default
        && !table.set_default(name)
    {
        table.default_cert = before.default_cert.clone();
        if before.find(name).is_some() {
            changes.push(CertReload::DefaultLost { name: name.into() });
        }
    }
    for change in &mut changes {
        if let CertReload::Replaced { lost, .. } = change {
            lost.retain(|name| table.find(name).is_none() && !acme_names.contains(name));
        }
    }
    for index in replaced {
        table.warn_shadowed_names(&table.certs[index]);
    }
    Some((table, changes))
}

/// Reloads one pair into `cert`, and returns the change. An unusable pair leaves the certificate as it was.
fn reload_pair(cert: &mut LoadedCert, changed: &BTreeSet<PathBuf>) -> Option<CertReload> {
    let CertSource::File(entry) = &cert.source else {
        return None;
    };
    if !changed.contains(&entry.cert.value) && !changed.contains(&entry.key.value) {
        return None;
    }
    let file = entry.cert.value.clone();
    let mut diagnostics = Vec::new();
    let Some(loaded) = cert_files::read(entry, &mut diagnostics) else {
        if cert.diagnostics == diagnostics {
            return None;
        }
        cert.diagnostics = diagnostics.clone();
        return Some(CertReload::Failed {
            file,
            diagnostics,
            not_after: cert.not_after(),
        });
    };
    let was_broken = !std::mem::take(&mut cert.diagnostics).is_empty();
    if loaded.key.cert == cert.key.cert {
        return was_broken.then_some(CertReload::Recovered { file });
    }
    cert_files::warn_about_cert(entry, &loaded);
    cert.key = loaded.key;
    let lost = std::mem::replace(&mut cert.names, loaded.names);
    Some(CertReload::Replaced {
        file,
        names: cert.names.clone(),
        lost,
        not_after: cert.not_after(),
    })
}

/// Logs the changes that a reload on a blocking thread found, or the panic that ended it: the previous certificates are
/// still served then.
pub(crate) fn log_reload(result: Result<Vec<CertReload>, JoinError>) {
    match result {
        Ok(changes) => changes.iter().for_each(CertReload::log),
        Err(error) if error.is_panic() => {
            error!(%error, "the certificate files cannot be reloaded; the previous certificates are still served");
        }
        // The runtime shuts down.
        Err(_) => {}
    }
}

// === impl CertReload ===

impl CertReload {
    /// Returns the result as a line for an operator who has requested a reload; `None` if nothing is wrong or new.
    pub fn summary(&self) -> Option<String> {
        match self {
            CertReload::Replaced { file, .. } => Some(format!(
                "certificate {}: a new one is served",
                file.display()
            )),
            CertReload::DefaultLost { name } => Some(format!(
                "no certificate has the name {name:?} of tls.default now; the previous one is still served"
            )),
            // The failure of a pair is reported as long as it lasts, and not only when it is found.
            CertReload::Failed { .. } | CertReload::Recovered { .. } => None,
        }
    }

    /// Logs the result of the reload.
    pub fn log(&self) {
        match self {
            CertReload::Replaced {
                file,
                names,
                lost,
                not_after,
            } => {
                let (file, names, not_after) =
                    (file.display(), names.join(", "), format_expiry(not_after));
                info!(%file, %names, %not_after, "a new certificate is served");
                if !lost.is_empty() {
                    let lost = lost.join(", ");
                    warn!(%file, %lost, "the previous certificate had names that no certificate has now");
                }
            }
            CertReload::Failed {
                file,
                diagnostics,
                not_after,
            } => {
                let (file, served_until) = (file.display(), format_expiry(not_after));
                for diagnostic in diagnostics {
                    let reason = &diagnostic.message;
                    let hint = diagnostic.hint.as_deref().unwrap_or_default();
                    error!(%file, %reason, %hint, %served_until, "the new certificate cannot be used; the previous one is still served");
                }
            }
            CertReload::Recovered { file } => {
                info!(file = %file.display(), "the files of this certificate are usable again");
            }
            CertReload::DefaultLost { name } => error!(
                %name,
                "no certificate has the name of tls.default now; the previous one is still served"
            ),
        }
    }
}

fn format_expiry(not_after: &Option<i64>) -> String {
    not_after.map_or_else(|| "unknown".to_owned(), date)
}

#[cfg(test)]
mod tests;
