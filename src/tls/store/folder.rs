//! A folder of our own, 0700, its files 0600.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Lock, Store};

/// The folder may be absent: it is made when something is written.
#[derive(Debug)]
pub(in crate::tls) struct Folder {
    path: PathBuf,
}

// === impl Folder ===

impl Folder {
    pub(in crate::tls) fn at(path: PathBuf) -> Self {
        Folder { path }
    }

    fn make(&self) -> io::Result<()> {
        if let Some(above) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(above)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            // Somebody may have copied it from elsewhere.
            _ if fs::metadata(&self.path)?.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            }
            _ => Ok(()),
        }
    }

    /// The file takes its name only when all of it is on the disk, and the folder knows of it before this returns.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // The same name each time: what a crash leaves is overwritten. The lock keeps others away.
        let unfinished = self.path.join(format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // It may hold half a key, on a disk that is full.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

impl Store for Folder {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        match File::open(self.path.join(name)) {
            Ok(file) => {
                // More is no file of ours: what does not parse is set aside.
                file.take(LARGEST).read_to_end(&mut content)?;
                Ok(Some(content))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.make()?;
        self.replace(name, content)
    }

    fn set_aside(&self, name: &str) -> io::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let moved = format!("{name}.unusable-{}", now.unwrap_or_default().as_secs());
        let to = self.path.join(moved);
        fs::rename(self.path.join(name), &to)?;
        Ok(to.display().to_string())
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        self.make()?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Never removed: whoever still had the old one open would share no lock with whoever makes the new.
const LOCK: &str = "lock";

/// A chain of four with RSA keys is 8 KiB.
const LARGEST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_saved_is_found_by_nobody_else() {
        let above = TempDir::new().unwrap();
        let path = above.path().join("acme/ca.test");
        let folder = Folder::at(path.clone());
        assert_eq!(folder.load("a.test.pem").unwrap(), None);
        for content in [&b"one"[..], b"", b"three"] {
            folder.save("a.test.pem", content).unwrap();
            assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), content);
        }
        assert_eq!(mode(path.clone()), 0o700);
        assert_eq!(mode(path.join("a.test.pem")), 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_closed() {
        let above = TempDir::new().unwrap();
        fs::set_permissions(above.path(), Permissions::from_mode(0o755)).unwrap();
        let folder = Folder::at(above.path().to_owned());
        folder.save("account.pem", b"key").unwrap();
        assert_eq!(mode(above.path().to_owned()), 0o700);
    }

    #[test]
    fn what_a_crash_left_is_in_nobodys_way() {
        let above = TempDir::new().unwrap();
        let folder = Folder::at(above.path().to_owned());
        fs::write(
            above.path().join(".a.test.pem.new"),
            "half of something long",
        )
        .unwrap();
        assert_eq!(folder.load("a.test.pem").unwrap(), None);
        folder.save("a.test.pem", b"whole").unwrap();
        assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), b"whole");
    }

    #[test]
    fn what_is_set_aside_is_kept() {
        let above = TempDir::new().unwrap();
        let folder = Folder::at(above.path().to_owned());
        folder.save("a.test.pem", b"garbage").unwrap();
        let moved = folder.set_aside("a.test.pem").unwrap();
        assert_eq!(folder.load("a.test.pem").unwrap(), None);
        assert_eq!(fs::read(moved).unwrap(), b"garbage");
    }

    #[test]
    fn one_has_the_lock_at_a_time() {
        let above = TempDir::new().unwrap();
        let (one, other) = (
            Folder::at(above.path().to_owned()),
            Folder::at(above.path().to_owned()),
        );
        let lock = one.lock().unwrap();
        assert!(lock.is_some());
        assert!(other.lock().unwrap().is_none());
        drop(lock);
        assert!(other.lock().unwrap().is_some());
    }
}
