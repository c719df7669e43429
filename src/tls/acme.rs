//! Certificates by ACME (RFC 8555): one per host, obtained and renewed automatically.
//!
//! `keeper` runs the renewal loop of one host and `host` holds its state; `pace` computes when to order, `wish` orders
//! a certificate by `state` (rustls-acme) or `order` (instant-acme), and `failure` has the errors. `agency` holds what
//! all hosts share: the store, the `account`, and the CA with its `clock`, reached through `web`.
//!
//! A host that has a certificate keeps it despite any error here: only a newer certificate replaces it.

mod account;
mod agency;
mod bundle;
mod clock;
mod failure;
mod hook;
mod host;
mod keeper;
mod names;
mod order;
mod pace;
mod roots;
mod state;
mod steward;
mod web;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tracing::error;

use self::agency::AcmeClient;
use self::clock::CaClock;
use self::host::AcmeHost;
use self::web::HttpsClient;
use self::wish::CaConfig;
use super::IssuedCerts;
use super::policy::provider;
use super::store::{DirStore, WriteBehindStore};
use crate::config::{self, Challenge, UntilIssued};
use crate::lifecycle::{CertificateStatus, Inherited, Tasks};
use crate::observe::Metrics;

pub(super) use self::host::date;
pub use self::names::acme_names;
pub use self::roots::{BadRoots, check as check_acme};

/// The ACME client: obtains certificates and renews them.
pub struct Acme {
    agency: Arc<AcmeClient>,
    tasks: Tasks,
    challenge: Challenge,
    hosts: Mutex<BTreeMap<Box<str>, Arc<AcmeHost>>>,
}

// === impl Acme ===

impl Acme {
    /// The name of the store lock in a handover.
    pub const LOCK: &str = "acme";

    /// Starts only the maintenance loop of the store, whose lock may be `inherited`. Must be called inside a runtime.
    ///
    /// # Errors
    /// Fails if `acme.ca_file` cannot be used.
    pub fn open(
        config: &config::Acme,
        shelf: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
        inherited: &mut Inherited,
    ) -> Result<Acme, BadRoots> {
        let tls = roots::client_config(config.ca_file.as_deref())?;
        let directory = config.directory.url().to_owned();
        let eab = (!config.eab.kid.is_empty()).then(|| config.eab.clone());
        let folder = config.storage.join("acme").join(folder(&directory));
        let ca = CaConfig {
            contact: config
                .contact
                .iter()
                .map(|contact| contact.mailto())
                .collect(),
            eab,
            dns: config.dns.clone(),
            web: HttpsClient::new(tls.clone()),
            tls,
            clock: CaClock::default(),
            records: Mutex::default(),
            directory,
        };
        let store = WriteBehindStore::new(Box::new(DirStore::at(folder)));
        let lock = inherited.take(Acme::LOCK, &absolute_path(&store.place()));
        let agency = Arc::new(AcmeClient::new(
            ca,
            store,
            shelf,
            metrics,
            config.until_issued,
            config.retry.0,
            lock,
        ));
        let acme = Acme {
            agency,
            tasks,
            challenge: config.challenge,
            hosts: Mutex::default(),
        };
        acme.spawn(steward::maintenance_loop(acme.agency.clone()));
        Ok(acme)
    }

    /// Sets the managed names. Names that are already managed are unchanged; a certificate in the store is served when
    /// this function returns.
    pub fn apply(&self, wanted: &BTreeSet<Box<str>>) {
        let mut hosts = self.hosts();
        hosts.retain(|name, host| {
            let stays = wanted.contains(name);
            if !stays {
                host.removed.cancel();
                // Here rather than at the end of its task: by that time the name may be configured again.
                self.agency.shelf.clear(name);
                self.agency.metrics.remove_certificate(name);
            }
            stays
        });
        for name in wanted {
            if hosts.contains_key(name) {
                continue;
            }
            let challenge = match name.starts_with("*.") {
                true => Challenge::Dns01,
                false => self.challenge,
            };
            let host = Arc::new(AcmeHost::open(&self.agency, name, challenge));
            if !host.is_served() && self.agency.until_issued == UntilIssued::SelfSigned {
                self.serve_self_signed(name);
            }
            self.spawn(keeper::renewal_loop(self.agency.clone(), host.clone()));
            hosts.insert(name.clone(), host);
        }
    }

    /// Returns one row per name, sorted.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let hosts = self.hosts();
        hosts
            .values()
            .map(|host| host.status(&self.agency))
            .collect()
    }

    /// Orders a certificate now.
    ///
    /// # Errors
    /// Returns a message if the name is not managed here, or if a certificate was issued within a day.
    pub fn renew(&self, name: &str) -> Result<(), String> {
        let hosts = self.hosts();
        let Some(host) = hosts.get(name) else {
            let known: Vec<&str> = hosts.keys().map(|name| &**name).collect();
            let known = match known.is_empty() {
                true => "none is".to_owned(),
                false => format!("these are: {}", known.join(", ")),
            };
            return Err(format!("{name} has no certificate by ACME here; {known}"));
        };
        if !self.agency.try_become_leader() {
            return Err(
                "another process orders the certificates in this folder: ask that one".into(),
            );
        }
        host.request_renewal(self.agency.now())
    }

    /// Returns the location whose lock this process holds and another descriptor of the lock; `None` if it holds none.
    pub fn lock(&self) -> Option<io::Result<(String, OwnedFd)>> {
        let lock = self.agency.lock()?;
        Some(lock.map(|lock| (absolute_path(&self.agency.store.place()), lock)))
    }

    /// Serves a self-signed certificate, so that the port completes handshakes. No client trusts it.
    fn serve_self_signed(&self, name: &str) {
        match self_signed(name) {
            Ok(key) => self.agency.shelf.insert(name, Arc::new(key)),
            Err(error) => error!(%name, %error, "cannot make a self-signed certificate"),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = tasks.stopping() => {}
            }
        });
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<AcmeHost>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hosts().keys()).finish()
    }
}

fn self_signed(name: &str) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::from_der(
        vec![certificate.into()],
        key,
        &provider(),
    )?)
}

/// Returns an absolute path, so that the same directory has one name whatever the working directory is.
fn absolute_path(place: &str) -> String {
    let absolute = std::path::absolute(place);
    absolute.map_or_else(|_| place.to_owned(), |path| path.display().to_string())
}

/// Returns the folder name of an ACME directory. Each has its own, so that certificates of a staging CA are never served
/// in production.
fn folder(directory: &str) -> String {
    let url = directory
        .trim_start_matches("https://")
        .trim_end_matches('/');
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    url.chars().map(plain).collect()
}
