//! Finds the files that a pattern such as `conf.d/*.toml` matches. The number of visited entries is limited, because
//! `/**/x` would otherwise visit every file of the machine. The patterns are those of glob(3), and `**`.

pub(crate) mod name;

use crate::fs::{deadline, pattern::name::NamePattern};
use std::{
    fs::{self, DirEntry},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A search with a limit on visited entries, which all its patterns share.
#[derive(Debug)]
pub(crate) struct PatternSearch {
    /// The number of entries that may still be visited.
    remaining: usize,
}

/// Why the files of a pattern cannot be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("visits more than {MAX_ENTRIES} files and folders")]
    TooManyEntries,
    #[error("visits more than {MAX_DEPTH} levels of folders")]
    TooDeep,
}

/// One component of a pattern.
#[derive(Debug)]
enum Step<'a> {
    /// A name, `.` or `..`.
    Name(&'a str),
    Wildcard(&'a str, NamePattern),
    /// `**`: any number of folders.
    Recursive,
}

/// The files that match a pattern.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// In the order of their names.
    pub(crate) paths: Vec<PathBuf>,
    /// The folders that were searched, each with the pattern for the names in it: a new name may add a match.
    pub(crate) folders: Vec<(PathBuf, String)>,
}

/// The search for the matches of one pattern.
struct Walk<'a> {
    search: &'a mut PatternSearch,
    found: Matches,
    /// The folders from the start to the current one: a link to one of them is not followed, because it has no end.
    ancestors: Vec<(u64, u64)>,
}

// === impl PatternSearch ===

impl PatternSearch {
    pub(crate) fn new() -> PatternSearch {
        PatternSearch {
            remaining: MAX_ENTRIES,
        }
    }

    /// Returns the paths that match `pattern`. A relative pattern begins at `folder`, whose own name is not a pattern.
    /// Folders that cannot be read are skipped. `**` finds no hidden folders.
    ///
    /// # Errors
    /// Fails if `pattern` visits too many entries.
    pub(crate) fn find(&mut self, folder: &Path, pattern: &str) -> Result<Matches, PatternError> {
        let mut steps: Vec<Step<'_>> = Vec::new();
        for name in pattern.split('/').filter(|name| !name.is_empty()) {
            match name {
                "**" if matches!(steps.last(), Some(Step::Recursive)) => {}
                "**" => steps.push(Step::Recursive),
                name if is_pattern(name) => {
                    steps.push(Step::Wildcard(name, NamePattern::new(name)))
                }
                name => steps.push(Step::Name(name)),
            }
        }
        if steps.len() > MAX_DEPTH {
            return Err(PatternError::TooDeep);
        }
        let start = match (pattern.starts_with('/'), folder.as_os_str().is_empty()) {
            (true, _) => Path::new("/"),
            (false, true) => Path::new("."),
            (false, false) => folder,
        };
        let mut walk = Walk {
            search: self,
            found: Matches::default(),
            ancestors: Vec::new(),
        };
        walk.visit(start, &steps)?;
        Ok(walk.found)
    }
}

// === impl Walk ===

impl Walk<'_> {
    fn visit(&mut self, at: &Path, steps: &[Step<'_>]) -> Result<(), PatternError> {
        let Some((step, rest)) = steps.split_first() else {
            self.found.paths.push(at.to_owned());
            return Ok(());
        };
        match step {
            Step::Name(name) => {
                let next = join(at, name.as_ref());
                if rest.is_empty() {
                    self.record(at, name);
                    if fs::symlink_metadata(&next).is_ok() {
                        self.found.paths.push(next);
                    }
                } else {
                    self.visit(&next, rest)?
                }
            }
            Step::Wildcard(text, pattern) => {
                self.record(at, text);
                for entry in self.entries(at)? {
                    let name = entry.file_name();
                    if !pattern.matches(&name.to_string_lossy()) {
                        continue;
                    }
                    let next = join(at, &name);
                    match rest.is_empty() {
                        true => self.found.paths.push(next),
                        false if next.is_dir() => self.visit(&next, rest)?,
                        false => {}
                    }
                }
            }
            Step::Recursive => {
                self.visit(at, rest)?;
                let Ok(metadata) = fs::metadata(at) else {
                    return Ok(());
                };
                let identity = (metadata.dev(), metadata.ino());
                if self.ancestors.contains(&identity) {
                    return Ok(());
                }
                if self.ancestors.len() >= MAX_DEPTH {
                    return Err(PatternError::TooDeep);
                }
                self.ancestors.push(identity);
                for entry in self.entries(at)? {
                    let name = entry.file_name();
                    let next = join(at, &name);
                    if !name.as_encoded_bytes().starts_with(b".") && next.is_dir() {
                        self.visit(&next, steps)?;
                    }
                }
                self.ancestors.pop();
            }
        }
        Ok(())
    }

    fn record(&mut self, folder: &Path, pattern: &str) {
        if self.found.folders.len() < MAX_FOLDERS {
            let folder = folder.to_owned();
            self.found.folders.push((folder, pattern.to_owned()));
        }
    }

    /// Returns the entries of a folder in the order of their names.
    fn entries(&mut self, folder: &Path) -> Result<Vec<DirEntry>, PatternError> {
        let _reading = deadline::reading(folder);
        let mut entries = Vec::new();
        let Ok(list) = fs::read_dir(folder) else {
            return Ok(entries);
        };
        for entry in list {
            self.search.remaining = match self.search.remaining.checked_sub(1) {
                Some(remaining) => remaining,
                None => return Err(PatternError::TooManyEntries),
            };
            let Ok(entry) = entry else { break };
            entries.push(entry);
        }
        entries.sort_by_key(DirEntry::file_name);
        Ok(entries)
    }
}

