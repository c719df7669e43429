//! Reads certificate and key files, and reports errors with hints.

use crate::{
    config::{self, Diagnostic, Location},
    observe::logging::ErrorChain,
    tls::server_config::provider,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};
use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An error of a file, with a hint.
pub(crate) struct FileError {
    pub(crate) message: String,
    pub(crate) hint: String,
}

pub(crate) fn file_error(message: String, hint: impl Into<String>) -> FileError {
    FileError {
        message,
        hint: hint.into(),
    }
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let shown = path.display();
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > MAX_FILE_LEN => Err(file_error(
            format!("{shown} is larger than 1 MiB"),
            "that is no certificate and no key; is it the right file?",
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(match error.kind() {
            ErrorKind::NotFound => file_error(
                format!("there is no file {shown}"),
                "a relative path begins at the folder of the configuration file",
            ),
            ErrorKind::PermissionDenied => file_error(
                format!("this user may not read {shown}"),
                "give the user that runs lockgate the right to read it, and to enter the folders above it",
            ),
            ErrorKind::IsADirectory => {
                file_error(format!("{shown} is a folder"), "name the file in it")
            }
            _ => file_error(
                format!("cannot read {shown}: {error}"),
                "check the disk or the mount",
            ),
        }),
    }
}

pub(crate) fn bad_pem(path: &Path, error: &pem::Error) -> FileError {
    file_error(
        format!("{} is damaged: {error}", path.display()),
        "copy it again, whole, with its BEGIN and END lines",
    )
}

/// The detected format of a file that does not contain the expected PEM.
pub(crate) enum PemContent {
    Encrypted,
    OpenSsh,
    Der,
    Other,
}

impl PemContent {
    pub(crate) fn of(bytes: &[u8]) -> PemContent {
        if contains(bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(bytes, "4,ENCRYPTED") {
            PemContent::Encrypted
        } else if contains(bytes, "BEGIN OPENSSH PRIVATE KEY") {
            PemContent::OpenSsh
        } else if bytes.starts_with(&[0x30]) && std::str::from_utf8(bytes).is_err() {
            // The tag of a DER SEQUENCE, which is the digit zero in text.
            PemContent::Der
        } else {
            PemContent::Other
        }
    }
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// The maximum file size. A chain of four with RSA keys is 8 KiB; a wrong path may be a log or an endless device.
const MAX_FILE_LEN: u64 = 1024 * 1024;

// The trust roots for the CA's HTTPS certificate, and checks of the files that `[acme]` names.

/// An error of `acme.ca_file`.
#[derive(Debug, thiserror::Error)]
pub enum BadRoots {
    /// The file is missing or damaged.
    #[error("{} cannot be read as PEM", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// The file contains no CA certificate.
    #[error("{} has no CA certificate", .path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
}

/// Builds the client configuration with the public roots, or only with those of `file`.
pub(crate) fn client_config(file: Option<&Path>) -> Result<Arc<ClientConfig>, BadRoots> {
    let mut roots = RootCertStore::empty();
    match file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let read = |source| BadRoots::Read {
                path: path.to_owned(),
                source,
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
                // An unusable certificate is skipped as long as another one can be used.
                let _ = roots.add(certificate.map_err(read)?);
            }
            if roots.is_empty() {
                return Err(BadRoots::None {
                    path: path.to_owned(),
                });
            }
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites and groups for 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Checks the files that `[acme]` names. `at` is the position of the section.
pub(crate) fn check(acme: &config::Acme, at: Option<Location>, problems: &mut Vec<Diagnostic>) {
    if let Err(error) = client_config(acme.ca_file.as_deref()) {
        problems.push(Diagnostic {
            at,
            message: format!("acme.ca_file: {}", ErrorChain(&error)),
            hint: Some("name a PEM file with the root certificate of the CA, or leave it out for public CAs".into()),
        });
    }
    let hooks = acme.dns.iter().flat_map(|dns| {
        [
            ("acme.dns.present", &dns.present),
            ("acme.dns.cleanup", &dns.cleanup),
        ]
    });
    for (key, program) in hooks {
        if let Err(why) = executable(program) {
            problems.push(Diagnostic {
                at,
                message: format!("{key}: {} {why}", program.display()),
                hint: Some("name an executable file; a script needs a first line such as #!/bin/sh, and chmod +x".into()),
            });
        }
    }
}

fn executable(program: &Path) -> Result<(), String> {
    match std::fs::metadata(program) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err("is not an executable file".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("does not exist".into()),
        Err(error) => Err(format!("cannot be checked: {error}")),
    }
}
