//! Certificates by ACME (RFC 8555): one per host, obtained and renewed automatically.
//!
//! `renewal` has the loops: one renews the certificate of a host, whose state is in `host`, at the time that `schedule`
//! computes; `issuer` orders by `rustls_acme` or `instant_acme`, with the `order` that describes the certificate and
//! the CA. `client` holds what all hosts share: the CA, the account, the store and its lock. `cert_chain` is the format
//! of a stored certificate, `files` checks the files of `[acme]`, and `error` has the causes of failed orders. Open
//! `renewal` first.
//!
//! A host that has a certificate keeps it despite any error here: only a newer certificate replaces it.

pub(crate) mod ca_check;
pub(crate) mod cert_chain;
pub(crate) mod client;
pub(crate) mod dns_hook;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod instant_acme;
pub(crate) mod issuer;
pub(crate) mod order;
pub(crate) mod renewal;
pub(crate) mod rustls_acme;
pub(crate) mod schedule;

use crate::{
    config::{self, Challenge, Config, HostPattern, UntilIssued},
    lifecycle::{
        command::{CertificateStatus, RenewalError},
        inherited::Inherited,
        tasks::Tasks,
    },
    net::{crypto::provider, resolver::Resolver, web_client::WebClient},
    observe::{logging::ErrorChain, metrics::Metrics},
    store::{RetryingStore, dir::DirStore},
    tls::{
        acme::{
            client::AcmeClient, error::GenerateError, files::BadRoots, host::AcmeHost,
            order::CaConfig, schedule::CaClock,
        },
        issued::IssuedCerts,
    },
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{error, warn};

/// The ACME client: obtains certificates and renews them.
pub(crate) struct Acme {
    client: Arc<AcmeClient>,
    tasks: Tasks,
    challenge: Challenge,
    hosts: Mutex<BTreeMap<Box<str>, Arc<AcmeHost>>>,
}

/// Hosts whose state was read from the store and that are not managed yet.
#[derive(Default)]
pub(crate) struct OpenedHosts(BTreeMap<Box<str>, Arc<AcmeHost>>);

// === impl Acme ===

impl Acme {
    /// The name of the store lock in a handover.
    pub(crate) const LOCK: &str = "acme";

    /// Opens the store, whose lock may be `inherited`, and starts the maintenance loop. Manages no name yet. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    /// Fails if `acme.ca_file` cannot be used.
    pub(crate) fn open(
        config: &config::Acme,
        issued: Arc<IssuedCerts>,
        metrics: Arc<Metrics>,
        resolver: Resolver,
        tasks: Tasks,
        inherited: &mut Inherited,
    ) -> Result<Acme, BadRoots> {
        let tls = files::client_config(config.ca_file.as_deref())?;
        if let Some(variable) = config::ignored_proxy_variable(config, |name| env::var(name).ok()) {
            warn!(%variable, "the proxy of this variable is not used for the ACME CA; Lockgate connects directly");
        }
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
            https: WebClient::new(tls.clone(), resolver),
            tls,
            clock: CaClock::default(),
            txt_record_locks: Mutex::default(),
            directory,
        };
        let store = RetryingStore::new(Box::new(DirStore::at(folder)));
        let lock = inherited.take(Acme::LOCK, &absolute_path(&store.location()));
        let client = Arc::new(AcmeClient::new(
            ca,
            store,
            issued,
            metrics,
            config.until_issued,
            config.retry.0,
            lock,
        ));
        let acme = Acme {
            client,
            tasks,
            challenge: config.challenge,
            hosts: Mutex::default(),
        };
        let client = acme.client.clone();
        acme.spawn_loop("acme-store", move || {
            renewal::maintenance_loop(client.clone())
        });
        Ok(acme)
    }

    /// Reads the state of those of `names` that are not managed yet from the store, which may block. Their certificates
    /// are served as soon as a gateway has the names.
    pub(crate) fn open_hosts(&self, names: &BTreeSet<Box<str>>) -> OpenedHosts {
        let missing: Vec<_> = {
            let hosts = self.hosts();
            let missing = names.iter().filter(|name| !hosts.contains_key(*name));
            missing.cloned().collect()
        };
        let opened = missing.into_iter().map(|name| {
            let challenge = if name.starts_with("*.") {
                Challenge::Dns01
            } else {
                self.challenge
            };
            let host = Arc::new(AcmeHost::open(&self.client, &name, challenge));
            (name, host)
        });
        OpenedHosts(opened.collect())
    }

    /// Forgets hosts that were opened for a configuration that was then rejected.
    pub(crate) fn discard(&self, opened: OpenedHosts) {
        for name in opened.0.keys() {
            self.forget(name);
        }
    }

    /// Sets the managed names; `opened` has those that are not managed yet. Names that are already managed are
    /// unchanged.
    pub(crate) fn apply(&self, names: &BTreeSet<Box<str>>, opened: OpenedHosts) {
        let mut hosts = self.hosts();
        hosts.retain(|name, host| {
            let is_kept = names.contains(name);
            if !is_kept {
                host.removed.cancel();
                // Here rather than at the end of the host's task: by that time the name may be configured again.
                self.forget(name);
            }
            is_kept
        });
        for (name, host) in opened.0 {
            if !host.is_served() && self.client.until_issued == UntilIssued::SelfSigned {
                self.serve_self_signed(&name);
            }
            let (client, renewed) = (self.client.clone(), host.clone());
            self.spawn_loop("acme-renewal", move || {
                renewal::renewal_loop(client.clone(), renewed.clone())
            });
            hosts.insert(name, host);
        }
    }

    /// Returns the status of each name, sorted by name.
    pub(crate) fn status(&self) -> Vec<CertificateStatus> {
        let hosts = self.hosts();
        hosts
            .values()
            .map(|host| host.status(&self.client))
            .collect()
    }

    /// Orders a certificate now.
    ///
    /// # Errors
    /// Returns the reason why nothing is ordered, for example that a certificate was issued within a day.
    pub(crate) async fn renew(&self, name: &str) -> Result<(), RenewalError> {
        let host = self.host(name)?;
        if !self.client.try_become_leader().await {
            return Err(RenewalError::OtherProcess);
        }
        host.request_renewal(self.client.now())
    }

    fn host(&self, name: &str) -> Result<Arc<AcmeHost>, RenewalError> {
        let hosts = self.hosts();
        let host = hosts.get(name).cloned();
        host.ok_or_else(|| RenewalError::NotManaged {
            name: name.into(),
            managed: hosts.keys().cloned().collect(),
        })
    }

    /// Returns the location of the store and another descriptor of its lock; `None` if this process does not hold the
    /// lock.
    pub(crate) fn lock(&self) -> Option<io::Result<(String, OwnedFd)>> {
        let lock = self.client.lock()?;
        Some(lock.map(|lock| (absolute_path(&self.client.store.location()), lock)))
    }

    fn forget(&self, name: &str) {
        self.client.issued.clear(name);
        self.client.metrics.remove_certificate(name);
    }

    /// Serves a self-signed certificate, so that the port completes handshakes. No client trusts it.
    fn serve_self_signed(&self, name: &str) {
        match self_signed(name) {
            Ok(key) => self.client.issued.insert(name, Arc::new(key)),
            Err(error) => {
                let error = ErrorChain(&error);
                error!(%name, %error, "cannot create a self-signed certificate");
            }
        }
    }

    fn spawn_loop<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        start: impl FnMut() -> F + Send + 'static,
    ) {
        let stop = self.tasks.stop_token();
        self.tasks.spawn_loop(name, stop, start);
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<AcmeHost>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OpenedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hosts().keys()).finish()
    }
}

