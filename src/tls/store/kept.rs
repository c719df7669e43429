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
            None => blocking(|| self.store.load(name)),
        }
    }

    /// Saves the content, on error in memory. It does not fail, because a certificate that cannot be written is still
    /// served.
    pub(in crate::tls) fn save(&self, name: &str, content: &[u8]) {
        match blocking(|| self.store.save(name, content)) {
            Ok(()) => {
                self.unsaved().remove(name);
            }
            Err(error) => {
                let location = self.store.location();
                error!(%name, %location, %error, "cannot write to the certificate store; content is kept in memory only, and retried every minute");
                self.unsaved().insert(name.into(), content.into());
                *self.lock_last_error() = Some(format!("cannot write into {location}: {error}"));
            }
        }
    }

    /// Retries the writes of content that is only in memory.
    pub(in crate::tls) fn flush(&self) {
        let pending = self.unsaved().clone();
        for (name, content) in &pending {
            if blocking(|| self.store.save(name, content)).is_ok() {
                let mut unsaved = self.unsaved();
                // Newer content may have been saved in the meantime; it is not removed.
                if unsaved.get(name) == Some(content) {
                    unsaved.remove(name);
                }
            }
        }
        if self.unsaved().is_empty() {
            *self.lock_last_error() = None;
            if !pending.is_empty() {
                info!(
                    location = %self.store.location(),
                    files = pending.len(),
                    "the certificate store is writable again"
                );
            }
        }
    }

    /// Returns the last write error; `None` once everything is written.
    pub(in crate::tls) fn last_error(&self) -> Option<String> {
        self.lock_last_error().clone()
    }

    /// Quarantines an unusable file and logs it. Content in memory is dropped in any case.
    pub(in crate::tls) fn quarantine(&self, name: &str, reason: &str) {
        self.unsaved().remove(name);
        match self.store.quarantine(name) {
            Ok(to) => {
                error!(%name, %reason, moved_to = %to, "stored file is unusable and was renamed")
            }
            Err(error) => {
                error!(%name, %reason, %error, "stored file is unusable and cannot be renamed")
            }
        }
    }

    pub(in crate::tls) fn lock(&self) -> io::Result<Option<Lock>> {
        blocking(|| self.store.lock())
    }

    pub(in crate::tls) fn location(&self) -> String {
        self.store.location()
    }

    fn lock_last_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaved(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Vec<u8>>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a blocking call, so that a hanging disk does not block the other tasks of this thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
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
        let parent = TempDir::new().unwrap();
        // A file in place of the directory makes writes fail even for root.
        let path = parent.path().join("acme");
        fs::write(&path, "").unwrap();
        let store = WriteBehindStore::new(Box::new(DirStore::at(path.clone())));
        store.save("a.test.pem", b"whole");
        assert_eq!(store.load("a.test.pem").unwrap().unwrap(), b"whole");
        assert!(store.last_error().unwrap().contains("cannot write into"));
        store.flush();
        assert!(store.last_error().is_some());

        fs::remove_file(&path).unwrap();
        store.flush();
        assert_eq!(store.last_error(), None);
        assert_eq!(fs::read(path.join("a.test.pem")).unwrap(), b"whole");
    }
}
