//! The development CA: `wss://` on a development machine without a certificate from a public CA.
//!
//! It has no name constraints, because it is created before its names are known. Its limits are: no intermediate CA,
//! server certificates only, a key that only its owner can read, and no trust store that includes it by default.
//!
//! Its two files, the certificate and the key, are created together or not at all, and never overwritten.

pub(crate) mod on_demand;

use crate::{
    fs::{
        NotPrivate, OPEN_TO_OTHERS, PrivateFileError, ReadError, WRITABLE_BY_OTHERS, check_private,
        read_private,
    },
    net::{crypto::provider, pem, random::random_bytes},
    tls::x509::{Validity, validity},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    sign::CertifiedKey,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A local certificate authority, for development only; clones share its key.
#[derive(Debug, Clone)]
pub struct DevCa {
    certificate: PathBuf,
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// The key of [`DevCa::issue_with_shared_key`].
    shared_key: Arc<OnceLock<KeyPair>>,
}

/// An error of the development CA.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// No environment variable names a data folder.
    #[error("there is no folder for the development CA: set LOCKGATE_DATA to one")]
    NoFolder,
    /// The files could not be written.
    #[error(
        "cannot create the development CA in {path}: is that the right folder (LOCKGATE_DATA, --data), and may this user write to it?"
    )]
    Write {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The files exist but cannot be read.
    #[error(
        "cannot read {path} of the development CA: is that the right folder (LOCKGATE_DATA, --data), and may this user read it?"
    )]
    Read {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The files exist but are unusable. They are never overwritten, because clients may trust them.
    #[error(
        "{path} of the development CA {what}: restore it from a copy, or remove the folder {} so that a new CA is created, \
         which every client must then trust", path.parent().unwrap_or(path).display()
    )]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// A predicate such as "has expired".
        what: String,
    },
    /// Other users may know the key or may have replaced it.
    #[error("{} of the development CA {why}: {hint}", path.display())]
    NotPrivate {
        /// The path of the file or folder.
        path: PathBuf,
        /// The owner or the mode that is wrong.
        why: NotPrivate,
        /// How to fix it.
        hint: &'static str,
    },
    /// A key or certificate could not be created: the name is not allowed in a certificate, or the system returns no
    /// random bytes.
    #[error("cannot create a certificate")]
    Issue(#[source] rcgen::Error),
    /// The created certificate could not be used, which is an internal error.
    #[error("cannot use the created certificate")]
    Use(#[source] rustls::Error),
}

// === impl DevCa ===

impl DevCa {
    /// Opens the CA below `folder`, and creates it if it does not exist. Concurrent processes end up with the same CA.
    ///
    /// # Errors
    /// Fails if the CA can be neither read nor created.
    pub fn open(folder: &Path) -> Result<DevCa, DevCaError> {
        let folder = folder.join(FOLDER);
        if is_empty(&folder)? {
            create(&folder)?;
        }
        read(&folder)
    }

    /// Opens the CA below `folder`, or creates one in memory if it does not exist, to check a configuration.
    ///
    /// # Errors
    /// Fails if the CA exists but cannot be read.
    pub fn open_existing(folder: &Path) -> Result<DevCa, DevCaError> {
        let folder = folder.join(FOLDER);
        if !is_empty(&folder)? {
            return read(&folder);
        }
        let (key, params) = (KeyPair::generate(), authority());
        Ok(DevCa {
            certificate: folder.join(CERTIFICATE),
            issuer: Arc::new(Issuer::new(
                params.map_err(DevCaError::Issue)?,
                key.map_err(DevCaError::Issue)?,
            )),
            shared_key: Arc::default(),
        })
    }

    /// Returns the data folder: `$LOCKGATE_DATA`, otherwise `$XDG_DATA_HOME/lockgate`, otherwise
    /// `$HOME/.local/share/lockgate`.
    ///
    /// # Errors
    /// Fails if none of them is set.
    pub fn default_folder() -> Result<PathBuf, DevCaError> {
        data_folder(|name| std::env::var_os(name).map(PathBuf::from)).ok_or(DevCaError::NoFolder)
    }

    /// Returns the path of the PEM file that clients must trust.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    /// Issues a certificate with a new key for these DNS names and IP addresses. Neither is written to a file.
    ///
    /// # Errors
    /// Fails if a name is not allowed in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<CertifiedKey, DevCaError> {
        self.issue_for(&KeyPair::generate().map_err(DevCaError::Issue)?, names)
    }

    /// Issues a certificate as [`DevCa::issue`] does, with a key that all certificates issued in this way share: within
    /// a handshake it costs only the signature.
    pub(crate) fn issue_with_shared_key(
        &self,
        names: &[String],
    ) -> Result<CertifiedKey, DevCaError> {
        if let Some(key) = self.shared_key.get() {
            return self.issue_for(key, names);
        }
        let generated = KeyPair::generate().map_err(DevCaError::Issue)?;
        self.issue_for(self.shared_key.get_or_init(|| generated), names)
    }

    fn issue_for(&self, key: &KeyPair, names: &[String]) -> Result<CertifiedKey, DevCaError> {
        let certificate = leaf(names)
            .and_then(|leaf| leaf.signed_by(key, &self.issuer))
            .map_err(DevCaError::Issue)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(vec![certificate.into()], key, &provider()).map_err(DevCaError::Use)
    }
}

