//! TLS clients with valid and invalid certificates, and the CAs that issued them.

use super::optional_cert::{Always, AnyName, SharedTickets};
use crate::harness::within;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::{ClientSessionMemoryCache, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    version::{TLS12, TLS13},
};
use std::{io, net::SocketAddr, path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The certificate that a client presents when one is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presents {
    Nothing,
    /// A valid certificate of the trusted CA.
    Own,
    /// Issued by another CA.
    Foreign,
    /// Issued by the trusted CA, expired.
    Expired,
    /// Issued by the trusted CA, not yet valid.
    Early,
    /// Issued by the trusted CA for server authentication only.
    ForServers,
    /// A self-signed certificate.
    SelfSigned,
    /// Issued by another CA with the name of the trusted one.
    Forged,
}

/// The parameters of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// The server name; with an address the client sends no SNI.
    pub(super) sni: &'static str,
    pub(super) presents: Presents,
    pub(super) h2: bool,
    /// Uses TLS 1.2 only.
    pub(super) tls12: bool,
}

/// Three CAs, of which the server trusts the first.
pub(super) struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
    other: CertifiedIssuer<'static, KeyPair>,
    /// Has the name of the first CA.
    same_name: CertifiedIssuer<'static, KeyPair>,
    own: (KeyPair, CertificateDer<'static>),
}

// === impl Pki ===

impl Pki {
    /// Writes `clients.pem`, `server.pem` and `server.key`.
    pub(super) fn new(folder: &Path) -> Pki {
        let ca = authority("the CA");
        let own = issue(&ca, |_| {});
        let names = ["open.test", "secret.test", "maybe.test", "*.wild.test"];
        let mut server = CertificateParams::new(names.map(String::from)).expect("names");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("random");
        let server = server.signed_by(&key, &ca).expect("it signs");
        for (file, text) in [
            ("clients.pem", ca.pem()),
            ("server.pem", server.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.join(file), text).expect("writable");
        }
        Pki {
            ca,
            own,
            other: authority("another CA"),
            same_name: authority("the CA"),
        }
    }

    /// Writes `clients.pem` with the CAs that issued the certificates of these kinds.
    pub(super) fn trust(&self, folder: &Path, kinds: &[Presents]) {
        let pem = |kind: &Presents| match kind {
            Presents::Foreign => self.other.pem(),
            _ => self.ca.pem(),
        };
        let text: String = kinds.iter().map(pem).collect();
        std::fs::write(folder.join("clients.pem"), text).expect("writable");
    }

    /// The certificate of [`Shows::Own`].
    pub(super) fn own(&self) -> &[u8] {
        &self.own.1
    }

    /// Returns a configuration with its own ticket cache.
    pub(super) fn config(&self, client: Client) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).expect("a CA");
        let versions = if client.tls12 { &[&TLS12] } else { &[&TLS13] };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .dangerous()
            .with_custom_certificate_verifier(AnyName::of(roots));
        let (key, certificate) = match client.presents {
            Presents::Nothing => return with_alpn(config.with_no_client_auth(), client),
            Presents::Own => {
                let (key, certificate) = &self.own;
                let key = KeyPair::from_pem(&key.serialize_pem()).expect("a key");
                (key, certificate.clone())
            }
            Presents::Foreign => issue(&self.other, |_| {}),
            Presents::Forged => issue(&self.same_name, |_| {}),
            Presents::Expired => issue(&self.ca, |it| it.not_after = date_time_ymd(2020, 1, 1)),
            Presents::Early => issue(&self.ca, |it| it.not_before = date_time_ymd(2100, 1, 1)),
            Presents::ForServers => issue(&self.ca, |it| {
                it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            Presents::SelfSigned => {
                let key = KeyPair::generate().expect("random");
                let certificate = params().self_signed(&key).expect("it signs");
                (key, certificate.der().clone())
            }
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        // rustls' default resolver presents no certificate if the server does not list its CA.
        let signer = provider().key_provider.load_private_key(key.into());
        let presented = rustls::sign::CertifiedKey::new(vec![certificate], signer.expect("a key"));
        with_alpn(
            config.with_client_cert_resolver(Arc::new(Always(Arc::new(presented)))),
            client,
        )
    }
}

// === impl Client ===

impl Client {
    /// Connects and performs the TLS handshake.
    pub(super) async fn connect(
        self,
        config: &Arc<ClientConfig>,
        to: SocketAddr,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.sni).expect("a name or an address");
        within("a TLS handshake, or its refusal", async {
            let stream = TcpStream::connect(to).await?;
            TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
        })
        .await
    }
}

fn with_alpn(mut config: ClientConfig, client: Client) -> ClientConfig {
    config.alpn_protocols = if client.h2 {
        vec![b"h2".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    let store = SharedTickets(ClientSessionMemoryCache::new(32));
    config.resumption = Resumption::store(Arc::new(store));
    config
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("random");
    CertifiedIssuer::self_signed(params, key).expect("it signs")
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(["client.test".to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> (KeyPair, CertificateDer<'static>) {
    let mut params = params();
    change(&mut params);
    let key = KeyPair::generate().expect("random");
    let certificate = params.signed_by(&key, ca).expect("it signs");
    (key, certificate.der().clone())
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
