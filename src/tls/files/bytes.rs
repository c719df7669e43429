//! Reads certificate and key files, and reports errors with hints.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustls::pki_types::pem;

/// An error of a file, with a hint.
pub(in crate::tls) struct FileError {
    pub(in crate::tls) message: String,
    pub(in crate::tls) hint: String,
}

pub(in crate::tls) fn file_error(message: String, hint: impl Into<String>) -> FileError {
    FileError {
        message,
        hint: hint.into(),
    }
}

pub(in crate::tls) fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
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

pub(in crate::tls) fn bad_pem(path: &Path, error: &pem::Error) -> FileError {
    file_error(
        format!("{} is damaged: {error}", path.display()),
        "copy it again, whole, with its BEGIN and END lines",
    )
}

/// The detected format of a file that does not contain the expected PEM.
pub(super) enum PemContent {
    Encrypted,
    OpenSsh,
    Der,
    Other,
}

impl PemContent {
    pub(super) fn of(bytes: &[u8]) -> PemContent {
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

pub(super) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// The maximum file size. A chain of four with RSA keys is 8 KiB; a wrong path may be a log or an endless device.
const MAX_FILE_LEN: u64 = 1024 * 1024;
