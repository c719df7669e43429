//! The setup of a Pebble: its configuration and the certificates of its API.

use super::{
    Pebble,
    programs::{Ports, acme, dns},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Map, Value, json};
use std::path::Path;
use tempfile::TempDir;
use tokio::sync::watch;

/// Builder of a [`Pebble`].
pub(crate) struct PebbleSetup {
    /// The validity of certificates, in seconds.
    validity: u64,
    /// Key id and base64url of the HMAC key.
    external_accounts: Map<String, Value>,
    /// The percentage of nonces that Pebble rejects.
    nonce_reject: u8,
    /// Ports for the validation by http-01 and tls-alpn-01.
    validation: Option<(u16, u16)>,
}

// === impl PebbleSetup ===

impl PebbleSetup {
    pub(super) fn new() -> PebbleSetup {
        PebbleSetup {
            validity: 90 * 24 * 60 * 60,
            external_accounts: Map::new(),
            nonce_reject: 0,
            validation: None,
        }
    }

    /// Sets the validity of issued certificates.
    pub(crate) fn validity(mut self, seconds: u64) -> PebbleSetup {
        self.validity = seconds;
        self
    }

    /// Requires an external account binding (RFC 8555 §7.3.4) with this key, or another key added before.
    pub(crate) fn eab(mut self, kid: &str, hmac_base64url: &str) -> PebbleSetup {
        self.external_accounts
            .insert(kid.into(), hmac_base64url.into());
        self
    }

    /// Sets the percentage of valid nonces that are refused.
    pub(crate) fn nonce_reject(mut self, percent: u8) -> PebbleSetup {
        self.nonce_reject = percent;
        self
    }

    /// Sets the ports for validation: the listeners of the test's Lockgate.
    pub(crate) fn ports(mut self, http: u16, tls: u16) -> PebbleSetup {
        self.validation = Some((http, tls));
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(self) -> Pebble {
        // Another process may take a port before Pebble binds it.
        let mut last_log = String::new();
        for _ in 0..5 {
            match self.attempt().await {
                Ok(pebble) => return pebble,
                Err(log) => last_log = log,
            }
        }
        panic!("Pebble does not start, the last time with:\n{last_log}");
    }

    async fn attempt(&self) -> Result<Pebble, String> {
        let folder = TempDir::new().expect("a temporary folder");
        let ports = Ports::free();
        certificates(folder.path());
        let config = self.config(&ports).to_string();
        std::fs::write(folder.path().join("pebble.json"), config).expect("it is writable");
        let log = watch::Sender::default();
        let (dns, [dns_out, dns_err]) = dns(&ports, &log);
        let (acme, [acme_out, acme_err]) = acme(folder.path(), &ports, self.nonce_reject, &log);
        let mut pebble = Pebble {
            folder,
            ports,
            nonce_reject: self.nonce_reject,
            acme: Some(acme),
            _dns: dns,
            reserved: vec![],
            log: log.clone(),
        };
        if pebble.ready().await {
            return Ok(pebble);
        }
        drop(pebble);
        // The rest of their output.
        for reader in [dns_out, dns_err, acme_out, acme_err] {
            let _ = reader.await;
        }
        Err(log.borrow().clone())
    }

    fn config(&self, ports: &Ports) -> Value {
        let (http, tls) = self.validation.expect("`ports` sets the validation ports");
        json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.api),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": "api.pem",
            "privateKey": "api.key",
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": !self.external_accounts.is_empty(),
            "externalAccountMACKeys": self.external_accounts,
            "certificateValidityPeriod": self.validity,
        }})
    }
}

/// A CA and a certificate of it for the API.
fn certificates(folder: &Path) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name
        .push(DnType::CommonName, "CA of Pebble's API");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key"));
    let ca = ca.expect("a CA");
    let mut api = CertificateParams::new(["localhost", "127.0.0.1", "ca.test"].map(Into::into))
        .expect("names");
    api.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let api = api.signed_by(&key, &ca).expect("a certificate");
    for (file, pem) in [
        ("ca.pem", ca.pem()),
        ("api.pem", api.pem()),
        ("api.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(file), pem).expect("the folder is writable");
    }
}
