//! The two files of the development CA: created together or not at all, and never overwritten.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::{DevCa, DevCaError, authority};
use crate::tls::policy::provider;
use crate::tls::x509::{Validity, validity};

/// Reads the CA in `folder`. Creates it first if the folder is absent or empty.
pub(super) fn open(folder: &Path) -> Result<DevCa, DevCaError> {
    if is_empty(folder)? {
        create(folder)?;
    }
    read(folder)
}

/// Reads the CA in `folder`. Creates one only in memory if the folder is absent or empty.
pub(super) fn open_existing(folder: &Path) -> Result<DevCa, DevCaError> {
    if !is_empty(folder)? {
        return read(folder);
    }
    let (key, params) = (KeyPair::generate(), authority());
    Ok(DevCa {
        certificate: folder.join(CERTIFICATE),
        issuer: Issuer::new(
            params.map_err(DevCaError::Issue)?,
            key.map_err(DevCaError::Issue)?,
        ),
    })
}

fn is_empty(folder: &Path) -> Result<bool, DevCaError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(source) => Err(DevCaError::Read {
            path: folder.to_owned(),
            source,
        }),
    }
}

fn read(folder: &Path) -> Result<DevCa, DevCaError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    let certificate_pem = text(&certificate)?;
    let key_pem = text(&key)?;
    if fs::metadata(&key).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
        warn!(file = %key.display(), "other users can read the key of the development CA; set its mode to 600");
    }

    let unusable = |path: &Path, what: String| DevCaError::Unusable {
        path: path.to_owned(),
        what,
    };
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|error| unusable(&certificate, format!("holds no certificate ({error})")))?;
    let key_der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| unusable(&key, format!("holds no key ({error})")))?;
    let signer = KeyPair::try_from(&key_der)
        .map_err(|error| unusable(&key, format!("holds no usable key ({error})")))?;

    match validity(&der, UnixTime::now()) {
        Ok(Validity::Authority) => {}
        Ok(Validity::Leaf) => {
            return Err(unusable(
                &certificate,
                "is not the certificate of a CA".into(),
            ));
        }
        Ok(Validity::Expired) => return Err(unusable(&certificate, "has expired".into())),
        Ok(Validity::NotYet) => {
            return Err(unusable(
                &certificate,
                "is not valid yet (is the clock right?)".into(),
            ));
        }
        Err(error) => return Err(unusable(&certificate, format!("cannot be read ({error})"))),
    }
    CertifiedKey::from_der(vec![der.clone()], key_der, &provider()).map_err(|_| {
        unusable(
            &certificate,
            format!("does not belong to the key in {}", key.display()),
        )
    })?;
    let issuer = Issuer::from_ca_cert_der(&der, signer)
        .map_err(|error| unusable(&certificate, format!("cannot be used ({error})")))?;
    Ok(DevCa {
        certificate,
        issuer,
    })
}

fn text(path: &Path) -> Result<String, DevCaError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => DevCaError::Unusable {
            path: path.to_owned(),
            what: "is missing".into(),
        },
        ErrorKind::InvalidData => DevCaError::Unusable {
            path: path.to_owned(),
            what: "is not text".into(),
        },
        _ => DevCaError::Read {
            path: path.to_owned(),
            source,
        },
    })
}

/// Creates a new CA in a private folder next to the final one, which is then renamed. The two files appear together and
/// complete, and the first of several processes wins, because a rename cannot replace a folder that is not empty.
fn create(folder: &Path) -> Result<(), DevCaError> {
    let key = KeyPair::generate().map_err(DevCaError::Issue)?;
    let certificate = authority()
        .and_then(|authority| authority.self_signed(&key))
        .map_err(DevCaError::Issue)?;

    let parent = folder.parent().unwrap_or(Path::new("."));
    let failed = |source| DevCaError::Write {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(failed)?;
    let private = PrivateDir::create(parent).map_err(failed)?;
    write(&private.0.join(KEY), 0o600, &key.serialize_pem()).map_err(failed)?;
    write(&private.0.join(CERTIFICATE), 0o644, &certificate.pem()).map_err(failed)?;
    sync(&private.0).map_err(failed)?;
    match fs::rename(&private.0, folder) {
        Ok(()) => sync(parent).map_err(failed),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Syncs a folder, because a rename is durable only after its folder is synced.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A folder that no other process uses; removed on drop unless it was renamed.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn create(parent: &Path) -> io::Result<PrivateDir> {
        let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let path = parent.join(format!(".dev-ca.{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(PrivateDir(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
