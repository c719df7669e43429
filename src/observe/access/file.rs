//! The file of the access log, which is opened again after log rotation.

use rustix::fs::OFlags;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

/// The file as the writing thread has it. A rename or removal of the file is noticed before the next line.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Filled by [`FileReopener`].
    replacement: Arc<Mutex<Option<File>>>,
    /// When the path was last compared with the open file.
    compared: Instant,
    /// The last write was incomplete, so the rest of the line belongs into the same file.
    is_mid_line: bool,
    /// The file at the path could not be opened, and a warning was logged.
    has_failed: bool,
}

/// Opens the file again on request.
#[derive(Debug, Clone)]
pub(crate) struct FileReopener {
    path: PathBuf,
    replacement: Arc<Mutex<Option<File>>>,
}

// === impl LogFile ===

impl LogFile {
    /// Opens a file for appending; creates it if there is none.
    pub(crate) fn append_to(path: &Path) -> io::Result<(LogFile, FileReopener)> {
        let replacement = Arc::default();
        let file = LogFile {
            path: path.to_owned(),
            file: open(path)?,
            replacement: Arc::clone(&replacement),
            compared: Instant::now(),
            is_mid_line: false,
            has_failed: false,
        };
        let path = path.to_owned();
        Ok((file, FileReopener { path, replacement }))
    }

    /// Takes the file that was opened on request, or opens the path again if it names another file by now.
    fn follow_path(&mut self) {
        if self.is_mid_line {
            return;
        }
        let opened = self.replacement.lock();
        if let Some(file) = opened.unwrap_or_else(PoisonError::into_inner).take() {
            self.file = file;
            self.compared = Instant::now();
            return;
        }
        if self.compared.elapsed() < COMPARE_INTERVAL {
            return;
        }
        self.compared = Instant::now();
        if is_same(&self.path, &self.file) {
            return;
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.has_failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    log_failure(&self.path, &error);
                }
            }
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow_path();
        let written = self.file.write(bytes)?;
        self.is_mid_line = written < bytes.len();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.follow_path();
        self.file.flush()
    }
}

// === impl FileReopener ===

impl FileReopener {
    /// Opens the path again. The next line is written there; if it cannot be opened, to the previous file. Blocks.
    pub(crate) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => {
                let replacement = self.replacement.lock();
                *replacement.unwrap_or_else(PoisonError::into_inner) = Some(file);
            }
            Err(error) => log_failure(&self.path, &error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Without a reader, opening a FIFO for writing only would block. With this end for reading, lines stay in the pipe
    // until a reader comes, and those that find it full are lost as from any slow reader.
    if fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo()) {
        options.read(true).create(false);
    }
    options
        .custom_flags(OFlags::NOCTTY.bits() as i32)
        .open(path)
}

/// Returns whether the path names the open file, or cannot be checked.
fn is_same(path: &Path, file: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (fs::metadata(path), file.metadata()) {
        (Ok(at_path), Ok(open)) => identity(at_path) == identity(open),
        (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
        (_, Err(_)) => true,
    }
}

fn log_failure(path: &Path, error: &io::Error) {
    warn!(file = %path.display(), %error, "the access log cannot be reopened; lines go to the previous file");
}

/// The time in which lines may still go to a file that was renamed or removed without a signal.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
