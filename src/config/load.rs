//! Builds a [`Config`] from files: reads and parses them with those that they include, and combines them. All errors
//! are reported together.

use crate::{
    config::{
        check::{
            check,
            warning::{environment_warnings, warnings},
        },
        diagnostic::{Diagnostic, Diagnostics, Located, Location, Severity, Source},
        parse::{EnvLookup, SourceMap, deserialize},
        schema::{
            Config, File,
            tls::{Acme, Tls},
        },
        values::address::Access,
        watch::path::WatchedPath,
    },
    fs::{
        ReadError, deadline,
        pattern::{PatternError, PatternSearch, is_pattern},
        read,
    },
};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

struct Loader<'a> {
    environment: EnvLookup<'a>,
    sources: Vec<Source>,
    /// The parsed content of each source, in the order in which the files were named.
    files: Vec<(usize, File)>,
    source_map: SourceMap,
    /// The canonical paths that were read: a file that includes itself, directly or indirectly, would never end.
    seen: HashSet<PathBuf>,
    /// The directories in which patterns are matched: a file added there may match.
    folders: Vec<WatchedPath>,
    search: PatternSearch,
    /// The number of bytes that may still be read.
    remaining: u64,
    diagnostics: Vec<Diagnostic>,
}

// === impl Config ===

impl Config {
    /// Reads a file and every file that it includes. Relative paths are relative to the file that names them.
    ///
    /// # Errors
    /// Returns every error with its location: files that cannot be read or parsed, unknown keys, invalid values, and
    /// contradictions between values.
    pub fn load(path: &Path) -> Result<Config, Diagnostics> {
        Config::load_in(path, &|name| std::env::var(name).ok())
    }

    /// Reads a file as [`Config::load`] does, with `${NAME}` from `environment`.
    pub(crate) fn load_in(path: &Path, environment: EnvLookup<'_>) -> Result<Config, Diagnostics> {
        let mut loader = Loader::new(environment);
        loader.read(path, None);
        loader.finish().map(|(config, _)| config)
    }

    /// Reads a file as [`Config::load`] does, and also returns the warnings, which may be none.
    pub(crate) fn load_with_warnings(path: &Path) -> Result<(Config, Diagnostics), Diagnostics> {
        let mut loader = Loader::new(&|name| std::env::var(name).ok());
        loader.read(path, None);
        let (config, source_map) = loader.finish()?;
        let list = environment_warnings(&config, &source_map);
        let list = config.warnings.list.iter().cloned().chain(list).collect();
        let warnings = Diagnostics::new(config.sources.clone(), list);
        Ok((config, warnings.with_severity(Severity::Warning)))
    }
}

// === impl Loader ===

impl<'a> Loader<'a> {
    fn new(environment: EnvLookup<'a>) -> Self {
        Loader {
            environment,
            sources: Vec::new(),
            files: Vec::new(),
            source_map: SourceMap::default(),
            seen: HashSet::new(),
            folders: Vec::new(),
            search: PatternSearch::new(),
            remaining: MAX_TOTAL_MIB << 20,
            diagnostics: Vec::new(),
        }
    }

