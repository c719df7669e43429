//! What a watch compares, and which kernel events concern it.

use crate::fs::pattern::name::NamePattern;
use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// A path whose content is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchedPath {
    /// A file, or a directory with the names of all entries.
    Path(PathBuf),
    /// A directory with the names of the entries that match a pattern.
    Entries {
        /// The directory.
        folder: PathBuf,
        /// The pattern for a name.
        pattern: String,
    },
}

/// The entries of a directory that are watched.
#[derive(Debug, Default)]
pub(crate) struct WatchedNames {
    names: BTreeSet<OsString>,
    patterns: Vec<NamePattern>,
    /// All entries count.
    all: bool,
}

/// Selects the events that may change watched content. The kernel reports those of all entries of a directory.
#[derive(Debug, Default)]
pub(crate) struct EventFilter {
    folders: BTreeMap<PathBuf, WatchedNames>,
    /// Files that were written and whose writers have not closed them yet.
    being_written: BTreeSet<PathBuf>,
    /// Whether the files were read outside the watch since [`EventFilter::take_was_read`].
    was_read: bool,
}

// === impl WatchedPath ===

impl WatchedPath {
    pub(crate) fn path(&self) -> &Path {
        match self {
            WatchedPath::Path(path) => path,
            WatchedPath::Entries { folder, .. } => folder,
        }
    }

    pub(crate) fn into_absolute(self) -> WatchedPath {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        match self {
            WatchedPath::Path(path) => WatchedPath::Path(absolute(path)),
            WatchedPath::Entries { folder, pattern } => WatchedPath::Entries {
                folder: absolute(folder),
                pattern,
            },
        }
    }

    /// Returns the pattern for the entries of a directory; `None` if all count.
    pub(crate) fn pattern(&self) -> Option<NamePattern> {
        match self {
            WatchedPath::Path(_) => None,
            WatchedPath::Entries { pattern, .. } => Some(NamePattern::new(pattern)),
        }
    }
}

impl From<PathBuf> for WatchedPath {
    fn from(path: PathBuf) -> WatchedPath {
        WatchedPath::Path(path)
    }
}

// === impl WatchedNames ===

impl WatchedNames {
    pub(crate) fn add(&mut self, name: &OsStr) {
        self.names.insert(name.to_owned());
    }

    /// Adds the entries of a watched directory itself.
    pub(crate) fn add_entries(&mut self, of: &WatchedPath) {
        match of.pattern() {
            Some(pattern) => self.patterns.push(pattern),
            None => self.all = true,
        }
    }

    fn contains(&self, name: &OsStr) -> bool {
        let matches = |pattern: &NamePattern| pattern.matches(&name.to_string_lossy());
        self.all || self.names.contains(name) || self.patterns.iter().any(matches)
    }
}

// === impl EventFilter ===

impl EventFilter {
    /// Replaces the watched names, by directory.
    pub(crate) fn replace(&mut self, folders: BTreeMap<PathBuf, WatchedNames>) {
        self.folders = folders;
        // The writer of a file that is not watched any longer is not reported.
        let written = std::mem::take(&mut self.being_written);
        self.being_written = written
            .into_iter()
            .filter(|path| self.is_watched(path))
            .collect();
    }

    /// Returns whether an event may have changed watched content. Read accesses have not: Lockgate reads the files
    /// itself.
    pub(crate) fn accepts(&mut self, event: &Event) -> bool {
        let closed = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => return false,
            _ => false,
        };
        // Events were lost, or the kernel does not name the file.
        if event.need_rescan() || event.paths.is_empty() {
            return true;
        }
        let mut accepted = false;
        for path in &event.paths {
            if !self.is_watched(path) {
                continue;
            }
            accepted = true;
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    self.being_written.insert(path.clone());
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.being_written.remove(path);
                }
                _ if closed => {
                    self.being_written.remove(path);
                }
                _ => {}
            }
        }
        accepted
    }

    /// Returns whether a watched file was written and is still open for writing.
    pub(crate) fn is_being_written(&self) -> bool {
        !self.being_written.is_empty()
    }

    pub(crate) fn note_read(&mut self) {
        self.was_read = true;
    }

    /// Returns whether the files were read outside the watch since the last call.
    pub(crate) fn take_was_read(&mut self) -> bool {
        std::mem::take(&mut self.was_read)
    }

    /// Treats the files as complete that a program keeps open.
    pub(crate) fn forget_writers(&mut self) {
        self.being_written.clear();
    }

    fn is_watched(&self, path: &Path) -> bool {
        if self.folders.contains_key(path) {
            return true;
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return true;
        };
        self.folders
            .get(folder)
            .is_some_and(|names| names.contains(name))
    }
}
