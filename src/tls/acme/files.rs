//! The files that `[acme]` names: the roots for the CA's HTTPS certificate, and the programs that change DNS.

use crate::{
    config::{self, Diagnostic, Location},
    net::{
        pem::{self, PemError},
        tls_client,
    },
    observe::logging::ErrorChain,
};
use rustls::ClientConfig;
use std::{
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An error of `acme.ca_file`.
#[derive(Debug, thiserror::Error)]
pub enum BadRoots {
    /// The file is missing or damaged.
    #[error("{} cannot be read as PEM", .path.display())]
    Read {
        /// The value of `acme.ca_file`.
        path: PathBuf,
        /// The error of reading or parsing it.
        #[source]
        source: PemError,
    },
    /// The file contains no CA certificate.
    #[error("{} has no CA certificate", .path.display())]
    None {
        /// The value of `acme.ca_file`.
        path: PathBuf,
    },
}

/// An error of a program in `acme.dns`; the text follows its path.
#[derive(Debug, thiserror::Error)]
enum BadProgram {
    #[error("is not an executable file")]
    NotExecutable,
    #[error("does not exist")]
    Missing,
    #[error("cannot be checked")]
    Metadata(#[source] io::Error),
}

/// Returns the client configuration towards the CA, with the public roots, or only with those of `file`.
pub(crate) fn client_config(file: Option<&Path>) -> Result<Arc<ClientConfig>, BadRoots> {
    let Some(path) = file else {
        return Ok(tls_client::client_config(pem::public_roots()));
    };
    let roots = pem::read_roots(path).map_err(|source| BadRoots::Read {
        path: path.to_owned(),
        source,
    })?;
    if roots.is_empty() {
        return Err(BadRoots::None {
            path: path.to_owned(),
        });
    }
    Ok(tls_client::client_config(Arc::new(roots)))
}

/// Checks the files. `at` is the position of the section.
pub(crate) fn check(acme: &config::Acme, at: Option<Location>, diagnostics: &mut Vec<Diagnostic>) {
    if let Err(error) = client_config(acme.ca_file.as_deref()) {
        diagnostics.push(Diagnostic {
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
        if let Err(error) = executable(program) {
            diagnostics.push(Diagnostic {
                at,
                message: format!("{key}: {} {}", program.display(), ErrorChain(&error)),
                hint: Some("name an executable file; a script needs a first line such as #!/bin/sh, and chmod +x".into()),
            });
        }
    }
}

fn executable(program: &Path) -> Result<(), BadProgram> {
    match std::fs::metadata(program) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(BadProgram::NotExecutable),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(BadProgram::Missing),
        Err(error) => Err(BadProgram::Metadata(error)),
    }
}
