//! Pebble, an echo backend, and the configuration of a Lockgate that obtains certificates from Pebble.

use crate::harness::{
    Backend, Lockgate, Pebble, PebbleSetup, eventually_within, free_port, observe,
    web::{trusting, unverified},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use std::{
    fmt::Write,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};

/// Longer than any successful order: an issuance takes 3 s, more on a loaded machine, and the fourth of several
/// attempts is made after half a minute.
const TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) struct AcmeFixture {
    pub(crate) pebble: Pebble,
    pub(crate) backend: SocketAddr,
    pub(crate) https: u16,
    pub(crate) http: u16,
    /// Outlives every Lockgate of the test.
    pub(crate) folder: TempDir,
}

// === impl AcmeFixture ===

impl AcmeFixture {
    pub(crate) async fn new() -> AcmeFixture {
        AcmeFixture::with(|pebble| pebble).await
    }

    /// Creates a fixture with a changed setup of Pebble.
    pub(crate) async fn with(change: impl FnOnce(PebbleSetup) -> PebbleSetup) -> AcmeFixture {
        let (http, https) = (free_port(), free_port());
        AcmeFixture {
            pebble: change(Pebble::setup().ports(http, https)).start().await,
            backend: Backend::echo().await,
            https,
            http,
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Directory of the certificates from the CA with this directory URL.
    pub(crate) fn store_of(&self, directory: &str) -> PathBuf {
        let port = directory
            .trim_start_matches("https://localhost:")
            .trim_end_matches("/dir");
        self.storage()
            .join("acme")
            .join(format!("localhost-{port}-dir"))
    }

    /// Returns a configuration for these hosts with further lines for `[acme]`, which may set another directory URL.
    pub(crate) fn config(&self, hosts: &[&str], acme: &str) -> String {
        let mut config = format!(
            "[server]\nhttps = [\"127.0.0.1:{}\"]\nhttp = [\"127.0.0.1:{}\"]\naccess = \"off\"\n[acme]\nca_file = {:?}\nretry = \"1s\"\n{acme}\n",
            self.https,
            self.http,
            self.pebble.ca(),
        );
        for (key, value) in [
            ("directory", self.pebble.directory()),
            ("storage", self.storage().display().to_string()),
        ] {
            if !acme.contains(&format!("{key} = ")) {
                writeln!(config, "{key} = {value:?}").expect("a String");
            }
        }
        let backend = self.backend;
        write!(
            config,
            "[[routes]]\nhosts = {hosts:?}\nto = \"ws://{backend}\"\norigins = [\"*\"]\n"
        )
        .expect("a String");
        config
    }

    pub(crate) async fn start(&self, hosts: &[&str], acme: &str) -> Lockgate {
        Lockgate::with_file(&self.config(hosts, acme)).start().await
    }

    /// Obtains certificates for these hosts with a Lockgate that exits afterwards.
    pub(crate) async fn prepare(&self, hosts: &[&str]) {
        let mut lockgate = self.start(hosts, "").await;
        for host in hosts {
            issued(&lockgate, host).await;
        }
        stop(&mut lockgate).await;
    }

    /// The stored leaf certificate of a host, DER-encoded.
    pub(crate) fn leaf_of(&self, host: &str) -> Vec<u8> {
        let file = self
            .store_of(&self.pebble.directory())
            .join(format!("{host}.pem"));
        let chain = CertificateDer::pem_file_iter(file).expect("it is kept");
        let leaf = chain.into_iter().next().expect("a certificate");
        leaf.expect("PEM").to_vec()
    }

    /// The leaf certificate presented to a client that trusts only Pebble's root, DER-encoded.
    pub(crate) async fn leaf(&self, host: &str) -> io::Result<Vec<u8>> {
        let root = self.pebble.root().await;
        leaf(&Trust::Root(root), host, self.https).await
    }
}

/// Certificates that a client accepts.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Those issued by this root.
    Root(PathBuf),
    /// Any certificate; only the handshake signature is verified.
    Everything,
}

/// The leaf certificate presented to a client, DER-encoded.
pub(crate) async fn leaf(trust: &Trust, host: &str, port: u16) -> io::Result<Vec<u8>> {
    let connector = match trust {
        Trust::Root(root) => trusting(root),
        Trust::Everything => unverified(),
    };
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let connected = async {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let stream = connector.connect(name, tcp).await?;
        let chain = stream.get_ref().1.peer_certificates().expect("TLS has one");
        Ok(chain[0].to_vec())
    };
    timeout(TIMEOUT, connected).await.expect("a handshake")
}

/// Waits until the host's row of `cert list` meets the condition. Returns the row.
pub(crate) async fn until(
    lockgate: &Lockgate,
    host: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    eventually_within(TIMEOUT, &format!("the row of {host}"), async || {
        let rows = lockgate.certificates().await;
        let row = rows.into_iter().find(|row| row["host"] == host);
        observe(row.expect("the host is listed"), &condition)
    })
    .await
}

/// Waits until the host has a certificate.
pub(crate) async fn issued(lockgate: &Lockgate, host: &str) -> Value {
    until(lockgate, host, |row| row["not_after"].is_string()).await
}

/// Waits until an order for the host has failed with an error that contains `error`.
pub(crate) async fn failed(lockgate: &Lockgate, host: &str, error: &str) -> Value {
    let has_error = |row: &Value| {
        row["error"]
            .as_str()
            .is_some_and(|text| text.contains(error))
    };
    until(lockgate, host, has_error).await
}

pub(crate) async fn stop(lockgate: &mut Lockgate) {
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0), "{}", lockgate.stderr());
}
