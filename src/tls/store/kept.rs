//! A write-behind wrapper of a store: content that cannot be written stays in memory and is retried.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::{Lock, Store};

#[derive(Debug)]
pub(in crate::tls) struct WriteBehindStore {
    store: Box<dyn Store>,
    /// The contents that could not be written, by name.
    unsaved: Mutex<BTreeMap<Box<str>, Vec<u8>>>,
    /// The last write error. It has its own lock, so that reading it does not wait for the disk.
    last_error: Mutex<Option<String>>,
}

// === impl WriteBehindStore ===

impl WriteBehindStore {
    pub(in crate::tls) fn new(store: Box<dyn Store>) -> Self {
        WriteBehindStore {
            store,
            unsaved: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    pub(in crate::tls) fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let unsaved = self.unsaved().get(name).cloned();
        match unsaved {
            Some(content) => Ok(Some(content)),
            None => apart(|| self.store.load(name)),
        }
    }

    /// Saves the content. Never fails: a certificate that cannot be written is still served.
    pub(in crate::tls) fn save(&self, name: &str, content: &[u8]) {
        match apart(|| self.store.save(name, content)) {
            Ok(()) => {
                self.unsaved().remove(name);
            }
            Err(error) => {
                let place = self.store.location();
                error!(%name, %error, "cannot write into {place}: kept in memory only, and lost if lockgate ends; tried again soon");
                self.unsaved().insert(name.into(), content.into());
                *self.why() = Some(format!("cannot write into {place}: {error}"));
            }
        }
    }

    /// Retries the writes of content that is only in memory.
    pub(in crate::tls) fn flush(&self) {
        let waiting = self.unsaved().clone();
        for (name, content) in &waiting {
            if apart(|| self.store.save(name, content)).is_ok() {
                let mut unsaved = self.unsaved();
                // Unless newer content was saved in the meantime.
                if unsaved.get(name) == Some(content) {
                    unsaved.remove(name);
                }
            }
        }
        if self.unsaved().is_empty() {
            *self.why() = None;
            if !waiting.is_empty() {
                info!(
                    files = waiting.len(),
                    "{} is writable again",
                    self.store.location()
                );
            }
        }
    }

    /// Returns the last error of the store, if it is not resolved.
    pub(in crate::tls) fn last_error(&self) -> Option<String> {
        self.why().clone()
    }

    /// Moves an unusable file aside and logs it. The content in memory is dropped in any case.
    pub(in crate::tls) fn set_aside(&self, name: &str, why: &str) {
        self.unsaved().remove(name);
        match self.store.quarantine(name) {
            Ok(to) => error!(%name, %why, "cannot be used, and was moved to {to}"),
            Err(error) => error!(%name, %why, %error, "cannot be used and cannot be moved"),
        }
    }

    pub(in crate::tls) fn lock(&self) -> io::Result<Option<Lock>> {
        apart(|| self.store.lock())
    }

    pub(in crate::tls) fn place(&self) -> String {
        self.store.location()
    }

    fn why(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaved(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Vec<u8>>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a blocking call, so that a hanging disk does not block the other tasks of this thread.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::store::DirStore;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn unwritable_content_is_kept_until_it_can_be_written() {
        let above = TempDir::new().unwrap();
        // A file in place of the directory makes writes fail even for root.
        let path = above.path().join("acme");
        fs::write(&path, "").unwrap();
        let kept = WriteBehindStore::new(Box::new(DirStore::at(path.clone())));
        kept.save("a.test.pem", b"whole");
        assert_eq!(kept.load("a.test.pem").unwrap().unwrap(), b"whole");
        assert!(kept.last_error().unwrap().contains("cannot write into"));
        kept.flush();
        assert!(kept.last_error().is_some());

        fs::remove_file(&path).unwrap();
        kept.flush();
        assert_eq!(kept.last_error(), None);
        assert_eq!(fs::read(path.join("a.test.pem")).unwrap(), b"whole");
    }
}