/// Returns whether a component has characters of a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Joins without the leading `./` of a search that starts in the working directory.
fn join(at: &Path, name: &std::ffi::OsStr) -> PathBuf {
    if at == Path::new(".") {
        PathBuf::from(name)
    } else {
        at.join(name)
    }
}

/// Ten times the number of files that a configuration may include.
const MAX_ENTRIES: usize = 10_000;

/// More folders than configurations are spread over. In further ones, new files are only found with the next reload.
const MAX_FOLDERS: usize = 256;

/// More levels than a folder of configuration files has.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn scene() -> TempDir {
        let folder = TempDir::new().unwrap();
        for file in [
            "b.toml",
            "a.toml",
            "x.txt",
            ".hidden.toml",
            "d/c.toml",
            "d/e/f.toml",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn matches_are_sorted_and_relative_to_the_folder() {
        let folder = scene();
        for (pattern, expected) in [
            ("*.toml", &["a.toml", "b.toml"][..]),
            (".*.toml", &[".hidden.toml"]),
            ("[ab].toml", &["a.toml", "b.toml"]),
            ("?/*.toml", &["d/c.toml"]),
            ("d/e/../*.toml", &["d/e/../c.toml"]),
            ("**/*.txt", &["x.txt"]),
            ("**/f.toml", &["d/e/f.toml"]),
            ("d/**/*.toml", &["d/c.toml", "d/e/f.toml"]),
            ("none/*.toml", &[]),
            ("*/none", &[]),
        ] {
            let found = PatternSearch::new().find(folder.path(), pattern);
            let found = found.unwrap().paths;
            let expected: Vec<_> = expected.iter().map(|it| folder.path().join(it)).collect();
            assert_eq!(found, expected, "{pattern}");
        }
        let absolute = format!("{}/?.toml", folder.path().display());
        let found = PatternSearch::new().find(Path::new("elsewhere"), &absolute);
        assert_eq!(found.unwrap().paths.len(), 2);
    }

    #[test]
    fn folder_named_like_a_pattern_is_not_one() {
        let folder = TempDir::new().unwrap();
        let inner = folder.path().join("[a]*");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("b.toml"), "").unwrap();
        let found = PatternSearch::new().find(&inner, "*.toml").unwrap();
        assert_eq!(found.paths, [inner.join("b.toml")]);
    }

    #[test]
    fn link_to_a_folder_above_ends() {
        let folder = scene();
        symlink(folder.path(), folder.path().join("d/loop")).unwrap();
        let found = PatternSearch::new()
            .find(folder.path(), "**/x.txt")
            .unwrap();
        let found = found.paths;
        assert!(found.contains(&folder.path().join("x.txt")), "{found:?}");
        assert!(found.len() <= 2, "{found:?}");
    }

    #[test]
    fn number_of_visited_entries_and_levels_is_limited() {
        let folder = TempDir::new().unwrap();
        let mut deep = folder.path().to_owned();
        for _ in 0..MAX_DEPTH + 2 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let error = PatternSearch::new().find(folder.path(), "**/x");
        assert!(matches!(error, Err(PatternError::TooDeep)), "{error:?}");
        let long = "../*/".repeat(MAX_DEPTH);
        let error = PatternSearch::new().find(folder.path(), &long);
        assert!(matches!(error, Err(PatternError::TooDeep)), "{error:?}");

        let folder = scene();
        // The limit is that of the search, not of one pattern.
        let mut search = PatternSearch { remaining: 7 };
        search.find(folder.path(), "*.toml").unwrap();
        let error = search.find(folder.path(), "*.toml");
        assert!(
            matches!(error, Err(PatternError::TooManyEntries)),
            "{error:?}"
        );
    }
}
