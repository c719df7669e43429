//! `lockgate cert`: the development CA.

use crate::{
    cli::{args::DataArgs, files::read_files, output::print},
    observe::logging::ErrorChain,
    tls::{
        certs::CertIssuers,
        dev::{DevCa, DevCaError},
        nss,
        trust::{self, TrustError},
    },
};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Prints the path of the CA's certificate; creates the CA if there is none yet.
pub(crate) fn ca(data: &DataArgs) -> anyhow::Result<ExitCode> {
    let data = data.data.clone();
    let dev = read_files(move || {
        let data = data.as_deref();
        if !peek(data)?.certificate_path().exists() {
            eprintln!(
                "there is no development CA yet: creating one; run `lockgate cert trust` to make this machine trust it"
            );
        }
        open(data)
    })??;
    print(dev.certificate_path().display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the browsers of this user and the machine trust the CA where Lockgate can do so; elsewhere prints the steps.
pub(crate) fn trust(data: &DataArgs) -> anyhow::Result<ExitCode> {
    let data = data.data.clone();
    let dev = read_files(move || open(data.as_deref()))??;
    let ca = dev.certificate_path();
    let home = env::var_os("HOME").map(PathBuf::from);
    let (browsers, result) = match home.filter(|home| home.is_absolute()) {
        Some(home) => nss::trust(&home, ca),
        None => (String::new(), Ok(())),
    };
    if !browsers.is_empty() {
        print(browsers.trim_end());
    }
    if let Err(error) = &result {
        eprintln!("browsers: {}", ErrorChain(error));
    }
    match trust::trust(ca) {
        // Not possible here: print the manual steps.
        Err(TrustError::Unknown) => print(trust::trust_commands(ca)),
        trusted => print(trusted?),
    }
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Opens the CA as [`open`] does, but writes nothing.
pub(crate) fn peek(data: Option<&Path>) -> anyhow::Result<DevCa> {
    Ok(DevCa::open_existing(&folder(data)?)?)
}

/// Opens the CA in `data`, or in the user's data folder; creates it if there is none yet.
pub(crate) fn open(data: Option<&Path>) -> anyhow::Result<DevCa> {
    Ok(DevCa::open(&folder(data)?)?)
}

/// Returns the issuers for a gateway that is built only to be checked: the development CA, and no ACME.
pub(crate) fn issuers(dev: Option<&DevCa>) -> CertIssuers<'_> {
    CertIssuers {
        dev,
        ..CertIssuers::default()
    }
}

/// Returns the user's data folder.
pub(crate) fn folder(data: Option<&Path>) -> Result<PathBuf, DevCaError> {
    data.map_or_else(DevCa::default_folder, |folder| Ok(folder.to_owned()))
}
