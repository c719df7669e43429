//! Checks that need no network: descriptors, the clock, certificates.

use super::{Finding, FindingStatus};
use crate::{config::Config, lifecycle::descriptors};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Checks the machine, independent of the configuration.
pub(super) fn check_machine() -> Vec<Finding> {
    vec![file_descriptors(), clock()]
}

fn file_descriptors() -> Finding {
    let descriptors = descriptors::raise_nofile_limit();
    let seen = format!(
        "the limit is {descriptors}, enough for {} sessions",
        descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2
    );
    match descriptors {
        0..RECOMMENDED_DESCRIPTORS => Finding::new(
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
    match now < RELEASE_DATE {
        true => Finding::new(
            FindingStatus::Fail,
            "clock",
            format!(
                "{shown} is before the release of this program, so certificates are not valid yet: set the clock, or start NTP"
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
                1..RENEWAL_DAYS => FindingStatus::Warn,
                _ => FindingStatus::Ok,
            };
            let seen = format!("valid until {until}; days left: {days}");
            Some(Finding::new(state, file.display().to_string(), seen))
        })
        .collect()
}

/// The approximate number of descriptors that are not available for sessions.
const RESERVED_DESCRIPTORS: usize = 48;
/// The recommended minimum: the usual default of 1024 is too small for production.
const RECOMMENDED_DESCRIPTORS: usize = 4096;
/// The number of days before expiry by which a certificate should have been renewed.
const RENEWAL_DAYS: i64 = 14;
/// 2026-01-01, in Unix time: no release is older.
const RELEASE_DATE: Duration = Duration::from_secs(1_767_225_600);
