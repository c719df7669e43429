//! The trust roots for the CA's HTTPS certificate, and checks of the files that `[acme]` names.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{self, Diagnostic, Location};
use crate::observe::ErrorChain;
use crate::tls::policy::provider;

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
pub(super) fn client_config(file: Option<&Path>) -> Result<Arc<ClientConfig>, BadRoots> {
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
pub fn check(acme: &config::Acme, at: Option<Location>, problems: &mut Vec<Diagnostic>) {
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
