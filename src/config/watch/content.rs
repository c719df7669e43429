//! Content fingerprints of paths, and the rules by which an unchanged file need not be read again.

use crate::{
    config::watch::path::WatchedPath,
    fs::{self as files, ReadError, deadline},
};
use rustix::fs::statfs;
use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fs::{self, Metadata},
    hash::{Hash, Hasher},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};
use tokio::time::Instant;

/// The content at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathContent {
    /// A file: length and hash of the bytes read.
    File(usize, u64),
    /// A directory: the number of entries and a hash of their names.
    Folder(usize, u64),
    /// A special file, or one that is too large. It is not read, because a FIFO would block and a device has no end.
    Other,
    /// A path that does not exist or cannot be read.
    Unreadable(ErrorKind),
}

/// The cached content of a list of paths, in their order.
#[derive(Debug)]
pub(crate) struct ContentCache {
    /// Entries for files on local file systems only.
    entries: Vec<Option<CachedContent>>,
    /// The number of reads so far.
    #[cfg(test)]
    reads: usize,
}

#[derive(Debug, Clone, Copy)]
struct CachedContent {
    stamp: FileStamp,
    /// When the file was first read with this stamp.
    since: Instant,
    /// The last read was late enough that any later write changes the stamp.
    settled: bool,
    content: PathContent,
}

/// Metadata that every write changes. The times alone do not distinguish a file from its replacement. The time of the
/// last inode change (ctime) cannot be set by programs, whereas the modification time can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    identity: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

// === impl ContentCache ===

impl ContentCache {
    pub(crate) fn new(paths: usize) -> Self {
        ContentCache {
            entries: vec![None; paths],
            #[cfg(test)]
            reads: 0,
        }
    }

    /// Returns the current content of `paths`; `clock` returns the time.
    pub(crate) fn read_all(
        &mut self,
        paths: &[WatchedPath],
        clock: impl Fn() -> Instant,
    ) -> Vec<PathContent> {
        let mut devices = HashMap::new();
        let mut read = |(path, at): (&WatchedPath, usize)| {
            let content = self.read_cached(at, path, &clock, &mut devices);
            content.unwrap_or_else(|error| PathContent::Unreadable(error.kind()))
        };
        paths.iter().zip(0..).map(&mut read).collect()
    }

    fn read_cached(
        &mut self,
        at: usize,
        watched: &WatchedPath,
        clock: impl Fn() -> Instant,
        devices: &mut HashMap<u64, bool>,
    ) -> io::Result<PathContent> {
        let path = watched.path();
        let _reading = deadline::reading(path);
        let last = self.entries[at].take();
        let metadata = fs::metadata(path)?;
        let stamp = FileStamp::of(&metadata);
        let last = last.filter(|entry| entry.stamp == stamp);
        if let Some(last) = last.filter(|entry| entry.settled) {
            self.entries[at] = Some(last);
            return Ok(last.content);
        }
        let now = clock();
        let content = read(watched, &metadata)?;
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let device = devices.entry(metadata.dev());
        if metadata.is_file() && *device.or_insert_with(|| is_local(path)) {
            let since = last.map_or_else(&clock, |last| last.since);
            self.entries[at] = Some(CachedContent {
                stamp,
                since,
                settled: now.saturating_duration_since(since) >= SETTLE_TIME,
                content,
            });
        }
        Ok(content)
    }
}

// === impl FileStamp ===

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        FileStamp {
            identity: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Returns whether every write shows in the next `stat`. On a network file system that may take a minute, so the file
/// must be read.
fn is_local(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| LOCAL_FILE_SYSTEMS.contains(&(found.f_type as u32)))
}

fn read(watched: &WatchedPath, metadata: &Metadata) -> io::Result<PathContent> {
    let path = watched.path();
    if metadata.is_dir() {
        let pattern = watched.pattern();
        // The order of entries is arbitrary, so their hashes are added.
        let (mut count, mut sum) = (0, 0_u64);
        for entry in fs::read_dir(path)? {
            let mut hasher = DefaultHasher::new();
            let name = entry?.file_name();
            if pattern
                .as_ref()
                .is_some_and(|pattern| !pattern.matches(&name.to_string_lossy()))
            {
                continue;
            }
            name.hash(&mut hasher);
            count += 1;
            sum = sum.wrapping_add(hasher.finish());
        }
        return Ok(PathContent::Folder(count, sum));
    }
    if !metadata.is_file() {
        return Ok(PathContent::Other);
    }
    Ok(match files::read(path, MAX_FILE_LEN) {
        Ok(bytes) => {
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes);
            PathContent::File(bytes.len(), hasher.finish())
        }
        Err(ReadError::NotRegular { .. } | ReadError::TooLarge { .. }) => PathContent::Other,
        Err(ReadError::Missing(_)) => PathContent::Unreadable(ErrorKind::NotFound),
        Err(ReadError::Forbidden(_)) => PathContent::Unreadable(ErrorKind::PermissionDenied),
        Err(ReadError::Io { error, .. }) => PathContent::Unreadable(error.kind()),
    })
}

