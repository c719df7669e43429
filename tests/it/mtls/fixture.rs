//! The Lockgate and the recording backend of the client certificate tests.

use super::{
    client::{Client, Pki, Presents},
    request::{End, Spelling, send},
};
use crate::{
    harness::Lockgate,
    request_validation::recorder::{RecordedRequest, Recording, recorder},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ClientConfig;
use std::sync::Arc;
use tempfile::TempDir;

/// A Lockgate with hosts that require, permit and ignore client certificates, in front of a recorder.
pub(super) struct MtlsFixture {
    pub(super) lockgate: Lockgate,
    recording: Recording,
    pub(super) pki: Pki,
    /// The files named in the configuration.
    folder: TempDir,
}

// === impl Site ===

impl MtlsFixture {
    pub(super) async fn new(server: &str, more: &str) -> MtlsFixture {
        let (backend, recording) = recorder().await;
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
        MtlsFixture {
            lockgate: Lockgate::with_file(&config).start().await,
            recording,
            pki,
            folder,
        }
    }

    pub(super) fn config(&self, client: Client) -> Arc<ClientConfig> {
        Arc::new(self.pki.config(client))
    }

    /// Reloads with the CAs that issued the certificates of these kinds.
    pub(super) async fn reload_with_cas_of(&self, kinds: &[Presents]) {
        self.pki.trust(self.folder.path(), kinds);
        let (ok, text) = self.lockgate.command(&["reload"]).await;
        assert!(ok, "{text}");
    }

    pub(super) async fn send(&self, client: Client, spelling: &Spelling, websocket: bool) -> End {
        let config = self.config(client);
        let (end, _) = send(client, &config, self.lockgate.https, spelling, websocket).await;
        end
    }

    /// The requests that the backend received after the first `before`.
    pub(super) fn since(&self, before: usize) -> Vec<RecordedRequest> {
        self.recording.borrow()[before..].to_vec()
    }

    pub(super) fn received(&self) -> usize {
        self.recording.borrow().len()
    }

    /// Checks that the backend received exactly one request after the first `before`, with this certificate and no
    /// other.
    pub(super) fn check_forwarded(
        &self,
        before: usize,
        certificate: Option<&[u8]>,
    ) -> Result<(), String> {
        let received = self.since(before);
        let [one] = &received[..] else {
            return Err(format!("the backend saw {received:?}"));
        };
        let expected: Vec<String> = certificate
            .map(|it| format!(":{}:", STANDARD.encode(it)))
            .into_iter()
            .collect();
        let (found, chain) = (
            one.head.all("client-cert"),
            one.head.all("client-cert-chain"),
        );
        if found == expected && chain.is_empty() {
            Ok(())
        } else {
            Err(format!("Client-Cert {found:?}, chain {chain:?}"))
        }
    }
}

fn route(name: &str, rule: &str, backend: std::net::SocketAddr) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{rule}\nto = \"ws://{backend}\"\n")
}
