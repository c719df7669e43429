//! The CAs that a guard trusts for the service that it asks.

use crate::{
    config::{Diagnostic, Located},
    net::{pem, tls_client},
};
use rustls::ClientConfig;
use std::{path::PathBuf, sync::Arc};

/// Returns the TLS configuration towards a service: with the public roots, or only with those of the file `ca`. Returns
/// `None` after an error.
pub(crate) fn client_config(
    ca: Option<&Located<PathBuf>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<ClientConfig>> {
    let Some(ca) = ca else {
        return Some(tls_client::client_config(pem::public_roots()));
    };
    let message = match pem::read_roots(&ca.value) {
        Ok(roots) if roots.is_empty() => format!("{} has no certificate", ca.value.display()),
        Ok(roots) => return Some(tls_client::client_config(Arc::new(roots))),
        Err(error) => error.to_string(),
    };
    diagnostics.push(Diagnostic {
        at: ca.at,
        message,
        hint: Some("name a PEM file with the CA of the service's HTTPS server".to_owned()),
    });
    None
}
