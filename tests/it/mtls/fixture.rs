//! What the tests of clients' certificates stand before.

use super::{
    client::{Client, Pki},
    request::{End, Spelling, ask},
};
use crate::{
    harness::Lockgate,
    request_validation::recorder::{Record, Seen, recorder},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ClientConfig;
use std::sync::Arc;
use tempfile::TempDir;

/// A Lockgate with open and closed hosts in front of a recorder.
pub(super) struct Site {
    pub(super) lockgate: Lockgate,
    record: Record,
    pub(super) pki: Pki,
    /// Of what is named in the configuration.
    _folder: TempDir,
}

// === impl Site ===

impl Site {
    pub(super) async fn new(server: &str, more: &str) -> Site {
        let (backend, record) = recorder().await;
        let folder = TempDir::new().expect("a temporary folder");
        let pki = Pki::new(folder.path());
        let mut config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{server}\n[tls]\ndev_ca = true\ndefault = \"open.test\"\n\
             certificates = [{{ cert = \"{0}/server.pem\", key = \"{0}/server.key\" }}]\nclient_ca = \"{0}/clients.pem\"\n",
            folder.path().display(),
        );
        for (name, rule) in [
            ("open", "hosts = [\"open.test\", \"open.wild.test\"]"),
            (
                "secret",
                "hosts = [\"secret.test\"]\nclient_cert = \"require\"",
            ),
            ("public", "hosts = [\"secret.test\"]\npath = \"/public/*\""),
            (
                "maybe",
                "hosts = [\"maybe.test\"]\nclient_cert = \"optional\"",
            ),
            (
                "wild",
                "hosts = [\"*.wild.test\"]\nclient_cert = \"require\"",
            ),
        ] {
            config.push_str(&route(name, rule, backend));
        }
        if !more.is_empty() {
            config.push_str(&route("more", more, backend));
        }
        Site {
            lockgate: Lockgate::with_file(&config).start().await,
            record,
            pki,
            _folder: folder,
        }
    }

    pub(super) fn config(&self, client: Client) -> Arc<ClientConfig> {
        Arc::new(self.pki.config(client))
    }

    pub(super) async fn ask(&self, client: Client, spelling: &Spelling, websocket: bool) -> End {
        let config = self.config(client);
        let (end, _) = ask(client, &config, self.lockgate.https, spelling, websocket).await;
        end
    }

    /// What the backend saw since there were `before`.
    pub(super) fn since(&self, before: usize) -> Vec<Seen> {
        self.record.borrow()[before..].to_vec()
    }

    pub(super) fn seen(&self) -> usize {
        self.record.borrow().len()
    }

    /// The one request that the backend saw since then; it has this certificate and no other.
    pub(super) fn told(&self, before: usize, certificate: Option<&[u8]>) -> Result<(), String> {
        let seen = self.since(before);
        let [one] = &seen[..] else {
            return Err(format!("the backend saw {seen:?}"));
        };
        let wanted: Vec<String> = certificate
            .map(|it| format!(":{}:", STANDARD.encode(it)))
            .into_iter()
            .collect();
        let (found, chain) = (
            one.head.all("client-cert"),
            one.head.all("client-cert-chain"),
        );
        match found == wanted && chain.is_empty() {
            true => Ok(()),
            false => Err(format!("Client-Cert {found:?}, chain {chain:?}")),
        }
    }
}

fn route(name: &str, rule: &str, backend: std::net::SocketAddr) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{rule}\nto = \"ws://{backend}\"\n")
}