    /// Reads a file and those that it includes. `named` is the location of the `include` that names it.
    fn read(&mut self, path: &Path, named: Option<Location>) {
        let _reading = deadline::reading(path);
        let shown = path.display();
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.seen.contains(&canonical) {
            return self.unread(
                named,
                format!("{shown} is included already"),
                "include each file once, and none from itself",
            );
        }
        if self.sources.len() >= MAX_FILES || self.remaining == 0 {
            return self.unread(
                named,
                match self.remaining {
                    0 => format!("the files have more than {MAX_TOTAL_MIB} MiB together"),
                    _ => format!("more than {MAX_FILES} files"),
                },
                "include fewer files: does a pattern match more than it should?",
            );
        }
        let limit = MAX_FILE_LEN.min(self.remaining);
        let bytes = match read(path, limit) {
            Ok(bytes) => bytes,
            Err(error) => {
                if let ReadError::TooLarge { .. } = error {
                    self.remaining -= limit;
                }
                let (message, hint) = match error {
                    ReadError::NotRegular { kind, .. } => (
                        format!("{shown} is not a file: it is {kind}"),
                        "name a file, or a pattern such as \"conf.d/*.toml\"",
                    ),
                    ReadError::TooLarge { .. } => {
                        (error.to_string(), "is it a configuration file?")
                    }
                    ReadError::Missing(_) | ReadError::Forbidden(_) => (
                        format!("cannot read {shown}: {error}"),
                        "is the path right, and may this user read it?",
                    ),
                    ReadError::Io { .. } => (error.to_string(), error.hint()),
                };
                return self.unread(named, message, hint);
            }
        };
        self.remaining -= bytes.len() as u64;
        self.seen.insert(canonical);
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let source = self.sources.len();
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.sources.push(Source {
            path: path.to_owned(),
            text,
        });
        if let Err(error) = std::str::from_utf8(bytes) {
            let start = error.valid_up_to();
            let at = Some(Location {
                source,
                start,
                end: start + '\u{fffd}'.len_utf8(),
            });
            let hint = Some("save the file as UTF-8".to_owned());
            self.source_map.unread = true;
            return self.diagnostics.push(Diagnostic {
                at,
                message: "this is not UTF-8".to_owned(),
                hint,
            });
        }
        let (mut file, source_map, diagnostics) =
            deserialize(source, &self.sources[source].text, self.environment);
        self.source_map.extend(source_map);
        self.diagnostics.extend(diagnostics);
        let includes = std::mem::take(&mut file.include);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for certificate in file
            .tls
            .iter_mut()
            .flat_map(|tls| &mut tls.value.certificates)
        {
            for file in [&mut certificate.value.cert, &mut certificate.value.key] {
                file.value = folder.join(&file.value);
            }
        }
        if let Some(tls) = &mut file.tls
            && let Some(client_ca) = &mut tls.value.client_ca
        {
            client_ca.value = folder.join(&client_ca.value);
        }
        let pools = file.pools.values_mut();
        for backend in pools.flat_map(|pool| &mut pool.value.backends) {
            backend.value.tls.place_in(&folder);
        }
        for guard in file.guards.values_mut() {
            guard.value.place_in(&folder);
        }
        if let Some(acme) = &mut file.acme {
            let Acme {
                storage,
                ca_file,
                dns,
                ..
            } = &mut acme.value;
            let hooks = dns
                .iter_mut()
                .flat_map(|dns| [&mut dns.present, &mut dns.cleanup]);
            for path in hooks.chain(ca_file.as_mut()).chain([storage]) {
                *path = folder.join(&*path);
            }
        }
        if let Some(server) = &mut file.server
            && let Access::File(path) = &mut server.value.access
        {
            *path = folder.join(&*path);
        }
        self.files.push((source, file));
        for include in includes {
            self.include(&folder, &include);
        }
    }

    /// Reads the target of an `include`: one file, or all files that match a pattern, sorted by name.
    fn include(&mut self, folder: &Path, include: &Located<String>) {
        let joined = folder.join(&include.value);
        if !is_pattern(&include.value) {
            return self.read(&joined, include.at);
        }
        match self.search.find(folder, &include.value) {
            Ok(matches) => {
                let folders = matches.folders.into_iter();
                self.folders.extend(
                    folders.map(|(folder, pattern)| WatchedPath::Entries { folder, pattern }),
                );
                for path in matches.paths {
                    if self.sources.len() >= MAX_FILES || self.remaining == 0 {
                        // Reported once, and not for every other match.
                        return self.read(&path, include.at);
                    }
                    // A pattern may match the file that contains it.
                    let canonical = fs::canonicalize(&path);
                    if !canonical.is_ok_and(|canonical| self.seen.contains(&canonical)) {
                        self.read(&path, include.at);
                    }
                }
            }
            Err(error) => {
                let hint = match error {
                    PatternError::TooManyEntries | PatternError::TooDeep => {
                        "begin it with the folder that has the files: \"conf.d/*.toml\""
                    }
                };
                self.unread(include.at, format!("`{}` {error}", include.value), hint);
            }
        }
    }

    /// Reports files that were not read, because of which further errors may be consequences.
    fn unread(&mut self, at: Option<Location>, message: String, hint: &str) {
        self.source_map.unread = true;
        self.diagnostics.push(Diagnostic {
            at,
            message,
            hint: Some(hint.to_owned()),
        });
    }

