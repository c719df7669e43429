//! A store in a directory that only Lockgate uses, with mode 0700 and files with mode 0600.

use crate::{
    fs::{
        NotPrivate, PrivateFileError, ReadError, check_private, check_writable, deadline::reading,
        read_private,
    },
    store::Store,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Write},
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::info;

/// The directory store. The directory may be absent: it is created by the first write.
#[derive(Debug)]
pub(crate) struct DirStore {
    path: PathBuf,
}

/// A file or the directory, which another user can have replaced.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} {why}: the keys in it may be known to that user; run lockgate as the owner, or chown it to the user that runs \
     lockgate and remove what that user did not create",
    .path.display()
)]
struct UntrustedPath {
    path: PathBuf,
    why: NotPrivate,
}

// === impl DirStore ===

impl DirStore {
    /// Returns the store in this directory, which is created by the first write.
    pub(crate) fn at(path: PathBuf) -> Self {
        DirStore { path }
    }

    /// Creates and removes a file in the directory, or in the nearest existing one above it.
    ///
    /// # Errors
    /// Fails with the error of the system, or if the directory belongs to another user.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        if self.path.exists() {
            self.check_owner()?;
        }
        check_writable(&self.path)
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
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // A directory that another program created may have other permissions.
            _ if fs::metadata(&self.path)?.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
            }
            _ => {}
        }
        if is_new {
            let location = self.path.display();
            info!(%location, "created the directory of the certificate store (acme.storage)");
        }
        self.check_owner()
    }

    /// Verifies that the directory belongs to this user or root, because its owner can replace every file in it.
    fn check_owner(&self) -> io::Result<()> {
        // Group access is removed by the next write, and a volume of Kubernetes may have it (fsGroup).
        check_private(&fs::metadata(&self.path)?, OTHERS_WRITE)
            .map_err(|why| UntrustedPath::error(&self.path, why))
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
        let path = self.path.join(name);
        match read_private(&path, MAX_FILE_LEN, OTHERS_WRITE) {
            Ok(content) => {
                self.check_owner()?;
                Ok(Some(content))
            }
            Err(PrivateFileError::Read(ReadError::Missing(_))) => Ok(None),
            // It was not written by Lockgate. Its content does not parse, so it is quarantined.
            Err(PrivateFileError::Read(
                ReadError::TooLarge { .. } | ReadError::NotRegular { .. },
            )) => Ok(Some(Vec::new())),
            Err(PrivateFileError::Read(error)) => Err(io::Error::other(error)),
            Err(PrivateFileError::NotPrivate(why)) => Err(UntrustedPath::error(&path, why)),
        }
    }

    fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let _reading = reading(&self.path.join(name));
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
        let path = self.path.join(LOCK);
        let _reading = reading(&path);
        self.create_dirs()?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
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

// === impl UntrustedPath ===

impl UntrustedPath {
    fn error(path: &Path, why: NotPrivate) -> io::Error {
        let path = path.to_owned();
        io::Error::new(ErrorKind::PermissionDenied, UntrustedPath { path, why })
    }
}

/// The mode bit by which every user can write.
const OTHERS_WRITE: u32 = 0o002;

/// The lock file. It is never removed: a process with the old file open and one that creates a new file would not
/// exclude each other.
const LOCK: &str = "lock";

/// The maximum file size. A chain of four with RSA keys is 8 KiB.
const MAX_FILE_LEN: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