fn self_signed(name: &str) -> Result<CertifiedKey, GenerateError> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::from_der(
        vec![certificate.into()],
        key,
        &provider(),
    )?)
}

/// Returns an absolute path, which does not depend on the working directory.
fn absolute_path(location: &str) -> String {
    let absolute = std::path::absolute(location);
    absolute.map_or_else(|_| location.to_owned(), |path| path.display().to_string())
}

/// Returns the folder name of an ACME directory. Each has its own, so that certificates of a staging CA are never
/// served in production.
pub(crate) fn folder(directory: &str) -> String {
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

/// Returns the names of a configuration that can be ordered, wildcards as `*.example.com`; `None` without an `[acme]`
/// section.
///
/// Excluded are addresses and names without a dot, which no public CA certifies, wildcards without `acme.dns`, and the
/// hosts of routes with `acme = false`, unless another route names them too.
pub(crate) fn acme_names(config: &Config) -> Option<BTreeSet<Box<str>>> {
    let acme = config.acme.as_ref()?;
    let routes = config.routes.iter().filter(|route| route.acme);
    let name = |host: &HostPattern| match host {
        HostPattern::Any => None,
        HostPattern::Under(parent) => acme.dns.as_ref().map(|_| format!("*.{parent}").into()),
        HostPattern::Exact(name) => {
            (name.contains('.') && name.parse::<IpAddr>().is_err()).then(|| name.clone())
        }
    };
    Some(
        routes
            .flat_map(|route| route.hosts.iter().filter_map(name))
            .collect(),
    )
}
