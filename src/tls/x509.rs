//! What we must know of a certificate, asked of webpki, the judge that rustls clients use: its names and its dates.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::acceptor::normalize_sni;

/// What a certificate's dates and constraints say today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// In its dates, and not a CA.
    Leaf,
    /// In its dates, and a CA.
    Authority,
    /// After its last day.
    Expired,
    /// Before its first day: often a wrong clock.
    NotYet,
}

/// How the certificate stands at `now`.
pub(super) fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<Validity, Error> {
    // The dates and the CA flag are looked at before any issuer, and no issuer is given.
    let usage = KeyUsage::server_auth();
    match EndEntityCert::try_from(certificate)?
        .verify_for_usage(&[], &[], &[], now, usage, None, None)
        .err()
    {
        Some(Error::CertExpired { .. }) => Ok(Validity::Expired),
        Some(Error::CertNotValidYet { .. }) => Ok(Validity::NotYet),
        Some(Error::CaUsedAsEndEntity) => Ok(Validity::Authority),
        _ => Ok(Validity::Leaf),
    }
}

/// Whether it may sign others (RFC 5280 §4.2.1.9).
pub(super) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// The DNS names and addresses of a certificate, in lower case, in its order, DNS first.
///
/// A Common Name does not count: no client has believed one for years (RFC 9525 §2).
pub(super) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<Box<str>>, Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let mut names: Vec<_> = certificate.valid_dns_names().map(normalize_sni).collect();
    names.extend(
        addresses(&certificate)
            .iter()
            .map(|address| address.to_string().into()),
    );
    Ok(names)
}

/// webpki lists addresses only when it says which names it found instead of the one that was asked for, as
/// `IpAddress(127.0.0.1)`. Each is then checked by asking for it.
fn addresses(certificate: &EndEntityCert<'_>) -> Vec<IpAddr> {
    let nobody = ServerName::from(IpAddr::from([0; 16]));
    let Err(Error::CertNotValidForName(context)) =
        certificate.verify_is_valid_for_subject_name(&nobody)
    else {
        return Vec::new();
    };
    context
        .presented
        .iter()
        .filter_map(|name| name.strip_prefix("IpAddress(")?.strip_suffix(')'))
        .filter_map(|address| address.parse().ok())
        .filter(|address: &IpAddr| {
            certificate
                .verify_is_valid_for_subject_name(&ServerName::from(*address))
                .is_ok()
        })
        .collect()
}

/// What people want to know of a certificate. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertInfo {
    /// Its DNS names and addresses, in lower case.
    pub(super) names: Vec<Box<str>>,
    /// The Common Name of its issuer, or all of its name.
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// `None` for what is no certificate.
pub(super) fn cert_info(certificate: &CertificateDer<'_>) -> Option<CertInfo> {
    let names = names(certificate).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let common_name = parsed.issuer().iter_common_name().next();
    let issuer = match common_name.and_then(|name| name.as_str().ok()) {
        Some(name) => name.to_owned(),
        None => parsed.issuer().to_string(),
    };
    Some(CertInfo {
        names,
        issuer,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}