    /// Combines the files and checks the whole configuration. A section may be in one file only; routes and
    /// certificates accumulate.
    fn finish(mut self) -> Result<(Config, SourceMap), Diagnostics> {
        let mut whole = File::default();
        for (_, file) in std::mem::take(&mut self.files) {
            self.once("server", &mut whole.server, file.server);
            self.once("limits", &mut whole.limits, file.limits);
            self.once("drain", &mut whole.drain, file.drain);
            self.once("session", &mut whole.session, file.session);
            self.once("acme", &mut whole.acme, file.acme);
            match (&mut whole.tls, file.tls) {
                (Some(first), Some(more)) if only_certificates(&more) => {
                    first.value.certificates.extend(more.value.certificates);
                }
                (first, more) => self.once("tls", first, more),
            }
            for (name, pool) in file.pools {
                if let Some(first) = whole.pools.get(&name) {
                    self.twice(&format!("pools.{name}"), first.at, pool.at);
                } else {
                    whole.pools.insert(name, pool);
                }
            }
            for (name, guard) in file.guards {
                if let Some(first) = whole.guards.get(&name) {
                    self.twice(&format!("guards.{name}"), first.at, guard.at);
                } else {
                    whole.guards.insert(name, guard);
                }
            }
            whole.routes.extend(file.routes);
        }
        let places = [
            (
                "server",
                whole.server.as_ref().and_then(|section| section.at),
            ),
            (
                "limits",
                whole.limits.as_ref().and_then(|section| section.at),
            ),
            ("tls", whole.tls.as_ref().and_then(|section| section.at)),
            ("drain", whole.drain.as_ref().and_then(|section| section.at)),
            ("acme", whole.acme.as_ref().and_then(|section| section.at)),
            (
                "session",
                whole.session.as_ref().and_then(|section| section.at),
            ),
        ];
        let mut config = Config {
            sections: places
                .into_iter()
                .filter_map(|(name, at)| Some((name, at?)))
                .collect(),
            server: whole.server.map(|server| server.value).unwrap_or_default(),
            limits: whole.limits.map(|limits| limits.value).unwrap_or_default(),
            drain: whole.drain.map(|drain| drain.value).unwrap_or_default(),
            tls: whole.tls.map(|tls| tls.value).unwrap_or_default(),
            acme: whole.acme.map(|acme| acme.value),
            session: whole
                .session
                .map(|session| session.value)
                .unwrap_or_default(),
            pools: whole.pools,
            guards: whole.guards,
            routes: whole.routes,
            watched: {
                let files = self.sources.iter().map(|source| source.path.clone().into());
                files.chain(std::mem::take(&mut self.folders)).collect()
            },
            sources: self.sources.clone().into(),
            warnings: Diagnostics::none(Severity::Warning),
        };
        let mut contradictions = check(&config, &self.source_map);
        // A value that could not be read has already been reported, and counts as present.
        let source_map = &self.source_map;
        let is_consequence =
            |new: &Diagnostic| new.at.is_some_and(|at| source_map.is_consequence(at));
        contradictions.retain(|new| {
            !is_consequence(new) && !self.diagnostics.iter().any(|old| old.at == new.at)
        });
        self.diagnostics.extend(contradictions);
        if self.diagnostics.is_empty() {
            let list = warnings(&config, &self.source_map);
            let warnings = Diagnostics::new(config.sources.clone(), list);
            config.warnings = warnings.with_severity(Severity::Warning);
            Ok((config, self.source_map))
        } else {
            Err(Diagnostics::new(self.sources.into(), self.diagnostics))
        }
    }

    /// Takes a section from one file; reports it if an earlier file has it too.
    fn once<T>(&mut self, name: &str, first: &mut Option<Located<T>>, more: Option<Located<T>>) {
        match (&first, more) {
            (None, more) => *first = more,
            (Some(first), Some(more)) => self.twice(name, first.at, more.at),
            (Some(_), None) => {}
        }
    }

    fn twice(&mut self, name: &str, first: Option<Location>, at: Option<Location>) {
        let place = first.and_then(|first| {
            let source = self.sources.get(first.source)?;
            let line = source.text.get(..first.start)?.matches('\n').count() + 1;
            Some(format!("{}:{line}", source.path.display()))
        });
        let place = place.unwrap_or_else(|| "another file".to_owned());
        let message = format!("[{name}] is already in {place}");
        self.source_map.record_removed(None, name, false);
        self.diagnostics.push(Diagnostic {
            at,
            message,
            hint: Some("keep it in one file".to_owned()),
        });
    }
}

fn only_certificates(tls: &Tls) -> bool {
    let default = Tls::default();
    tls.min_version == default.min_version
        && tls.default.is_none()
        && tls.client_ca.is_none()
        && tls.dev_ca == default.dev_ca
}

/// 16 MiB per file: far more than ten thousand routes need.
const MAX_FILE_LEN: u64 = 16 << 20;

/// The limit over all files: every reload holds the previous texts and the new ones.
const MAX_TOTAL_MIB: u64 = 64;

/// The limit over all includes.
const MAX_FILES: usize = 1000;
