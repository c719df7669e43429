//! The directories on the path to a file in which an event can change the file that the path resolves to.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Device and inode number: a directory that was created again has another one.
pub(super) type InodeId = (u64, u64);

/// Returns the directories on these paths whose entries matter, without those that are only traversed.
pub(super) fn dirs_on_path(paths: &[PathBuf]) -> BTreeMap<PathBuf, InodeId> {
    let mut folders = BTreeMap::new();
    for path in paths {
        follow(path, &mut folders);
    }
    folders
}

/// Resolves a path component by component, as the kernel does. The directory of each symbolic link matters, and that of
/// the file, or of the first missing component.
fn follow(path: &Path, folders: &mut BTreeMap<PathBuf, InodeId>) {
    let mut at = PathBuf::from("/");
    let mut rest = steps(path);
    let mut links = 0;
    while let Some(step) = rest.pop_front() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match fs::symlink_metadata(&next) {
            Ok(entry) if entry.is_symlink() => {
                record(&at, folders);
                links += 1;
                let Ok(target) = fs::read_link(&next) else {
                    return;
                };
                if links > MAX_SYMLINKS {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                let mut target = steps(&target);
                target.append(&mut rest);
                rest = target;
            }
            Ok(entry) if entry.is_dir() => {
                if rest.is_empty() {
                    record(&at, folders);
                }
                at = next;
            }
            _ => break,
        }
    }
    record(&at, folders);
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn record(folder: &Path, folders: &mut BTreeMap<PathBuf, InodeId>) {
    if !folders.contains_key(folder)
        && let Ok(metadata) = fs::metadata(folder)
    {
        folders.insert(folder.to_owned(), (metadata.dev(), metadata.ino()));
    }
}

/// The number of symbolic links that Linux follows.
const MAX_SYMLINKS: usize = 40;
