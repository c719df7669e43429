mod challenge;

use crate::{
    config::TlsVersion,
    tls::{
        accept::*,
        server_config,
        testing::{
            self, Pki, TEST_TIMEOUT, accept_client, presented_names, server, tls, tls_handshake,
            tls_server,
        },
    },
};
use rustls::{
    AlertDescription, HandshakeKind, NamedGroup,
    version::{TLS12, TLS13},
};
use std::error::Error as _;

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn alert(result: io::Result<impl Sized>) -> AlertDescription {
    let Err(error) = result else {
        panic!("the handshake succeeded");
    };
    match error.downcast::<rustls::Error>() {
        Ok(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("not an alert: {other:?}"),
    }
}

#[tokio::test]
async fn server_name_selects_the_certificate() {
    let pki = Pki::new();
    let tls = tls(
        vec![
            pki.pair("a", &["a.example.com"]),
            pki.pair("wild", &["*.example.com", "example.com"]),
            pki.pair("default", &["fallback.test", "127.0.0.1"]),
        ],
        "fallback.test",
    );
    let server = server(&tls);
    let client = pki.client(BOTH);
    for (name, expected) in [
        ("a.example.com", "a.example.com"),
        ("A.Example.COM", "a.example.com"),
        ("b.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("fallback.test", "fallback.test"),
        // A client sends no name when it connects to an address.
        ("127.0.0.1", "fallback.test"),
    ] {
        let (accepted, connected) = tls_handshake(&server, &client, name).await;
        let connected = connected.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&*presented_names(&connected)[0], expected, "{name}");
        let sni = (name != "127.0.0.1").then(|| name.to_lowercase());
        assert_eq!(accepted.unwrap().sni.as_deref(), sni.as_deref());
    }
}

#[tokio::test]
async fn unknown_name_gets_the_default_certificate() {
    let pki = Pki::new();
    let server = server(&tls(
        vec![pki.pair("a", &["a.test"]), pki.pair("b", &["b.test"])],
        "B.test",
    ));
    let (accepted, connected) = tls_handshake(&server, &pki.client(BOTH), "c.test").await;
    // The client must refuse the default certificate, because the names differ.
    let error = connected.unwrap_err().to_string();
    assert!(error.contains("b.test"), "{error}");
    assert_eq!(accepted.unwrap_err().as_str(), "certificate_refused");
}

#[tokio::test]
async fn unknown_name_without_a_default_gets_an_alert() {
    let pki = Pki::new();
    let server = server(&tls(
        vec![pki.pair("a", &["a.example.com", "*.example.com"])],
        "",
    ));
    for version in BOTH {
        let client = pki.client(&[version]);
        for name in ["b.test", "deep.b.example.com", "com"] {
            let (accepted, connected) = tls_handshake(&server, &client, name).await;
            assert_eq!(alert(connected), AlertDescription::UnrecognisedName);
            let error = accepted.unwrap_err();
            assert!(matches!(&error, TlsError::NoCertificate(sni) if &**sni == name));
            assert_eq!(error.as_str(), "no_certificate");
        }
        let (accepted, connected) = tls_handshake(&server, &client, "10.0.0.1").await;
        assert_eq!(alert(connected), AlertDescription::MissingExtension);
        assert_eq!(accepted.unwrap_err().as_str(), "no_server_name");
    }
}

#[tokio::test]
async fn version_group_and_protocol_are_negotiated() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    for (versions, version, group) in [
        (BOTH, ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768),
        (&[&TLS12], ProtocolVersion::TLSv1_2, NamedGroup::X25519),
    ] {
        let mut config = (**pki.client(versions).config()).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (accepted, connected) =
            tls_handshake(&server, &Arc::new(config).into(), "a.test").await;
        let accepted = accepted.unwrap();
        assert_eq!(accepted.version, version);
        let connection = accepted.stream.tls_state();
        assert_eq!(
            connection.negotiated_key_exchange_group().unwrap().name(),
            group
        );
        assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
        drop(connected);
    }
}

