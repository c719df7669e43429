use crate::{
    config::{CertificateFiles, Located},
    tls::{
        accept::{AcceptOutcome, accept},
        error::TlsError,
        server_config::*,
        testing::{self, LOCATION, Pki, build_certificates, root, tls},
    },
};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::TlsConnector;

fn tls_server(pki: &Pki, ca: &str, client_auth_hosts: &[&str]) -> TlsServer {
    let mut tls = tls(vec![pki.pair("a", &["a.test", "b.test"])], "a.test");
    tls.client_ca = Some(Located {
        value: pki.write("clients.pem", ca),
        at: LOCATION,
    });
    let client_auth_hosts: Vec<HostPattern> = client_auth_hosts
        .iter()
        .map(|it| it.parse().unwrap())
        .collect();
    let certificates = Arc::new(build_certificates(&tls));
    let mut diagnostics = vec![];
    let tls_server = TlsServer::build(
        &tls,
        client_auth_hosts.iter(),
        certificates,
        Arc::default(),
        None,
        &mut diagnostics,
    );
    tls_server.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

/// Returns a client that presents the certificate of `pair`.
fn client(pki: &Pki, pair: &CertificateFiles) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![root(&pair.cert)], key);
    Arc::new(config.unwrap()).into()
}

/// Returns whether client authentication was requested, and the client's certificate.
async fn handshake(
    tls_server: &TlsServer,
    client: &TlsConnector,
    name: &'static str,
) -> Result<(bool, Option<CertificateDer<'static>>), TlsError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name).unwrap();
    let (outcome, _client) = tokio::join!(accept(tls_server, near), client.connect(name, far));
    match outcome? {
        AcceptOutcome::Client(accepted) => {
            Ok((accepted.client_ca_set.is_some(), accepted.certificate))
        }
        AcceptOutcome::PlainHttp(_) => panic!("the client uses TLS"),
        AcceptOutcome::AcmeValidated => panic!("no challenge is pending"),
    }
}

#[tokio::test]
async fn server_name_decides_whether_client_auth_is_requested() {
    let pki = Pki::new();
    let pair = pki.pair_with("client", &["me.test"], |it| {
        it.extended_key_usages = vec![ClientAuth];
    });
    let own = root(&pair.cert);
    let (without_certificate, with_certificate) =
        (pki.client(rustls::ALL_VERSIONS), client(&pki, &pair));

    let server = tls_server(&pki, &pki.ca_pem(), &["a.test"]);
    assert_eq!(
        handshake(&server, &with_certificate, "a.test")
            .await
            .unwrap(),
        (true, Some(own))
    );
    assert_eq!(
        handshake(&server, &without_certificate, "a.test")
            .await
            .unwrap(),
        (true, None)
    );
    for client in [&with_certificate, &without_certificate] {
        let outcome = handshake(&server, client, "b.test").await.unwrap();
        assert_eq!(outcome, (false, None));
    }
    let without_hosts = tls_server(&pki, &pki.ca_pem(), &[]);
    assert!(
        !without_hosts.requires_client_auth(Some("a.test"))
            && !without_hosts.requires_client_auth(None)
    );
    assert_eq!(
        handshake(&without_hosts, &with_certificate, "a.test")
            .await
            .unwrap(),
        (false, None)
    );
}

#[tokio::test]
async fn client_certificate_without_client_auth_usage_is_rejected() {
    let pki = Pki::new();
    // The right CA, but the wrong key usage.
    let pair = pki.pair("server", &["me.test"]);
    let server = tls_server(&pki, &pki.ca_pem(), &["a.test"]);
    let result = handshake(&server, &client(&pki, &pair), "a.test").await;
    assert_eq!(result.unwrap_err().as_str(), "client_certificate");
}

#[test]
fn early_data_is_off() {
    let pki = Pki::new();
    let config = testing::server(&tls(vec![pki.pair("a", &["a.test"])], ""));
    assert_eq!(config.max_early_data_size, 0);
    assert!(config.ticketer.enabled());
}
