//! Pebble, the ACME test server of Let's Encrypt, and the DNS server that it queries.

mod life;
mod names;
mod programs;
mod setup;

use super::{
    web::{Failure, fetch},
    within,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use programs::Ports;
pub(crate) use setup::PebbleSetup;
use socket2::Socket;
use std::{
    panic::Location,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{process::Child, sync::watch, time::timeout};

/// A running Pebble with its `pebble-challtestsrv`; both are killed on drop. Their output is printed if the test fails.
pub(crate) struct Pebble {
    /// `ca.pem`, `api.pem`, `api.key`, `pebble.json`, `root.pem`.
    folder: TempDir,
    ports: Ports,
    nonce_reject: u8,
    /// `None` while it is down.
    acme: Option<Child>,
    _dns: Child,
    /// The sockets that keep the ports while Pebble is down: bound, but not listening.
    reserved: Vec<Socket>,
    log: watch::Sender<String>,
}

/// Deadline for a line of the log: an issuance takes 3 s, a renewal as long as the test's certificates are valid.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

// === impl Pebble ===

impl Pebble {
    pub(crate) fn setup() -> PebbleSetup {
        PebbleSetup::new()
    }

    /// The URL of the directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.api)
    }

    /// The CA of the API's own certificate, as PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The root certificate, as PEM; each start creates a new one.
    pub(crate) async fn root_pem(&self) -> String {
        let url = format!("https://localhost:{}/roots/0", self.ports.management);
        let root = within("the root", self.get(&url)).await.expect("it is up");
        String::from_utf8(root.into_body().into()).expect("PEM")
    }

    /// Writes the root certificate into a file; returns its path.
    pub(crate) async fn root(&self) -> PathBuf {
        let file = self.folder.path().join("root.pem");
        std::fs::write(&file, self.root_pem().await).expect("the folder is writable");
        file
    }

    /// Fetches a URL of its API, or of a [`super::Front`] before it.
    pub(crate) async fn get(&self, url: &str) -> Result<Response<Bytes>, Failure> {
        fetch(
            Request::get(url).body(Full::<Bytes>::default())?,
            &self.ca(),
        )
        .await
    }

    /// Everything that both programs printed so far, through all starts.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// How many lines of the log contain `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        count(&self.log.borrow(), part)
    }

    /// Number of new-order requests so far, including those with a rejected nonce. `count("Added order")` has the
    /// accepted ones.
    pub(crate) fn orders(&self) -> usize {
        self.count("POST /order-plz")
    }

    /// Waits until `times` lines of the log contain `part`.
    #[track_caller]
    pub(crate) fn until_log(&self, part: &str, times: usize) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let mut log = self.log.subscribe();
            let printed = log.wait_for(|log| count(log, part) >= times);
            let printed = timeout(LOG_TIMEOUT, printed).await.is_ok();
            assert!(
                printed,
                "not {times} lines with {part:?} within {LOG_TIMEOUT:?}, awaited at {caller}"
            );
        }
    }

    /// The directory with `ca.pem`, `api.pem` and `api.key`, which a front needs.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port of the API.
    pub(super) fn port(&self) -> u16 {
        self.ports.api
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Pebble's log ---\n{}", self.log());
        }
    }
}

fn count(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}
