//! Certificates that are replaced while they are served. What was good stays until something as good is there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tracing::{error, info, warn};

use super::Certificates;
use super::table::{CertSource, LoadedCert};
use crate::config::Diagnostic;
use crate::tls::acme::date;
use crate::tls::files;

/// What came of reading a pair again, if it is news.
#[derive(Debug, PartialEq, Eq)]
pub enum CertReload {
    /// Another certificate is served from the next handshake on.
    Replaced {
        /// Where it is from.
        file: PathBuf,
        /// What it is for.
        names: Vec<Box<str>>,
        /// What the last one was for, and nothing here is any more.
        lost: Vec<Box<str>>,
        /// Its last moment, in seconds since 1970.
        not_after: Option<i64>,
    },
    /// The files are of no use now; the certificate that was read before is still served.
    Failed {
        /// The certificate's file.
        file: PathBuf,
        /// What is wrong with it, or with its key.
        problems: Vec<Diagnostic>,
        /// The last moment of what is served.
        not_after: Option<i64>,
    },
    /// The files have again what is served all the time.
    Recovered {
        /// The certificate's file.
        file: PathBuf,
    },
    /// No certificate has the name of `tls.default` any more; the one that had it is still served.
    DefaultLost {
        /// That name.
        name: Box<str>,
    },
}

// === impl Certificates ===

impl Certificates {
    /// Reads those pairs of `tls.certificates` again of which a file is among `changed`, and serves those that are good. What
    /// was told once is not told again until it changes.
    pub fn reread(&self, changed: &BTreeSet<PathBuf>) -> Vec<CertReload> {
        let _alone = self
            .reload_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load_full();
        let mut news = Vec::new();
        let mut held = before.certs.clone();
        let mut replaced = Vec::new();
        for (index, held) in held.iter_mut().enumerate() {
            let told = reread(held, changed);
            if let Some(CertReload::Replaced { .. }) = told {
                replaced.push(index);
            }
            news.extend(told);
        }
        if news.is_empty() {
            return news;
        }
        let mut table = before.with(held);
        if let Some(name) = &self.default
            && !table.serve_by_default(name)
        {
            table.unknown = before.unknown.clone();
            if before.find(name).is_some() {
                news.push(CertReload::DefaultLost { name: name.clone() });
            }
        }
        for told in &mut news {
            if let CertReload::Replaced { lost, .. } = told {
                lost.retain(|name| table.find(name).is_none() && !self.issued.contains(name));
            }
        }
        for index in replaced {
            table.warn_shadowed_names(&table.certs[index]);
        }
        self.table.store(Arc::new(table));
        news
    }
}

/// What is new with one pair; `held` is what is to be served then.
fn reread(held: &mut LoadedCert, changed: &BTreeSet<PathBuf>) -> Option<CertReload> {
    let CertSource::File(entry) = &held.origin else {
        return None;
    };
    if !changed.contains(&entry.cert) && !changed.contains(&entry.key) {
        return None;
    }
    let file = entry.cert.clone();
    let mut problems = Vec::new();
    let Some(loaded) = files::read(entry, &mut problems) else {
        if held.problems == problems {
            return None;
        }
        held.problems = problems.clone();
        return Some(CertReload::Failed {
            file,
            problems,
            not_after: held.not_after(),
        });
    };
    let was_broken = !std::mem::take(&mut held.problems).is_empty();
    if loaded.key.cert == held.key.cert {
        return was_broken.then_some(CertReload::Recovered { file });
    }
    files::warn_about_cert(entry, &loaded);
    held.key = loaded.key;
    let lost = std::mem::replace(&mut held.names, loaded.names);
    Some(CertReload::Replaced {
        file,
        names: held.names.clone(),
        lost,
        not_after: held.not_after(),
    })
}

// === impl CertReload ===

impl CertReload {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            CertReload::Replaced {
                file,
                names,
                lost,
                not_after,
            } => {
                let (file, names, not_after) = (file.display(), names.join(", "), until(not_after));
                info!(%file, %names, %not_after, "a new certificate is served");
                if !lost.is_empty() {
                    let lost = lost.join(", ");
                    warn!(%file, %lost, "the certificate before it had names that none has now");
                }
            }
            CertReload::Failed {
                file,
                problems,
                not_after,
            } => {
                let (file, served_until) = (file.display(), until(not_after));
                for problem in problems {
                    let reason = &problem.message;
                    let hint = problem.hint.as_deref().unwrap_or_default();
                    error!(%file, %reason, %hint, %served_until, "this certificate cannot be replaced; the last good one is still served");
                }
            }
            CertReload::Recovered { file } => {
                info!(file = %file.display(), "the files of this certificate are in order again");
            }
            CertReload::DefaultLost { name } => error!(
                %name,
                "no certificate has the name of tls.default any more; the last one that had it is still served"
            ),
        }
    }
}

fn until(not_after: &Option<i64>) -> String {
    not_after.map_or_else(|| "unknown".to_owned(), date)
}

#[cfg(test)]
mod tests;
