//! A store in a directory that only Lockgate uses, with mode 0700 and files with mode 0600.

use crate::store::Store;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::info;

/// The directory store. The directory may be absent: it is created by the first write.
#[derive(Debug)]
pub(crate) struct DirStore {
    path: PathBuf,
}

// === impl DirStore ===

impl DirStore {
    pub(crate) fn at(path: PathBuf) -> Self {
        DirStore { path }
    }

    fn create_dirs(&self) -> io::Result<()> {
        let is_new = !self.path.exists();
        if let Some(parent) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            // A directory that another program created may have other permissions.
            _ if fs::metadata(&self.path)?.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            }
            _ => Ok(()),
        }?;
        if is_new {
            let location = self.path.display();
            info!(%location, "created the directory of the certificate store (acme.storage)");
        }
        Ok(())
    }

    /// Renames the file only after all of it is on disk, and syncs the directory before it returns.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // The name is always the same, so the file of a crashed process is overwritten. The lock excludes other
        // processes.
        let temporary = self.path.join(format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // The file may contain a part of a key.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fs::rename(&temporary, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

impl Store for DirStore {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        match File::open(self.path.join(name)) {
            Ok(file) => {
                // A larger file was not written by Lockgate. Its truncated content does not parse and is quarantined.
                file.take(MAX_FILE_LEN).read_to_end(&mut content)?;
                Ok(Some(content))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.create_dirs()?;
        self.replace(name, content)
    }

    fn quarantine(&self, name: &str) -> io::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let new_name = format!("{name}.unusable-{}", now.unwrap_or_default().as_secs());
        let to = self.path.join(new_name);
        fs::rename(self.path.join(name), &to)?;
        Ok(to.display().to_string())
    }

    fn lock(&self) -> io::Result<Option<OwnedFd>> {
        self.create_dirs()?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file.into())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

/// The lock file. It is never removed: a process with the old file open and one that creates a new file would not
/// exclude each other.
const LOCK: &str = "lock";

/// The maximum file size. A chain of four with RSA keys is 8 KiB.
const MAX_FILE_LEN: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
