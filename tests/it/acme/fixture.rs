//! Pebble, a backend and a Lockgate between them, on ports that Pebble knows.

use crate::harness::{
    Backend, Lockgate, Pebble, PebbleSetup,
    web::{credulous, trusting},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use std::{
    fmt::Write,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Longer than any order takes that is not meant to fail: an issue takes 3 s, and machines are loaded.
const PATIENCE: Duration = Duration::from_secs(45);

pub(crate) struct Rig {
    pub(crate) pebble: Pebble,
    pub(crate) backend: SocketAddr,
    pub(crate) https: u16,
    pub(crate) http: u16,
    /// Outlives every Lockgate of the test.
    pub(crate) folder: TempDir,
}

// === impl Rig ===

impl Rig {
    pub(crate) async fn new() -> Rig {
        Rig::with(|pebble| pebble).await
    }

    /// With a Pebble that is not as usual.
    pub(crate) async fn with(change: impl FnOnce(PebbleSetup) -> PebbleSetup) -> Rig {
        let held = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        let [http, https] = held.map(|held| {
            let address = held.and_then(|held| held.local_addr());
            address.expect("a port is free").port()
        });
        Rig {
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

    /// Where Lockgate puts the files of Pebble's certificates.
    pub(crate) fn kept(&self, directory: &str) -> PathBuf {
        let port = directory
            .trim_start_matches("https://localhost:")
            .trim_end_matches("/dir");
        self.storage()
            .join("acme")
            .join(format!("localhost-{port}-dir"))
    }

    /// A configuration for these hosts, with more lines for `[acme]`, which may name another directory.
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

    /// Gets certificates for these hosts, and stops again.
    pub(crate) async fn prepare(&self, hosts: &[&str]) {
        let mut lockgate = self.start(hosts, "").await;
        for host in hosts {
            issued(&lockgate, host).await;
        }
        stop(&mut lockgate).await;
    }

    /// The file that is kept for a host.
    pub(crate) fn leaf_of(&self, host: &str) -> Vec<u8> {
        let file = self
            .kept(&self.pebble.directory())
            .join(format!("{host}.pem"));
        let chain = CertificateDer::pem_file_iter(file).expect("it is kept");
        let leaf = chain.into_iter().next().expect("a certificate");
        leaf.expect("PEM").to_vec()
    }

    /// The certificate that a client is shown which believes Pebble alone, in DER.
    pub(crate) async fn leaf(&self, host: &str) -> io::Result<Vec<u8>> {
        let root = self.pebble.root().await;
        leaf(&Believing::Root(root), host, self.https).await
    }
}

/// What a client takes for good.
#[derive(Debug)]
pub(crate) enum Believing {
    /// What this CA has issued.
    Root(PathBuf),
    /// Anything that is signed with the key that it shows.
    Everything,
}

/// The certificate that this client is shown, in DER.
pub(crate) async fn leaf(believing: &Believing, host: &str, port: u16) -> io::Result<Vec<u8>> {
    let connector = match believing {
        Believing::Root(root) => trusting(root),
        Believing::Everything => credulous(),
    };
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let connected = async {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let stream = connector.connect(name, tcp).await?;
        let chain = stream.get_ref().1.peer_certificates().expect("TLS has one");
        Ok(chain[0].to_vec())
    };
    timeout(PATIENCE, connected).await.expect("a handshake")
}

/// Waits until `cert list` shows of this host what is wanted, and gives that row.
pub(crate) async fn until(
    lockgate: &Lockgate,
    host: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let started = Instant::now();
    loop {
        let rows = lockgate.certificates().await;
        let row = rows.into_iter().find(|row| row["host"] == host);
        let row = row.unwrap_or_else(|| panic!("{host} is not listed"));
        if wanted(&row) {
            return row;
        }
        assert!(started.elapsed() < PATIENCE, "{host} stays at {row:#}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the host has a certificate.
pub(crate) async fn issued(lockgate: &Lockgate, host: &str) -> Value {
    until(lockgate, host, |row| row["not_after"].is_string()).await
}

/// Waits until an order for the host has failed with these words.
pub(crate) async fn failed(lockgate: &Lockgate, host: &str, words: &str) -> Value {
    let said = |row: &Value| {
        row["error"]
            .as_str()
            .is_some_and(|error| error.contains(words))
    };
    until(lockgate, host, said).await
}

pub(crate) async fn stop(lockgate: &mut Lockgate) {
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0), "{}", lockgate.stderr());
}
