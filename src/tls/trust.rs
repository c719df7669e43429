//! Trust in the development CA: adds it to the system's trust store, and lists the commands for other stores.

use crate::fs;
use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// An error that prevented adding the CA to the system's trust store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The user is not root.
    #[error(
        "only root can change the system's trust store; run:\n  {commands}\nto undo it later:\n  {undo}"
    )]
    NotRoot {
        /// The commands to run, with sudo.
        commands: String,
        /// The commands that undo it, with sudo.
        undo: String,
    },
    /// The system's trust store is unknown.
    #[error("the trust store of this system is unknown: add the certificate to it by hand")]
    Unknown,
    /// The CA's file could not be copied.
    #[error("cannot copy the CA's certificate to {to}")]
    Copy {
        /// The path to which it was copied.
        to: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The system's command is missing or was killed.
    #[error("cannot run `{command}`")]
    Run {
        /// The command with its arguments.
        command: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The system's command failed.
    #[error("`{command}` failed: {output}")]
    Refused {
        /// The command with its arguments.
        command: String,
        /// The last line of its standard error output.
        output: String,
    },
}

/// Returns instructions for trusting the CA in `ca` on every known system and client, as text for a terminal.
pub(crate) fn trust_commands(ca: &Path) -> String {
    let ca = quoted(ca);
    format!(
        "\
To trust the development CA {ca}:

Debian, Ubuntu, Alpine
  sudo cp {ca} /usr/local/share/ca-certificates/{FILE}.crt && sudo update-ca-certificates
Fedora, RHEL
  sudo cp {ca} /etc/pki/ca-trust/source/anchors/{FILE}.pem && sudo update-ca-trust
macOS
  sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ca}
Windows (PowerShell, after copying the file there)
  Import-Certificate -FilePath ca.pem -CertStoreLocation Cert:\\CurrentUser\\Root

Chromium and Chrome on Linux (certutil is in libnss3-tools or nss-tools)
  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {FILE} -i {ca}
Firefox (once per profile; or Settings, Certificates, Authorities, Import)
  certutil -d sql:PROFILE_FOLDER -A -t C,, -n {FILE} -i {ca}

Python (ssl, websockets, aiohttp; requests reads REQUESTS_CA_BUNDLE)
  SSL_CERT_FILE={ca} python3 client.py
  or in the program: ssl.create_default_context(cafile=\"…\")
Node
  NODE_EXTRA_CA_CERTS={ca} node client.js
curl
  curl --cacert {ca} https://localhost:8443/

To undo it
  Debian, Ubuntu, Alpine: remove the copied file, then sudo update-ca-certificates --fresh
  Fedora, RHEL: remove the copied file, then sudo update-ca-trust
  macOS: delete the CA in Keychain Access, System; Windows: in certmgr.msc
  Chromium, Chrome, Firefox: the same certutil command with -D -n {FILE} instead of -A and what follows it
"
    )
}

/// Adds the CA to the trust store of this system (Debian, Fedora, macOS and related systems). Returns a description of
/// what was done.
///
/// # Errors
/// Fails if the user is not root (the error lists the commands to run), if the store is unknown, or if a step fails.
pub(crate) fn trust(ca: &Path) -> Result<String, TrustError> {
    let store = TrustStore::find(Path::new("/")).ok_or(TrustError::Unknown)?;
    if !rustix::process::geteuid().is_root() {
        return Err(TrustError::NotRoot {
            commands: store.commands(ca),
            undo: store.undo("sudo "),
        });
    }
    store.add(ca)
}

/// The system's trust store: a directory to copy to and a command to run, or only a command.
#[derive(Debug, PartialEq)]
struct TrustStore {
    copy_to: Option<PathBuf>,
    command: &'static [&'static str],
    /// True if the CA's file is the last argument of the command.
    takes_file: bool,
}

impl TrustStore {
    /// Finds the trust store by the files that exist below `root`.
    fn find(root: &Path) -> Option<TrustStore> {
        if root.join(MACOS[0].trim_start_matches('/')).exists() {
            return Some(TrustStore {
                copy_to: None,
                command: MACOS,
                takes_file: true,
            });
        }
        LINUX
            .iter()
            .map(|(folder, extension, command)| {
                let folder = root.join(folder);
                (
                    folder.clone(),
                    folder.join(FILE).with_extension(extension),
                    *command,
                )
            })
            .find(|(folder, ..)| folder.is_dir())
            .map(|(_, file, command)| TrustStore {
                copy_to: Some(file),
                command,
                takes_file: false,
            })
    }

    fn commands(&self, ca: &Path) -> String {
        let mut line = format!("sudo {}", self.command.join(" "));
        if self.takes_file {
            line = format!("{line} {}", quoted(ca));
        }
        match &self.copy_to {
            Some(file) => format!("sudo cp {} {} && {line}", quoted(ca), quoted(file)),
            None => line,
        }
    }

    fn add(&self, ca: &Path) -> Result<String, TrustError> {
        if let Some(file) = &self.copy_to {
            let copied = fs::read(ca, MAX_FILE_LEN)
                .map_err(io::Error::other)
                .and_then(|pem| std::fs::write(file, pem));
            copied.map_err(|source| TrustError::Copy {
                to: file.clone(),
                source,
            })?;
        }
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]);
        if self.takes_file {
            command.arg(ca);
        }
        let shown = self.command.join(" ");
        // No deadline: the command runs interactively, and macOS prompts for a password.
        let output = command.output().map_err(|source| TrustError::Run {
            command: shown.clone(),
            source,
        })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(TrustError::Refused {
                command: shown,
                output: stderr.trim().lines().last().unwrap_or_default().to_owned(),
            });
        }
        Ok(match &self.copy_to {
            Some(file) => format!(
                "copied the CA to {} and ran {shown}; to undo it: {}",
                file.display(),
                self.undo("")
            ),
            None => format!("ran {shown}; to undo it: {}", self.undo("")),
        })
    }

    /// Returns the commands that remove the CA, each after `prefix`.
    fn undo(&self, prefix: &str) -> String {
        let command = self.command.join(" ");
        let fresh = if command.contains("certificates") {
            " --fresh"
        } else {
            ""
        };
        match &self.copy_to {
            Some(file) => format!("{prefix}rm {} && {prefix}{command}{fresh}", quoted(file)),
            None => "Keychain Access, System, delete the CA".to_owned(),
        }
    }
}

/// Quotes a path as one word of a POSIX shell.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if path.chars().all(plain) && !path.is_empty() {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// The maximum length of the CA's certificate, which has less than 1 KiB.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// The name of the CA's file in a trust store, without its extension, and its nickname in NSS.
pub(crate) const FILE: &str = "lockgate-dev";

const MACOS: &[&str] = &[
    "/usr/bin/security",
    "add-trusted-cert",
    "-d",
    "-r",
    "trustRoot",
    "-k",
    "/Library/Keychains/System.keychain",
];

/// The directory below the root, the file extension that the system's command expects, and that command.
const LINUX: &[(&str, &str, &[&str])] = &[
    (
        "usr/local/share/ca-certificates",
        "crt",
        &["update-ca-certificates"],
    ),
    (
        "etc/pki/ca-trust/source/anchors",
        "pem",
        &["update-ca-trust"],
    ),
    ("etc/pki/trust/anchors", "pem", &["update-ca-certificates"]),
    (
        "etc/ca-certificates/trust-source/anchors",
        "pem",
        &["update-ca-trust"],
    ),
];

#[cfg(test)]
mod tests;
