//! Backends with TLS, served by a Python server.

use super::lockgate;
use crate::harness::{Frame, Lockgate, Program};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::{net::SocketAddr, path::Path};
use tempfile::TempDir;

/// PEM files of a CA, a server's and a client's certificate issued by it, and another CA.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Files {
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
            // Python's `ssl` requires the authority key identifier (RFC 5280 §4.2.1.1).
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

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Starts a Python server with the server's certificate; it requires client certificates of the CA `clients`, if
    /// given.
    pub(crate) async fn server(&self, clients: Option<&str>) -> (Program, SocketAddr) {
        let files = ["server.pem", "server.key"].into_iter().chain(clients);
        let files: Vec<String> = files.map(|file| self.path(file)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        Program::server_with("websockets_echo.py", &files).await
    }

    /// Starts a Lockgate in front of the server, with these TLS settings.
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
    // With rcgen's default name, CA and certificates would have equal names, and be treated as self-signed.
    params.distinguished_name.push(DnType::CommonName, "a CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("random");
    CertifiedIssuer::self_signed(params, key).expect("it signs")
}

const VALID_TLS: &str = "ca = \"DIR/ca.pem\", server_name = \"chat.internal\"";

#[tokio::test]
async fn tls_backend_gets_sessions_and_requests() {
    let files = Files::new();
    let (_server, at) = files.server(None).await;
    let lockgate = files.lockgate(at, VALID_TLS).await;
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
async fn client_certificate_is_presented_to_a_backend_that_requires_it() {
    let files = Files::new();
    let (_server, at) = files.server(Some("ca.pem")).await;
    let with_cert = format!("{VALID_TLS}, cert = \"DIR/client.pem\", key = \"DIR/client.key\"");
    let lockgate = files.lockgate(at, &with_cert).await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.text().await, "hello");

    let bare = files.lockgate(at, VALID_TLS).await;
    let mut client = bare.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 502);
}

#[tokio::test]
async fn untrusted_backend_gets_no_request() {
    let files = Files::new();
    let (_server, at) = files.server(None).await;
    for (tls, case) in [
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
            assert_eq!(client.head().await.status(), 502, "{case}");
        }
        let record = lockgate
            .record(|record| record["why"] == "backend-tls")
            .await;
        assert_eq!(record["status"], 502, "{record}");
    }
}
