//! Checks for `lockgate doctor`: whether the CA answers, and whether the store can be written. Neither leaves a trace:
//! no account, no order, no file.

use crate::{
    config,
    net::{resolver::Resolver, web_client::WebClient},
    store::dir::DirStore,
    tls::acme::{
        error::AcmeError,
        files::{self, BadRoots},
        folder,
        schedule::CaClock,
    },
};
use std::io;

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaCheckError {
    #[error(transparent)]
    Roots(#[from] BadRoots),
    #[error(transparent)]
    Acme(#[from] AcmeError),
}

/// Requests the directory of the CA, with the deadline of every request to it. Returns how far the clock of this
/// machine is from that of the CA, if that is much.
///
/// # Errors
/// Fails if the CA does not answer, or not with a directory.
pub(crate) async fn check_ca(
    acme: &config::Acme,
    resolver: Resolver,
) -> Result<Option<String>, CaCheckError> {
    let tls = files::client_config(acme.ca_file.as_deref())?;
    let clock = CaClock::default();
    let https = WebClient::new(tls, resolver);
    clock.query(&https, acme.directory.url()).await?;
    Ok(clock.warning())
}

/// Creates and removes a file where the certificates of the CA are stored. Directories that do not exist yet are not
/// created: the file is then made in the nearest one that does.
///
/// # Errors
/// Fails with the error of the system, or if another user may write there.
pub(crate) fn check_store(acme: &config::Acme) -> io::Result<()> {
    let folder = acme.storage.join("acme").join(folder(acme.directory.url()));
    DirStore::at(folder).check_writable()
}
