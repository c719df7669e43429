//! Names, validity and issuer of a certificate, and their forms for lookup and display. Names and dates are checked by
//! webpki, the verifier of rustls clients.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};
use webpki::{EndEntityCert, Error, KeyUsage};

/// The validity and kind of a certificate at one point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Within its dates, and not a CA.
    Leaf,
    /// Within its dates, and a CA.
    Authority,
    /// After `notAfter`.
    Expired,
    /// Before `notBefore`, often because of a wrong clock.
    NotYet,
}

/// Returns the validity of the certificate at `now`.
pub(crate) fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<Validity, Error> {
    // webpki checks the dates and the CA flag before any issuer, so no issuer is passed.
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

/// Returns why a certificate is not valid at `now` according to its dates, with the remedy; `None` if it is valid.
pub(crate) fn date_problem(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let info = cert_info(certificate)?;
    match validity(certificate, now) {
        Ok(Validity::Expired) => Some(format!("expired on {}; renew it", date(info.not_after))),
        Ok(Validity::NotYet) => Some(format!(
            "not valid before {}; is the clock right?",
            date(info.not_before)
        )),
        _ => None,
    }
}

/// Returns true if the certificate may sign others (RFC 5280 §4.2.1.9).
pub(crate) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// Returns the DNS names and then the IP addresses of a certificate, in lower case and in the certificate's order.
///
/// The Common Name is ignored, as it is by clients (RFC 9525 §2).
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<Box<str>>, Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let mut names: Vec<_> = certificate.valid_dns_names().map(normalize_sni).collect();
    names.extend(
        addresses(&certificate)
            .iter()
            .map(|address| address.to_string().into()),
    );
    Ok(names)
}

/// Returns the IP addresses of a certificate. webpki lists them only in the error for a name that does not match, as
/// `IpAddress(127.0.0.1)`; each is then verified by its own query.
fn addresses(certificate: &EndEntityCert<'_>) -> Vec<IpAddr> {
    let unspecified = ServerName::from(IpAddr::from([0; 16]));
    let Err(Error::CertNotValidForName(context)) =
        certificate.verify_is_valid_for_subject_name(&unspecified)
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

/// The fields of a certificate that are logged and displayed. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertInfo {
    /// The DNS names and IP addresses, in lower case.
    pub(crate) names: Vec<Box<str>>,
    /// The Common Name of the issuer, or the whole distinguished name if it has none.
    pub(crate) issuer: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Parses a certificate. Returns `None` if the bytes are not a certificate.
pub(crate) fn cert_info(certificate: &CertificateDer<'_>) -> Option<CertInfo> {
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

/// Returns a server name in the form used for certificate lookup: lower case and without a trailing dot, because DNS
/// ignores both (RFC 6066 §3).
pub(crate) fn normalize_sni(name: &str) -> Box<str> {
    name.strip_suffix('.')
        .unwrap_or(name)
        .to_ascii_lowercase()
        .into()
}

/// Formats seconds since 1970 as RFC 3339.
pub(crate) fn date(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST_DATE);
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The last second of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;
