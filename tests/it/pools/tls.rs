//! Backends that speak TLS: a real one in Python.

use super::lockgate;
use crate::harness::{Frame, Lockgate, Program};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::{net::SocketAddr, path::Path};
use tempfile::TempDir;

/// A CA, a server's and a client's pair of it, and another CA, as files.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Files {
        let files = Files(TempDir::new().expect("a folder"));
        let ca = authority();
        files.write("ca.pem", &ca.pem());
        files.write("other.pem", &authority().pem());
        for (name, host, usage) in [
            (
                "server",
                "chat.internal",
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            ("client", "lockgate", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
            params.extended_key_usages = vec![usage];
            // Python's `ssl` wants every certificate to name its CA's key (RFC 5280 §4.2.1.1).
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate().expect("random");
            let certificate = params.signed_by(&key, &ca).expect("it signs");
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("writable");
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A server in Python with the server's pair; it asks for certificates where it is told whose.
    pub(super) async fn server(&self, clients: Option<&str>) -> (Program, SocketAddr) {
        let files = ["server.pem", "server.key"].into_iter().chain(clients);
        let files: Vec<String> = files.map(|file| self.path(file)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        Program::server_with("websockets_echo.py", &files).await
    }

    /// A Lockgate in front of it, which speaks TLS like this.
    async fn lockgate(&self, server: SocketAddr, tls: &str) -> Lockgate {
        let tls = tls.replace("DIR", &Path::new(self.0.path()).display().to_string());
        lockgate(&format!(
            "backends = [{{ address = \"wss://{server}\", tls = {{ {tls} }} }}]"
        ))
        .await
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    // Otherwise it has the name of a server without one, and would be treated as self-signed.
    params.distinguished_name.push(DnType::CommonName, "a CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("random");
    CertifiedIssuer::self_signed(params, key).expect("it signs")
}

const RIGHT: &str = "ca = \"DIR/ca.pem\", server_name = \"chat.internal\"";

#[tokio::test]
async fn a_backend_with_tls_takes_sessions_and_requests() {
    let files = Files::new();
    let (_server, at) = files.server(None).await;
    let lockgate = files.lockgate(at, RIGHT).await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    // More than one record of TLS each way.
    for text in ["hello", &"x".repeat(100_000)] {
        client.send_frame(Frame::text(text)).await;
        assert_eq!(client.text().await, text);
    }
    client.send_frame(Frame::text("close 4002 over TLS")).await;
    let close = client.frame().await;
    assert!(
        close.is_close() && close.payload == [&4002_u16.to_be_bytes()[..], b"over TLS"].concat()
    );
    client.send_frame(Frame::close(4002, "over TLS")).await;
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["code"], &record["by"]),
        (&4002.into(), &"backend".into()),
        "{record}"
    );

    for _ in 0..2 {
        let mut client = lockgate
            .request("GET /http HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        let head = client.head().await;
        assert_eq!(client.body(&head).await, b"hello over http");
    }
}

#[tokio::test]
async fn a_backend_that_asks_is_shown_a_certificate() {
    let files = Files::new();
    let (_server, at) = files.server(Some("ca.pem")).await;
    let shown = format!("{RIGHT}, cert = \"DIR/client.pem\", key = \"DIR/client.key\"");
    let lockgate = files.lockgate(at, &shown).await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.text().await, "hello");

    let bare = files.lockgate(at, RIGHT).await;
    let mut client = bare.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 502);
}

#[tokio::test]
async fn a_backend_that_is_not_believed_gets_nothing() {
    let files = Files::new();
    let (_server, at) = files.server(None).await;
    for (tls, what) in [
        (
            "ca = \"DIR/other.pem\", server_name = \"chat.internal\"",
            "another CA",
        ),
        ("ca = \"DIR/ca.pem\"", "another name: its address"),
        (
            "ca = \"DIR/ca.pem\", server_name = \"other.internal\"",
            "another name",
        ),
        ("server_name = \"chat.internal\"", "no public CA"),
    ] {
        let lockgate = files.lockgate(at, tls).await;
        for request in [
            crate::harness::handshake("/", ""),
            "GET /http HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        ] {
            let mut client = lockgate.request(request).await;
            assert_eq!(client.head().await.status(), 502, "{what}");
        }
        let record = lockgate
            .record(|record| record["why"] == "backend-tls")
            .await;
        assert_eq!(record["status"], 502, "{record}");
    }
}
