//! Checks that need no network: descriptors, the clock, certificates.

use super::{Finding, FindingStatus};
use crate::{config::Config, lifecycle::descriptors};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Checks the machine, independent of the configuration.
pub(super) fn look() -> Vec<Finding> {
    vec![file_descriptors(), clock()]
}

fn file_descriptors() -> Finding {
    let descriptors = descriptors::raise_nofile_limit();
    let seen = format!(
        "{descriptors} at most, so {} sessions",
        descriptors.saturating_sub(RESERVED) / 2
    );
    match descriptors {
        0..FEW => Finding::new(
            FindingStatus::Warn,
            "file descriptors",
            format!("{seen}; raise LimitNOFILE (systemd) or ulimit -n for more"),
        ),
        _ => Finding::new(FindingStatus::Ok, "file descriptors", seen),
    }
}

fn clock() -> Finding {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let shown = humantime::format_rfc3339_seconds(UNIX_EPOCH + now);
    match now < RELEASED {
        true => Finding::new(
            FindingStatus::Fail,
            "clock",
            format!(
                "{shown} is before this program was made; certificates will not hold: set it, or start NTP"
            ),
        ),
        false => Finding::new(FindingStatus::Ok, "clock", shown.to_string()),
    }
}

/// Checks how long each certificate in a file is still valid. Other errors are reported by `check`.
pub(super) fn certificates(config: &Config) -> Vec<Finding> {
    let files = config.tls.certificates.iter().map(|pair| &pair.value.cert);
    files
        .filter_map(|file| {
            let der = CertificateDer::from_pem_file(file).ok()?;
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            let left = certificate.validity().time_to_expiration();
            let days = left.map_or(0, |left| left.whole_days());
            let until = certificate.validity().not_after;
            let state = match days {
                ..=0 => FindingStatus::Fail,
                1..SOON => FindingStatus::Warn,
                _ => FindingStatus::Ok,
            };
            let seen = format!("holds until {until}; days left: {days}");
            Some(Finding::new(state, file.display().to_string(), seen))
        })
        .collect()
}

/// The number of descriptors that Lockgate reserves for itself.
const RESERVED: usize = 48;
/// The recommended minimum: the default limit of a shell is lower and too small for production.
const FEW: usize = 4096;
/// The number of days before expiry in which a certificate should already have been renewed.
const SOON: i64 = 14;
/// 2026-01-01.
const RELEASED: Duration = Duration::from_secs(1_767_225_600);