/// Returns true if the folder is absent or empty.
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
    let metadata = fs::metadata(folder).map_err(|source| DevCaError::Read {
        path: folder.to_owned(),
        source,
    })?;
    check_private(&metadata, WRITABLE_BY_OTHERS).map_err(|why| foreign(folder, why))?;
    let certificate_pem = text(&certificate, WRITABLE_BY_OTHERS)?;
    let key_pem = text(&key, OPEN_TO_OTHERS)?;

    let unusable = |path: &Path, what: String| DevCaError::Unusable {
        path: path.to_owned(),
        what,
    };
    let der = pem::parse_certificate(certificate_pem.as_bytes())
        .map_err(|error| unusable(&certificate, format!("holds no certificate ({error})")))?
        .ok_or_else(|| unusable(&certificate, "holds no certificate".into()))?;
    let key_der = pem::parse_key(key_pem.as_bytes())
        .map_err(|error| unusable(&key, format!("holds no key ({error})")))?
        .ok_or_else(|| unusable(&key, "holds no key".into()))?;
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
        issuer: Arc::new(issuer),
        shared_key: Arc::default(),
    })
}

fn text(path: &Path, denied: u32) -> Result<String, DevCaError> {
    let unusable = |what: &str| DevCaError::Unusable {
        path: path.to_owned(),
        what: what.into(),
    };
    match read_private(path, MAX_FILE_LEN, denied) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| unusable("is not text")),
        Err(PrivateFileError::NotPrivate(why)) => Err(foreign(path, why)),
        Err(PrivateFileError::Read(ReadError::Missing(_))) => Err(unusable("is missing")),
        Err(PrivateFileError::Read(error)) => Err(DevCaError::Read {
            path: path.to_owned(),
            source: io::Error::other(error),
        }),
    }
}

/// Returns the error that another user may know the key.
fn foreign(path: &Path, why: NotPrivate) -> DevCaError {
    let hint = match why {
        NotPrivate::Owner(_) => {
            "the user that created it knows the key. If that was you, run lockgate as that user, or chown it to this one; \
             otherwise set LOCKGATE_DATA to a folder that only this user can write to"
        }
        NotPrivate::Writable(_) => {
            "they may have replaced it. If they have not: chmod go-w the folder, chmod 600 ca.key"
        }
        NotPrivate::Readable(_) => {
            "they can issue certificates that your clients trust. If they have not read it: chmod 600 ca.key"
        }
    };
    DevCaError::NotPrivate {
        path: path.to_owned(),
        why,
        hint,
    }
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

// === impl PrivateDir ===

impl PrivateDir {
    fn create(parent: &Path) -> io::Result<PrivateDir> {
        let random = u64::from_ne_bytes(random_bytes());
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

/// Returns the parameters of the CA's own certificate.
fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(CertificateParams::new([])?, CA_LIFETIME);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(&host_name()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // With a stolen key an attacker can impersonate servers, but cannot sign mail or programs.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn leaf(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    // The subject stays empty: clients check only the subjectAltName (RFC 9525 §2).
    let mut params = dated(CertificateParams::new(names)?, LEAF_LIFETIME);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Returns parameters that are valid from one day ago, to tolerate clock differences, with an empty subject.
fn dated(mut params: CertificateParams, lifetime: Duration) -> CertificateParams {
    // With a clock before 1970 no date is right.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now - DAY;
    params.not_after = epoch + now + lifetime;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// Returns the Common Name. It includes the host name, so that the CAs of several machines differ in one trust store.
fn common_name(host: &str) -> String {
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(MAX_COMMON_NAME_LEN - TITLE.len() - " ()".len())
        .collect();
    if host.is_empty() {
        TITLE.to_owned()
    } else {
        format!("{TITLE} ({host})")
    }
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default()
}

fn data_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    // The XDG base directory specification requires relative paths to be ignored.
    let absolute = |name| set(name).filter(|path| path.is_absolute());
    set("LOCKGATE_DATA")
        .or_else(|| Some(absolute("XDG_DATA_HOME")?.join("lockgate")))
        .or_else(|| Some(absolute("HOME")?.join(".local/share/lockgate")))
}

/// The folder of the CA below the data folder.
const FOLDER: &str = "dev-ca";

const TITLE: &str = "Lockgate development CA";

/// The maximum length of a Common Name (RFC 5280, appendix A: ub-common-name).
const MAX_COMMON_NAME_LEN: usize = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years, because every client must be configured again for a new CA.
const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// Together with the day before now, one day less than the 398 days that Apple's clients accept.
const LEAF_LIFETIME: Duration = Duration::from_secs(396 * DAY.as_secs());

/// The maximum length of each file; each has less than 1 KiB.
const MAX_FILE_LEN: u64 = 64 * 1024;

const CERTIFICATE: &str = "ca.pem";

const KEY: &str = "ca.key";

#[cfg(test)]
mod tests;
