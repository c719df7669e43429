//! How connections end before their first request: the `why` words of the metric. Left out are limit,
//! descriptors, io, no_server_name, no_challenge, slow_challenge, incompatible, client_certificate, alert, protocol and
//! internal.

use super::{Lines, snapshot};
use crate::harness::{Backend, Lockgate, Setup, eventually, observe, web::trusting, within};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const FAMILY: &str = "lockgate_connection_failures_total{why=\"";

#[tokio::test]
async fn reasons_of_failed_connections_are_unchanged() {
    let to = Backend::echo().await;
    let mut lines = Lines::new();
    let started = |limits: &str, server: &str| {
        let setup: Setup = Lockgate::to(to).server(server);
        setup.with(&format!("[limits]\n{limits}")).start()
    };

    let lockgate = started("tls_handshake = \"300ms\"", "").await;
    send(&lockgate, b"").await;
    reasons(&lockgate, 1, &mut lines).await;

    let lockgate = started("", "").await;
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], b"\0not TLS"] {
        send(&lockgate, bytes).await;
    }
    drop(TcpStream::connect(lockgate.https).await);
    assert!(lockgate.try_tls("unknown.test").await.is_err());
    // Trusts another CA than the one that signed.
    let other = rcgen::generate_simple_self_signed(["b.test".to_owned()]).expect("a certificate");
    let file = lockgate.folder().join("other.pem");
    std::fs::write(&file, other.cert.pem()).expect("the folder is writable");
    let stream = TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    let name = ServerName::try_from("a.test").expect("a DNS name");
    assert!(trusting(&file).connect(name, stream).await.is_err());
    reasons(&lockgate, 5, &mut lines).await;

    let proxied = "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let lockgate = started("connections_per_ip = 1", proxied).await;
    send(&lockgate, b"nonsense\r\n").await;
    let header: &[&[u8]] = &[b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"];
    let _first = lockgate
        .connect_behind(header)
        .await
        .expect("a share is free");
    assert!(lockgate.connect_behind(header).await.is_err());
    reasons(&lockgate, 2, &mut lines).await;

    let untrusted = proxied.replace("127.0.0.1", "192.0.2.1");
    let lockgate = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{untrusted}\n[limits]\nconnections = 1\n[tls]\ndev_ca = true\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{to}\"\n"
    ));
    let lockgate = lockgate.start().await;
    send(&lockgate, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").await;
    reasons(&lockgate, 1, &mut lines).await;
    snapshot("connection_failures", &lines);
}

/// Opens a bare connection, sends this and waits for the end.
async fn send(lockgate: &Lockgate, bytes: &[u8]) {
    let stream = TcpStream::connect(lockgate.https).await;
    let mut stream = stream.expect("it listens");
    stream.write_all(bytes).await.expect("it reads");
    let mut answer = vec![];
    // It may end with a reset.
    let _ = within("the end", stream.read_to_end(&mut answer)).await;
}

/// Adds every word once this many connections have failed.
async fn reasons(lockgate: &Lockgate, expected: u64, lines: &mut Lines) {
    let page = eventually(format!("{expected} connection failures"), async || {
        let page = lockgate.metrics().await;
        let failures = page.lines().filter(|line| line.starts_with(FAMILY));
        let counts = failures.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        let count: u64 = counts.sum();
        observe(page, |_| count >= expected)
    })
    .await;
    let words = page.lines().filter_map(|line| line.strip_prefix(FAMILY));
    lines.extend(words.filter_map(|line| Some(line.split_once('"')?.0.to_owned())));
}