/// 16 MiB: far more than any configuration or certificate; a path given by mistake may be endless.
const MAX_FILE_LEN: u64 = 16 * 1024 * 1024;

/// Two writes with this time between them have different timestamps: kernels round times to hundredths of a second at
/// most.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Magic numbers of ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs, and overlayfs, which containers use (`statfs(2)`).
const LOCAL_FILE_SYSTEMS: [u32; 7] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0x0102_1994,
    0x794C_7630,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{File, FileTimes},
        path::PathBuf,
    };

    /// Files in a directory, and a manual clock.
    struct Scene {
        folder: tempfile::TempDir,
        paths: Vec<PathBuf>,
        contents: ContentCache,
        now: Instant,
    }

    impl Scene {
        fn new(files: usize) -> Scene {
            let folder = tempfile::TempDir::new().unwrap();
            let path = |at: usize| folder.path().join(at.to_string());
            let paths: Vec<_> = (0..files).map(path).collect();
            for path in &paths {
                fs::write(path, "one").unwrap();
            }
            Scene {
                folder,
                paths,
                contents: ContentCache::new(files),
                now: Instant::now(),
            }
        }

        /// Returns the content and the number of reads.
        fn look(&mut self) -> (Vec<PathContent>, usize) {
            let before = self.contents.reads;
            let now = self.now;
            let paths: Vec<WatchedPath> = self.paths.iter().cloned().map(Into::into).collect();
            let found = self.contents.read_all(&paths, || now);
            (found, self.contents.reads - before)
        }

        /// Creates a scene in which every file was read twice and is settled.
        fn settled(files: usize) -> Scene {
            let mut scene = Scene::new(files);
            for reads in [files, files, 0] {
                assert_eq!(scene.look().1, reads);
                scene.now += SETTLE_TIME;
            }
            scene
        }
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let mut scene = Scene::settled(3);
        let (before, _) = scene.look();
        fs::write(&scene.paths[1], "two").unwrap();
        let (after, reads) = scene.look();
        assert_eq!(reads, 1);
        assert_ne!(before[1], after[1]);
        assert_eq!((before[0], before[2]), (after[0], after[2]));
    }

    #[test]
    fn write_with_same_size_and_restored_mtime_is_detected() {
        let mut scene = Scene::settled(1);
        let (before, _) = scene.look();
        let modified = fs::metadata(&scene.paths[0]).unwrap().modified().unwrap();
        fs::write(&scene.paths[0], "two").unwrap();
        let file = File::options().write(true).open(&scene.paths[0]).unwrap();
        let times = FileTimes::new().set_modified(modified);
        file.set_times(times).unwrap();
        assert_ne!(scene.look().0, before);
        // A replacement by an older file of the same size is noticed too.
        let mut scene = Scene::settled(1);
        let other = scene.folder.path().join("other");
        fs::write(&other, "old").unwrap();
        fs::rename(&other, &scene.paths[0]).unwrap();
        assert_ne!(scene.look().0, before);
    }

    #[test]
    fn unsettled_file_is_read_each_time() {
        let mut scene = Scene::new(1);
        for _ in 0..5 {
            assert_eq!(scene.look().1, 1);
            scene.now += SETTLE_TIME / 5;
        }
        assert_eq!(scene.look().1, 1);
        assert_eq!(scene.look().1, 0);
    }

    #[test]
    fn removed_file_and_directory_are_never_cached() {
        let mut scene = Scene::settled(1);
        fs::remove_file(&scene.paths[0]).unwrap();
        let missing = vec![PathContent::Unreadable(ErrorKind::NotFound)];
        assert_eq!(scene.look(), (missing, 0));
        fs::create_dir(&scene.paths[0]).unwrap();
        let (empty, _) = scene.look();
        fs::write(scene.paths[0].join("a"), "").unwrap();
        assert_ne!(scene.look().0, empty);
    }
}
