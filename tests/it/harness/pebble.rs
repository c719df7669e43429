//! Pebble, the ACME server of those who run Let's Encrypt, and the DNS server in which it looks.

mod life;
mod names;
mod programs;
mod setup;

use super::{
    web::{Failure, ask},
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

/// A running Pebble with its `pebble-challtestsrv`; both are killed on drop. What they printed is shown if the test fails.
pub(crate) struct Pebble {
    /// `ca.pem`, `api.pem`, `api.key`, `pebble.json`, `root.pem`.
    folder: TempDir,
    ports: Ports,
    nonce_reject: u8,
    /// `None` while it is down.
    acme: Option<Child>,
    _dns: Child,
    /// The sockets that keep the ports while Pebble is down: bound, but not listening.
    kept: Vec<Socket>,
    log: watch::Sender<String>,
}

/// How long a line of the log may be in coming: an issue takes 3 s, a renewal as long as the test's certificates live.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// The root under which it issues, as PEM: a new one with each start.
    pub(crate) async fn root_pem(&self) -> String {
        let url = format!("https://localhost:{}/roots/0", self.ports.management);
        let root = within("the root", self.get(&url)).await.expect("it is up");
        String::from_utf8(root.into_body().into()).expect("PEM")
    }

    /// The same in a file.
    pub(crate) async fn root(&self) -> PathBuf {
        let file = self.folder.path().join("root.pem");
        std::fs::write(&file, self.root_pem().await).expect("the folder is writable");
        file
    }

    /// Fetches a URL of its API, or of a [`super::Front`] before it.
    pub(crate) async fn get(&self, url: &str) -> Result<Response<Bytes>, Failure> {
        ask(
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

    /// Requests for a new order so far, those with a stale nonce too. What it took is `count("Added order")`.
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
            let printed = timeout(PATIENCE, printed).await.is_ok();
            assert!(
                printed,
                "not {times} lines with {part:?} within {PATIENCE:?}, awaited at {caller}"
            );
        }
    }

    /// For a front that plays the API: `ca.pem`, `api.pem` and `api.key`.
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
