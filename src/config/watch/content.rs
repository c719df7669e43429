//! What is read under a path, as short as it can be compared.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A file, as far as it is read: length and hash.
    File(usize, u64),
    /// A folder: how many entries it has, and a hash of their names.
    Folder(usize, u64),
    /// Neither; a pipe, for one, would have us wait.
    Other,
    /// Nothing there, or nothing for us.
    Unreadable(ErrorKind),
}

/// In the order of the paths.
pub(super) fn of_all(paths: &[PathBuf]) -> Vec<Content> {
    paths
        .iter()
        .map(|path| read(path).unwrap_or_else(|error| Content::Unreadable(error.kind())))
        .collect()
}

fn read(path: &Path) -> io::Result<Content> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        // In any order: the sum of their hashes.
        let (mut count, mut sum) = (0, 0_u64);
        for entry in fs::read_dir(path)? {
            let mut hasher = DefaultHasher::new();
            entry?.file_name().hash(&mut hasher);
            count += 1;
            sum = sum.wrapping_add(hasher.finish());
        }
        return Ok(Content::Folder(count, sum));
    }
    if !metadata.is_file() {
        return Ok(Content::Other);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(Content::File(bytes.len(), hasher.finish()))
}

/// Far more than any configuration or certificate; a mistaken path may be endless.
const LARGEST: u64 = 16 * 1024 * 1024;
