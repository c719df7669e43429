use super::*;
use crate::config::{CertificateFiles, Located};
use crate::tls::policy::provider;
use crate::tls::testing::{PLACE, Pki, built, root, tls};
use crate::tls::{AcceptOutcome, TlsError, accept};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

fn ending(pki: &Pki, ca: &str, asking: &[&str]) -> TlsServer {
    let mut tls = tls(vec![pki.pair("a", &["a.test", "b.test"])], "a.test");
    tls.client_ca = Some(Located {
        value: pki.write("clients.pem", ca),
        at: PLACE,
    });
    let asking: Vec<HostPattern> = asking.iter().map(|it| it.parse().unwrap()).collect();
    let certificates = Arc::new(built(&tls));
    let mut problems = vec![];
    let ending = TlsServer::build(
        &tls,
        asking.iter(),
        certificates,
        Arc::default(),
        None,
        &mut problems,
    );
    ending.unwrap_or_else(|| panic!("{problems:?}"))
}

/// Presents this certificate.
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
async fn shake(
    ending: &TlsServer,
    client: &TlsConnector,
    name: &'static str,
) -> Result<(bool, Option<CertificateDer<'static>>), TlsError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name).unwrap();
    let (entered, _client) = tokio::join!(accept(ending, near), client.connect(name, far));
    match entered? {
        AcceptOutcome::Client(accepted) => {
            Ok((accepted.client_auth_requested, accepted.certificate))
        }
        AcceptOutcome::AcmeValidated => panic!("no challenge is under way"),
    }
}

#[tokio::test]
async fn server_name_decides_on_client_auth() {
    let pki = Pki::new();
    let pair = pki.pair_with("client", &["me.test"], |it| {
        it.extended_key_usages = vec![ClientAuth];
    });
    let own = root(&pair.cert);
    let (bare, shows) = (pki.client(rustls::ALL_VERSIONS), client(&pki, &pair));

    let server = ending(&pki, &pki.ca_pem(), &["a.test"]);
    assert_eq!(
        shake(&server, &shows, "a.test").await.unwrap(),
        (true, Some(own))
    );
    assert_eq!(shake(&server, &bare, "a.test").await.unwrap(), (true, None));
    for client in [&shows, &bare] {
        let entered = shake(&server, client, "b.test").await.unwrap();
        assert_eq!(entered, (false, None));
    }
    let nobody = ending(&pki, &pki.ca_pem(), &[]);
    assert!(!nobody.requires_client_auth(Some("a.test")) && !nobody.requires_client_auth(None));
    assert_eq!(
        shake(&nobody, &shows, "a.test").await.unwrap(),
        (false, None)
    );
}

#[tokio::test]
async fn a_certificate_that_does_not_count_ends_the_handshake() {
    let pki = Pki::new();
    // The right CA, but the wrong key usage.
    let pair = pki.pair("server", &["me.test"]);
    let server = ending(&pki, &pki.ca_pem(), &["a.test"]);
    let refused = shake(&server, &client(&pki, &pair), "a.test").await;
    assert_eq!(refused.unwrap_err().as_str(), "client_certificate");
}
