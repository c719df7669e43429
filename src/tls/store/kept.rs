//! A store that forgets nothing while the process lives: what cannot be written stays in memory until it can.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::{Lock, Store};

#[derive(Debug)]
pub(in crate::tls) struct Kept {
    store: Box<dyn Store>,
    /// What the store did not take, by name, and why it did not.
    unsaved: Mutex<Unsaved>,
}

#[derive(Debug, Default)]
struct Unsaved {
    files: BTreeMap<Box<str>, Vec<u8>>,
    why: Option<String>,
}

// === impl Kept ===

impl Kept {
    pub(in crate::tls) fn new(store: Box<dyn Store>) -> Self {
        Kept {
            store,
            unsaved: Mutex::default(),
        }
    }

    pub(in crate::tls) fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.unsaved().files.get(name) {
            Some(content) => Ok(Some(content.clone())),
            None => self.store.load(name),
        }
    }

    /// Never fails: a certificate that cannot be written is served all the same.
    pub(in crate::tls) fn save(&self, name: &str, content: &[u8]) {
        let mut unsaved = self.unsaved();
        match self.store.save(name, content) {
            Ok(()) => {
                unsaved.files.remove(name);
            }
            Err(error) => {
                let place = self.store.place();
                error!(%name, %error, "cannot write into {place}: kept in memory only, and lost if lockgate ends; tried again soon");
                unsaved.files.insert(name.into(), content.into());
                unsaved.why = Some(format!("cannot write into {place}: {error}"));
            }
        }
    }

    /// Tries again to write what is in memory only.
    pub(in crate::tls) fn flush(&self) {
        let mut unsaved = self.unsaved();
        let before = unsaved.files.len();
        unsaved
            .files
            .retain(|name, content| self.store.save(name, content).is_err());
        if unsaved.files.is_empty() {
            unsaved.why = None;
            if before > 0 {
                info!(files = before, "{} takes files again", self.store.place());
            }
        }
    }

    /// What is wrong with the store, if anything is.
    pub(in crate::tls) fn trouble(&self) -> Option<String> {
        self.unsaved().why.clone()
    }

    /// Moves away what cannot be used, and reports it. It is not found again either way.
    pub(in crate::tls) fn set_aside(&self, name: &str, why: &str) {
        self.unsaved().files.remove(name);
        match self.store.set_aside(name) {
            Ok(to) => error!(%name, %why, "cannot be used, and was moved to {to}"),
            Err(error) => error!(%name, %why, %error, "cannot be used, nor be moved away"),
        }
    }

    pub(in crate::tls) fn lock(&self) -> io::Result<Option<Lock>> {
        self.store.lock()
    }

    pub(in crate::tls) fn place(&self) -> String {
        self.store.place()
    }

    fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::store::Folder;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn what_cannot_be_written_is_kept_until_it_can() {
        let above = TempDir::new().unwrap();
        // A file where the folder should be: root may write anywhere, but not there.
        let path = above.path().join("acme");
        fs::write(&path, "").unwrap();
        let kept = Kept::new(Box::new(Folder::at(path.clone())));
        kept.save("a.test.pem", b"whole");
        assert_eq!(kept.load("a.test.pem").unwrap().unwrap(), b"whole");
        assert!(kept.trouble().unwrap().contains("cannot write into"));
        kept.flush();
        assert!(kept.trouble().is_some());

        fs::remove_file(&path).unwrap();
        kept.flush();
        assert_eq!(kept.trouble(), None);
        assert_eq!(fs::read(path.join("a.test.pem")).unwrap(), b"whole");
    }
}