#[tokio::test]
async fn tickets_resume_after_a_rebuild() {
    let pki = Pki::new();
    let tls = tls(vec![pki.pair("a", &["a.test"])], "");
    let ticketer = server_config::ticketer().unwrap();
    let build = || {
        let certificates = testing::build_certificates(&tls);
        testing::server_config_for(&tls, certificates, ticketer.clone())
    };
    for version in BOTH {
        let client = pki.client(&[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (accepted, connected) = tls_handshake(&build(), &client, "a.test").await;
            let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
            kinds.push(connected.get_ref().1.handshake_kind().unwrap());
            // TLS 1.3 sends the tickets after the handshake, so read them.
            accepted.stream.write_all(b"x").await.unwrap();
            accepted.stream.flush().await.unwrap();
            assert_eq!(connected.read_u8().await.unwrap(), b'x');
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[tokio::test]
async fn min_version_1_3_rejects_tls_1_2() {
    let pki = Pki::new();
    let mut tls = tls(vec![pki.pair("a", &["a.test"])], "");
    tls.min_version = TlsVersion::V1_3;
    let server = server(&tls);
    let (accepted, connected) = tls_handshake(&server, &pki.client(&[&TLS12]), "a.test").await;
    assert_eq!(alert(connected), AlertDescription::ProtocolVersion);
    let error = accepted.unwrap_err();
    assert_eq!(error.as_str(), "incompatible");
    assert!(error.source().is_some());
    let (accepted, _connected) = tls_handshake(&server, &pki.client(BOTH), "a.test").await;
    assert_eq!(accepted.unwrap().version, ProtocolVersion::TLSv1_3);
}

#[tokio::test]
async fn alpn_without_a_common_protocol_gets_an_alert() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    let mut config = (**pki.client(BOTH).config()).clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let (accepted, connected) = tls_handshake(&server, &Arc::new(config).into(), "a.test").await;
    assert_eq!(alert(connected), AlertDescription::NoApplicationProtocol);
    assert_eq!(accepted.unwrap_err().as_str(), "incompatible");
}

#[tokio::test]
async fn untrusting_client_is_classified_as_certificate_refused() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    for version in BOTH {
        let (accepted, connected) =
            tls_handshake(&server, &Pki::new().client(&[version]), "a.test").await;
        assert!(connected.is_err());
        assert_eq!(accepted.unwrap_err().as_str(), "certificate_refused");
    }
}

/// Sends bytes, closes, and returns the server's error and response.
async fn send_first_bytes(server: &Arc<ServerConfig>, input: &[u8]) -> (TlsError, Vec<u8>) {
    let (near, mut far) = tokio::io::duplex(1024);
    far.write_all(input).await.unwrap();
    far.shutdown().await.unwrap();
    let error = accept_client(server, near).await.unwrap_err();
    let mut response = Vec::new();
    far.read_to_end(&mut response).await.unwrap();
    (error, response)
}

#[tokio::test]
async fn input_that_is_not_tls_is_classified() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    for (input, cause) in [
        (&b""[..], "gone"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "plain_http"),
        (b"POST / HTTP/1.1\r\n", "plain_http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain_http"),
        (b"GE", "plain_http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls"),
        (b"get / http/1.1\r\n", "not_tls"),
        // SSL 2, and an alert where a ClientHello should be.
        (&[0x80, 0x2e, 1, 0, 2], "not_tls"),
        (&[21, 3, 1, 0, 2, 2, 40], "not_tls"),
        // The beginning of a record without the rest.
        (&[22, 3, 1, 1, 0, 1], "gone"),
    ] {
        let (error, response) = send_first_bytes(&server, input).await;
        assert_eq!(error.as_str(), cause, "{input:?}");
        // Only an HTTP client can read a response.
        assert_eq!(
            response.starts_with(b"HTTP/1.1 400 "),
            cause == "plain_http",
            "{input:?}: {response:?}"
        );
    }
}

#[tokio::test]
async fn malformed_client_hello_gets_an_alert() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    for input in [
        &[22, 3, 1, 0, 4, 1, 0, 0, 0][..],
        // A record above the maximum length.
        &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        // A handshake message that is not a ClientHello.
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
    ] {
        let (error, response) = send_first_bytes(&server, input).await;
        assert_eq!(error.as_str(), "protocol", "{input:?}: {error:?}");
        assert_eq!(response.first(), Some(&21), "{input:?}");
    }
}

/// No byte may be lost between the sniffing of the first bytes, rustls' reader, and the stream.
#[tokio::test]
async fn client_hello_in_single_bytes_is_accepted() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    let (near, server_side) = tokio::io::duplex(64 * 1024);
    let (far, client_side) = tokio::io::duplex(64 * 1024);
    let (mut from_server, mut to_server) = tokio::io::split(server_side);
    let (mut from_client, mut to_client) = tokio::io::split(client_side);
    let drip = async {
        while let Ok(byte) = from_client.read_u8().await {
            to_server.write_u8(byte).await.unwrap();
            // The server is polled before the next byte arrives.
            tokio::task::yield_now().await;
        }
    };
    let served = async {
        let mut accepted = accept_client(&server, near).await.unwrap();
        accepted.stream.read_u8().await.unwrap()
    };
    let connected = async {
        let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
        let mut stream = pki.client(BOTH).connect(name, far).await.unwrap();
        stream.write_all(b"y").await.unwrap();
        stream.flush().await.unwrap();
        std::future::pending::<()>().await;
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        byte = served => assert_eq!(byte, b'y'),
        () = connected => unreachable!(),
        () = drip => panic!("the client closed the connection"),
        copied = back => panic!("the server closed the connection: {copied:?}"),
        () = tokio::time::sleep(TEST_TIMEOUT) => panic!("the handshake hangs"),
    }
}

#[test]
fn accept_future_is_at_most_128_bytes() {
    let pki = Pki::new();
    let server = server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    let (near, _far) = tokio::io::duplex(1);
    assert!(size_of_val(&accept(&tls_server(&server), near)) <= 128);
}
