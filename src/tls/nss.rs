//! Trust stores of browsers on Linux: the NSS databases of Chromium and Firefox, which do not use the system's store.

use crate::tls::trust::{FILE, quoted};
use std::{
    ffi::OsString,
    fmt::Write,
    fs,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The NSS database of one browser, or of one of its profiles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NssDatabase {
    /// The directory that has `cert9.db`.
    folder: PathBuf,
    browser: &'static str,
}

/// Why a database was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NssError {
    /// The program that changes databases is not installed.
    #[error(
        "certutil is missing: install libnss3-tools (Debian, Ubuntu), nss-tools (Fedora, Alpine) or nss (Arch), then run \
         `lockgate cert trust` again"
    )]
    NoCertutil,
    #[error("cannot run certutil")]
    Run(#[source] io::Error),
    #[error("certutil did not end within {} s: does the database have a password?", TIMEOUT.as_secs())]
    Timeout,
    #[error("certutil failed: {0}")]
    Failed(String),
}

// === impl NssDatabase ===

impl NssDatabase {
    /// Finds the databases below a home directory: those of packages of the system, of snap and of flatpak.
    pub(crate) fn find(home: &Path) -> Vec<NssDatabase> {
        let mut found = Vec::new();
        for (pattern, browser) in PLACES {
            let folders = expand(home, pattern);
            let with_database = folders
                .into_iter()
                .filter(|it| it.join("cert9.db").is_file());
            found.extend(with_database.map(|folder| NssDatabase { folder, browser }));
        }
        found.sort();
        found.dedup_by(|one, other| one.folder == other.folder);
        found
    }

    /// Adds the CA in the file `ca`, in the place of an earlier one of Lockgate.
    ///
    /// # Errors
    /// Fails if certutil is missing, fails, or does not end within 10 s.
    fn add(&self, ca: &Path) -> Result<(), NssError> {
        // A certificate of the same name is not replaced by certutil; that there is none is no error.
        match self.certutil(&["-D", "-n", FILE]) {
            Ok(()) | Err(NssError::Failed(_)) => {}
            Err(error) => return Err(error),
        }
        let arguments = ["-A", "-t", "C,,", "-n", FILE, "-i"];
        let mut arguments = arguments.map(OsString::from).to_vec();
        arguments.push(ca.into());
        self.certutil(&arguments)
    }

    /// Returns the command that removes the CA.
    fn undo(&self) -> String {
        format!("certutil -d {} -D -n {FILE}", quoted(&self.name()))
    }

    fn certutil(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<(), NssError> {
        let child = Command::new("certutil")
            .arg("-d")
            .arg(self.name())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => NssError::NoCertutil,
            _ => NssError::Run(error),
        })?;
        let status = wait(&mut child)?;
        if status {
            return Ok(());
        }
        let mut output = String::new();
        if let Some(stderr) = child.stderr.take() {
            // Only the error output is shown if it is no text.
            let _ = stderr.take(MAX_OUTPUT_LEN).read_to_string(&mut output);
        }
        let last = output.trim().lines().last().unwrap_or_default();
        Err(NssError::Failed(last.to_owned()))
    }

    /// Returns the database as certutil names it.
    fn name(&self) -> PathBuf {
        let mut name = OsString::from("sql:");
        name.push(&self.folder);
        name.into()
    }
}

/// Adds the CA to every database below `home`. Returns a line for each, with the command that undoes it; "" if there is
/// none.
///
/// # Errors
/// Fails with the first error, after the other databases have been tried.
pub(crate) fn trust(home: &Path, ca: &Path) -> (String, Result<(), NssError>) {
    let (mut text, mut result) = (String::new(), Ok(()));
    for database in NssDatabase::find(home) {
        let (browser, folder) = (database.browser, database.folder.display());
        match database.add(ca) {
            Ok(()) => {
                let undo = database.undo();
                let _ = writeln!(
                    text,
                    "{browser}: added the CA to {folder}; restart the browser\n  to undo it: {undo}"
                );
            }
            Err(error) => {
                let _ = writeln!(text, "{browser}: {folder} was not changed");
                if let NssError::NoCertutil = error {
                    return (text, Err(error));
                }
                result = result.and(Err(error));
            }
        }
    }
    (text, result)
}

/// Waits for the end of the program; returns whether it succeeded.
fn wait(child: &mut Child) -> Result<bool, NssError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().map_err(NssError::Run)? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            // It has ended by itself otherwise.
            let _ = child.kill();
            let _ = child.wait();
            return Err(NssError::Timeout);
        }
        sleep(POLL_INTERVAL);
    }
}

/// Returns the directories that a pattern matches, in which a segment `*` stands for any name.
fn expand(home: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut folders = vec![home.to_owned()];
    for segment in pattern.split('/') {
        folders = match segment {
            "*" => {
                let entries = folders
                    .iter()
                    .filter_map(|folder| fs::read_dir(folder).ok());
                let entries = entries
                    .flat_map(|entries| entries.take(MAX_ENTRIES))
                    .flatten();
                entries
                    .map(|entry| entry.path())
                    .take(MAX_ENTRIES)
                    .collect()
            }
            name => folders
                .into_iter()
                .map(|folder| folder.join(name))
                .collect(),
        };
    }
    folders
}

/// The directories of databases below the home directory.
const PLACES: [(&str, &str); 10] = [
    (".pki/nssdb", "Chromium and Chrome"),
    (".local/share/pki/nssdb", "Chromium and Chrome"),
    ("snap/chromium/current/.pki/nssdb", "Chromium (snap)"),
    (".var/app/*/.pki/nssdb", "Chromium (flatpak)"),
    (".mozilla/firefox/*", "Firefox"),
    (".config/mozilla/firefox/*", "Firefox"),
    ("snap/firefox/common/.mozilla/firefox/*", "Firefox (snap)"),
    (
        ".var/app/org.mozilla.firefox/.mozilla/firefox/*",
        "Firefox (flatpak)",
    ),
    (
        ".var/app/org.mozilla.firefox/config/mozilla/firefox/*",
        "Firefox (flatpak)",
    ),
    (".librewolf/*", "LibreWolf"),
];

/// certutil writes a small database; it waits for a password only if there is one.
const TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The maximum length of the error output that is read.
const MAX_OUTPUT_LEN: u64 = 4096;

/// The maximum number of profiles of one browser.
const MAX_ENTRIES: usize = 100;
