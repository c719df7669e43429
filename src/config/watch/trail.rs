//! The way to a file: every folder in which something may happen that leads elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Device and inode: a folder that was made anew is another one.
pub(super) type InodeId = (u64, u64);

/// The folders on the way to these paths, without those that are only passed through.
pub(super) fn dirs_on_path(paths: &[PathBuf]) -> BTreeMap<PathBuf, InodeId> {
    let mut folders = BTreeMap::new();
    for path in paths {
        follow(path, &mut folders);
    }
    folders
}

/// Goes as the kernel does, component by component. Each symbolic link lies in a folder that matters, and so does the
/// file, or the first thing that is missing.
fn follow(path: &Path, folders: &mut BTreeMap<PathBuf, InodeId>) {
    let mut at = PathBuf::from("/");
    let mut ahead = steps(path);
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match fs::symlink_metadata(&next) {
            Ok(entry) if entry.is_symlink() => {
                note(&at, folders);
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
                target.append(&mut ahead);
                ahead = target;
            }
            Ok(entry) if entry.is_dir() => {
                if ahead.is_empty() {
                    note(&at, folders);
                }
                at = next;
            }
            _ => break,
        }
    }
    note(&at, folders);
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

fn note(folder: &Path, folders: &mut BTreeMap<PathBuf, InodeId>) {
    if !folders.contains_key(folder)
        && let Ok(metadata) = fs::metadata(folder)
    {
        folders.insert(folder.to_owned(), (metadata.dev(), metadata.ino()));
    }
}

/// As many as Linux follows.
const MAX_SYMLINKS: usize = 40;
