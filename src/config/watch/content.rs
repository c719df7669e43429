//! What is read under a path, as short as it can be compared; and how little of it must be read again.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statfs;
use tokio::time::Instant;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathContent {
    /// A file, as far as it is read: length and hash.
    File(usize, u64),
    /// A folder: how many entries it has, and a hash of their names.
    Folder(usize, u64),
    /// Neither; a pipe, for one, would have us wait.
    Other,
    /// Nothing there, or nothing for us.
    Unreadable(ErrorKind),
}

/// What was read under some paths, in their order.
#[derive(Debug)]
pub(super) struct ContentCache {
    /// Files alone, on file systems of this machine.
    seen: Vec<Option<CachedContent>>,
    /// How many were read so far.
    #[cfg(test)]
    reads: usize,
}

#[derive(Debug, Clone, Copy)]
struct CachedContent {
    stamp: FileStamp,
    /// When it was first seen with this stamp.
    since: Instant,
    /// It was read again so much later that whatever is written now has another stamp.
    settled: bool,
    content: PathContent,
}

/// What every write changes: the times alone do not tell a file from another that is put in its place. That of the last change
/// of the inode cannot be set back, as the other one can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    identity: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

// === impl ContentCache ===

impl ContentCache {
    pub(super) fn new(paths: usize) -> Self {
        ContentCache {
            seen: vec![None; paths],
            #[cfg(test)]
            reads: 0,
        }
    }

    /// What is there now; these are the paths, and this is the clock.
    pub(super) fn look(
        &mut self,
        paths: &[PathBuf],
        clock: impl Fn() -> Instant,
    ) -> Vec<PathContent> {
        let mut devices = HashMap::new();
        let mut of = |(path, at): (&PathBuf, usize)| {
            let seen = self.see(at, path, &clock, &mut devices);
            seen.unwrap_or_else(|error| PathContent::Unreadable(error.kind()))
        };
        paths.iter().zip(0..).map(&mut of).collect()
    }

    fn see(
        &mut self,
        at: usize,
        path: &Path,
        clock: impl Fn() -> Instant,
        devices: &mut HashMap<u64, bool>,
    ) -> io::Result<PathContent> {
        let last = self.seen[at].take();
        let metadata = fs::metadata(path)?;
        let stamp = FileStamp::of(&metadata);
        let last = last.filter(|seen| seen.stamp == stamp);
        if let Some(last) = last.filter(|seen| seen.settled) {
            self.seen[at] = Some(last);
            return Ok(last.content);
        }
        let now = clock();
        let content = read(path, &metadata)?;
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let device = devices.entry(metadata.dev());
        if metadata.is_file() && *device.or_insert_with(|| is_of_this_machine(path)) {
            let since = last.map_or_else(&clock, |last| last.since);
            self.seen[at] = Some(CachedContent {
                stamp,
                since,
                settled: now.saturating_duration_since(since) >= TICK,
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

/// Whether whatever is written there shows in the next `stat`. On a network's file system that may take a minute, and only
/// reading it tells.
fn is_of_this_machine(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| OF_THIS_MACHINE.contains(&(found.f_type as u32)))
}

fn read(path: &Path, metadata: &Metadata) -> io::Result<PathContent> {
    if metadata.is_dir() {
        // In any order: the sum of their hashes.
        let (mut count, mut sum) = (0, 0_u64);
        for entry in fs::read_dir(path)? {
            let mut hasher = DefaultHasher::new();
            entry?.file_name().hash(&mut hasher);
            count += 1;
            sum = sum.wrapping_add(hasher.finish());
        }
        return Ok(PathContent::Folder(count, sum));
    }
    if !metadata.is_file() {
        return Ok(PathContent::Other);
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_LEN)
        .read_to_end(&mut bytes)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(PathContent::File(bytes.len(), hasher.finish()))
}

/// Far more than any configuration or certificate; a mistaken path may be endless.
const MAX_FILE_LEN: u64 = 16 * 1024 * 1024;
/// Two writes so far apart have different times: kernels round them to hundredths of a second at most.
const TICK: Duration = Duration::from_secs(2);
/// ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs, and overlayfs as containers have it (`statfs(2)`).
const OF_THIS_MACHINE: [u32; 7] = [
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
    use std::fs::FileTimes;

    /// Files in a folder, and a clock that is set by hand.
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

        /// What is there, and how many were read for it.
        fn look(&mut self) -> (Vec<PathContent>, usize) {
            let before = self.contents.reads;
            let now = self.now;
            let found = self.contents.look(&self.paths, || now);
            (found, self.contents.reads - before)
        }

        /// Everything was read, and again when its time had come.
        fn settled(files: usize) -> Scene {
            let mut scene = Scene::new(files);
            for reads in [files, files, 0] {
                assert_eq!(scene.look().1, reads);
                scene.now += TICK;
            }
            scene
        }
    }

    #[test]
    fn what_stays_as_it_is_is_not_read_again() {
        let mut scene = Scene::settled(3);
        let (before, _) = scene.look();
        fs::write(&scene.paths[1], "two").unwrap();
        let (after, reads) = scene.look();
        assert_eq!(reads, 1);
        assert_ne!(before[1], after[1]);
        assert_eq!((before[0], before[2]), (after[0], after[2]));
    }

    #[test]
    fn no_time_that_is_set_and_no_size_hides_a_write() {
        let mut scene = Scene::settled(1);
        let (before, _) = scene.look();
        let modified = fs::metadata(&scene.paths[0]).unwrap().modified().unwrap();
        fs::write(&scene.paths[0], "two").unwrap();
        let file = File::options().write(true).open(&scene.paths[0]).unwrap();
        let times = FileTimes::new().set_modified(modified);
        file.set_times(times).unwrap();
        assert_ne!(scene.look().0, before);
        // Nor does an older file of the same size that takes its place.
        let mut scene = Scene::settled(1);
        let other = scene.folder.path().join("other");
        fs::write(&other, "old").unwrap();
        fs::rename(&other, &scene.paths[0]).unwrap();
        assert_ne!(scene.look().0, before);
    }

    #[test]
    fn until_its_times_can_tell_it_is_read_each_time() {
        let mut scene = Scene::new(1);
        for _ in 0..5 {
            assert_eq!(scene.look().1, 1);
            scene.now += TICK / 5;
        }
        assert_eq!(scene.look().1, 1);
        assert_eq!(scene.look().1, 0);
    }

    #[test]
    fn what_is_gone_or_no_file_is_told_each_time() {
        let mut scene = Scene::settled(1);
        fs::remove_file(&scene.paths[0]).unwrap();
        let gone = vec![PathContent::Unreadable(ErrorKind::NotFound)];
        assert_eq!(scene.look(), (gone, 0));
        fs::create_dir(&scene.paths[0]).unwrap();
        let (empty, _) = scene.look();
        fs::write(scene.paths[0].join("a"), "").unwrap();
        assert_ne!(scene.look().0, empty);
    }
}
