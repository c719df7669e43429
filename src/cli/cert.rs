//! `lockgate cert`: the development CA.

use super::{args::DataArgs, print};
use crate::tls::{self, CertIssuers, DevCa, DevCaError, TrustError};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Prints where the CA's certificate is.
pub(super) fn ca(data: &DataArgs) -> anyhow::Result<ExitCode> {
    let data = data.data.as_deref();
    if !peek(data)?.certificate_path().exists() {
        eprintln!("there was none: it is made now, and nobody trusts it yet");
    }
    print(open(data)?.certificate_path().display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the machine trust the CA where that can be done from here; elsewhere says how.
pub(super) fn trust(data: &DataArgs) -> anyhow::Result<ExitCode> {
    let dev = open(data.data.as_deref())?;
    match tls::trust(dev.certificate_path()) {
        // Not from here: then by hand.
        Err(TrustError::Unknown) => print(tls::trust_commands(dev.certificate_path())),
        done => print(done?),
    }
    Ok(ExitCode::SUCCESS)
}

/// As [`open`], but nothing is written.
pub(super) fn peek(data: Option<&Path>) -> anyhow::Result<DevCa> {
    Ok(DevCa::open_existing(&folder(data)?)?)
}

/// The CA in `data`, or in the user's data folder; made if there is none yet.
pub(super) fn open(data: Option<&Path>) -> anyhow::Result<DevCa> {
    Ok(DevCa::open(&folder(data)?)?)
}

/// For a gateway that is built and not run: ACME has laid out nothing.
pub(super) fn issuers(dev: Option<&DevCa>) -> CertIssuers<'_> {
    CertIssuers {
        dev,
        ..CertIssuers::default()
    }
}

/// Where the user's data is.
pub(super) fn folder(data: Option<&Path>) -> Result<PathBuf, DevCaError> {
    data.map_or_else(DevCa::default_folder, |folder| Ok(folder.to_owned()))
}
