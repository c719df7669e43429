//! The only reader of files that an operator names: configuration, certificates, keys, CA files.
//!
//! A path may lead to anything: a FIFO, a device, a file of `/proc` without an end, a mount whose server does not
//! answer. [`read`] reads regular files only, waits for no writer, and reads up to a limit. `pattern` finds the files
//! that a pattern matches, up to a limit. A system call on a hung mount cannot be interrupted, so `deadline` bounds the
//! wait of the caller.
//!
//! [`read_private`] reads a file that Lockgate itself has created, if no other user can have replaced it.

pub(crate) mod deadline;
pub(crate) mod pattern;

use rustix::{fs::OFlags, process::geteuid};
use std::{
    fs::{self, File, FileType, Metadata},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The path does not exist.
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    /// The user of this process may not read the file.
    #[error("this user may not read {}", .0.display())]
    Forbidden(PathBuf),
    /// The path leads to a FIFO, a device or another special file, which may block or have no end.
    #[error("{} is {kind}, not a file", .path.display())]
    NotRegular {
        /// The path as it was named.
        path: PathBuf,
        /// The kind of the file, with its article.
        kind: &'static str,
    },
    /// The file has more bytes than its purpose needs.
    #[error("{} is larger than {}", .path.display(), size(*.limit))]
    TooLarge {
        /// The path as it was named.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The operating system reports another error.
    // With its cause, because callers print this text alone.
    #[error("cannot read {}: {error}", .path.display())]
    Io {
        /// The path as it was named.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
}

/// Why a file or folder of Lockgate's own cannot be trusted. The text is a predicate of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPrivate {
    /// It belongs to another user, whose id this is.
    Owner(u32),
    /// Other users can write to it; the mode.
    Writable(u32),
    /// Other users can read it; the mode.
    Readable(u32),
}

/// Why a file of Lockgate's own is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateFileError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("it {0}")]
    NotPrivate(NotPrivate),
}

/// Reads the file at `path`, which may be a symbolic link to it. The file may have up to `limit` bytes.
///
/// # Errors
/// Fails if the path does not lead to a regular file of at most `limit` bytes that this user may read.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let _reading = deadline::reading(path);
    read_open(open(path)?, path, limit)
}

/// Reads a file that Lockgate has created, and verifies as [`check_private`] does that it was not replaced by another
/// user.
pub(crate) fn read_private(
    path: &Path,
    limit: u64,
    denied: u32,
) -> Result<Vec<u8>, PrivateFileError> {
    let _reading = deadline::reading(path);
    let file = open(path)?;
    // Of the open file: the path may lead to another one later.
    let metadata = file
        .metadata()
        .map_err(|source| ReadError::of(path, source))?;
    check_private(&metadata, denied).map_err(PrivateFileError::NotPrivate)?;
    Ok(read_open(file, path, limit)?)
}

fn read_open(mut file: File, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    // Whole chunks, because some files of /proc do not accept other sizes.
    let mut chunk = [0; CHUNK_LEN];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(ReadError::of(path, source)),
        };
        // Counted while reading: the size of a file in /proc is 0, and another file may grow.
        if (bytes.len() + read) as u64 > limit {
            return Err(ReadError::TooLarge {
                path: path.to_owned(),
                limit,
            });
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Opens a regular file for reading, without waiting for a writer or for another process.
fn open(path: &Path) -> Result<File, ReadError> {
    let failed = |source| ReadError::of(path, source);
    // Before the open, because opening a device may have an effect: it starts a watchdog or rewinds a tape.
    require_regular(path, &fs::metadata(path).map_err(failed)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits() as i32);
    let mut attempts = 0..LEASE_ATTEMPTS;
    let file = loop {
        match options.open(path) {
            // Another process, such as Samba, has a lease on the file; the kernel has asked for its return (fcntl(2)).
            Err(error) if error.kind() == ErrorKind::WouldBlock && attempts.next().is_some() => {
                sleep(LEASE_BACKOFF);
            }
            opened => break opened.map_err(failed)?,
        }
    };
    // After the open, because the path may lead to another file by now.
    require_regular(path, &file.metadata().map_err(failed)?)?;
    Ok(file)
}

/// Verifies that a file or folder belongs to this user or root, and that its mode has no bit of `denied`.
pub(crate) fn check_private(metadata: &Metadata, denied: u32) -> Result<(), NotPrivate> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != geteuid().as_raw() && owner != 0 {
        return Err(NotPrivate::Owner(owner));
    }
    match mode & denied {
        0 => Ok(()),
        found if found & 0o022 != 0 => Err(NotPrivate::Writable(mode)),
        _ => Err(NotPrivate::Readable(mode)),
    }
}

// === impl ReadError ===

impl ReadError {
    fn of(path: &Path, source: io::Error) -> ReadError {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::NotFound => ReadError::Missing(path),
            ErrorKind::PermissionDenied => ReadError::Forbidden(path),
            _ => ReadError::Io {
                path,
                error: source,
            },
        }
    }

    /// Returns how to fix the error.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            ReadError::Missing(_) => {
                "a relative path begins at the folder of the configuration file"
            }
            ReadError::Forbidden(_) => {
                "give the user that runs lockgate the right to read it, and to enter the folders above it"
            }
            ReadError::NotRegular { kind: FOLDER, .. } => "name the file in it",
            ReadError::NotRegular { .. } => "name a regular file, or a link to one",
            ReadError::TooLarge { .. } => "is it the right file?",
            ReadError::Io { .. } => "check the disk or the mount",
        }
    }
}

// === impl NotPrivate ===

impl std::fmt::Display for NotPrivate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotPrivate::Owner(owner) => {
                let own = geteuid().as_raw();
                write!(
                    f,
                    "belongs to the user with the id {owner}, not to this user (id {own}) or root"
                )
            }
            NotPrivate::Writable(mode) => {
                write!(f, "can be changed by other users (mode {mode:04o})")
            }
            NotPrivate::Readable(mode) => {
                write!(f, "can be read by other users (mode {mode:04o})")
            }
        }
    }
}

fn require_regular(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(ReadError::NotRegular {
        path: path.to_owned(),
        kind: describe(metadata.file_type()),
    })
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        FOLDER
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a special file"
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB && bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{bytes} bytes")
    }
}

/// Creates and removes a file in `folder`, or in the nearest existing directory above it, in which the rest of the path
/// would be created. May block.
///
/// # Errors
/// Fails with the error of the system, also if the path leads to something else than a directory.
pub(crate) fn check_writable(folder: &Path) -> io::Result<()> {
    let mut existing = folder;
    let metadata = loop {
        let shown = if existing.as_os_str().is_empty() {
            Path::new(".")
        } else {
            existing
        };
        match (fs::metadata(shown), existing.parent()) {
            (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => existing = parent,
            (found, _) => break found?,
        }
    };
    if !metadata.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    let file = existing.join(format!(".lockgate-check-{}", std::process::id()));
    let mut options = File::options();
    let mut created = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)?;
    let written = created.write_all(b"\n");
    // A full disk is an error of the write; the file must not stay in either case.
    fs::remove_file(&file)?;
    written
}

/// The mode bits by which users other than the owner can write.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The mode bits by which users other than the owner can read or write.
pub(crate) const OPEN_TO_OTHERS: u32 = 0o077;

/// More than most configuration files and certificates have.
const CHUNK_LEN: usize = 16 * 1024;

const FOLDER: &str = "a folder";

/// The number of further attempts to open a file that another process has a lease on: one second.
const LEASE_ATTEMPTS: u32 = 20;

const LEASE_BACKOFF: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
