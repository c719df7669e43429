//! Connections that were authenticated by a CA which a reload has removed from `tls.client_ca`.

use super::{
    client::{Client, Presents},
    every_kind,
    fixture::MtlsFixture,
    request::{End, Spelling},
};
use crate::harness::{EndKind, Wire, handshake, request, within};
use http_body_util::Full;
use hyper::{Request, body::Bytes, client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

type Sender = http2::SendRequest<Full<Bytes>>;

#[tokio::test]
async fn removed_client_ca_ends_access_of_open_http1_connections() {
    for websocket in [false, true] {
        let fixture = MtlsFixture::new("", "").await;
        let mut own = wire(&fixture, Presents::Own, "secret.test").await;
        let mut anonymous = wire(&fixture, Presents::Nothing, "maybe.test").await;
        assert_eq!(get(&mut own, "secret.test").await, 200);
        assert_eq!(get(&mut anonymous, "maybe.test").await, 200);

        // The same set of CAs in another order, or twice, changes nothing.
        fixture
            .reload_with_cas_of(&[Presents::Own, Presents::Own])
            .await;
        assert_eq!(get(&mut own, "secret.test").await, 200);

        fixture.reload_with_cas_of(&[Presents::Foreign]).await;
        let before = fixture.received();
        if websocket {
            let head = handshake("/", "").replace("a.test", "secret.test");
            own.send(head).await;
        } else {
            own.send("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n")
                .await;
        }
        let head = own.head().await;
        assert_eq!(head.status(), 421);
        assert_eq!(head.get("connection"), Some("close"));
        own.body(&head).await;
        assert_ne!(own.end().await.kind, EndKind::Reset);
        assert_eq!(fixture.received(), before);
        fixture
            .lockgate
            .record(|record| record["why"] == "misdirected")
            .await;

        // A client without a certificate has no access that it could lose.
        assert_eq!(get(&mut anonymous, "maybe.test").await, 200);
    }
}

#[tokio::test]
async fn removed_client_ca_ends_access_of_open_http2_connections() {
    for websocket in [false, true] {
        let fixture = MtlsFixture::new("", "").await;
        let (mut sender, connection) = h2(&fixture).await;
        assert_eq!(status(&mut sender, plain()).await, 200);

        fixture.reload_with_cas_of(&[Presents::Own]).await;
        assert_eq!(status(&mut sender, plain()).await, 200);

        fixture.reload_with_cas_of(&[Presents::Foreign]).await;
        let before = fixture.received();
        let refused = if websocket { connect() } else { plain() };
        assert_eq!(status(&mut sender, refused).await, 421);
        assert_eq!(fixture.received(), before);
        // A GOAWAY without streams ends the connection.
        let ended = within("the end of the connection", connection).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[tokio::test]
async fn added_client_ca_is_accepted_and_unrelated_reload_keeps_access() {
    let fixture = MtlsFixture::new("", "").await;
    let mut own = wire(&fixture, Presents::Own, "secret.test").await;
    assert_eq!(get(&mut own, "secret.test").await, 200);
    fixture.reload_with_cas_of(&[Presents::Own]).await;
    assert_eq!(get(&mut own, "secret.test").await, 200);
    fixture
        .reload_with_cas_of(&[Presents::Foreign, Presents::Own])
        .await;
    for (h2, websocket) in every_kind() {
        for presents in [Presents::Own, Presents::Foreign] {
            let client = Client::of("secret.test", presents, h2);
            let spelling = Spelling::of("secret.test", h2);
            let end = fixture.send(client, &spelling, websocket).await;
            assert_eq!(end, super::accepted(h2, websocket), "{presents:?} {h2}");
        }
    }
    let end = End::Status(421);
    own.send("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n")
        .await;
    assert_eq!(End::Status(own.head().await.status()), end);
}

async fn wire(fixture: &MtlsFixture, presents: Presents, host: &'static str) -> Wire {
    let client = Client::of(host, presents, false);
    let config = fixture.config(client);
    let stream = client.connect(&config, fixture.lockgate.https);
    Wire::tls(stream.await.expect("the certificate is accepted"))
}

async fn h2(fixture: &MtlsFixture) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let client = Client::of("secret.test", Presents::Own, true);
    let config = fixture.config(client);
    let stream = client.connect(&config, fixture.lockgate.https);
    let io = TokioIo::new(stream.await.expect("the certificate is accepted"));
    let (sender, connection) = within("SETTINGS", http2::handshake(TokioExecutor::new(), io))
        .await
        .expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

async fn status(sender: &mut Sender, request: Request<Full<Bytes>>) -> u16 {
    let answer = within("an answer", sender.send_request(request)).await;
    answer.expect("an answer").status().as_u16()
}

async fn get(wire: &mut Wire, host: &str) -> u16 {
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    let head = wire.head().await;
    wire.body(&head).await;
    head.status()
}

fn plain() -> Request<Full<Bytes>> {
    let mut plain = request("GET", "/");
    *plain.uri_mut() = "https://secret.test/".parse().expect("a URL");
    plain
}

/// An extended CONNECT (RFC 8441 §4).
fn connect() -> Request<Full<Bytes>> {
    let mut connect = request("CONNECT", "/");
    *connect.uri_mut() = "https://secret.test/".parse().expect("a URL");
    connect
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    connect
        .headers_mut()
        .insert("sec-websocket-version", "13".parse().expect("a value"));
    connect
}
