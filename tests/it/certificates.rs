//! Certificates that are replaced under open sessions, in every way in which people replace them.

use crate::harness::{Backend, Frame, Lockgate, Wire, handshake, within};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::interval};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[tokio::test]
async fn written_in_place() {
    let mut scene = Scene::new(|at, pair| {
        pair.write(at, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    for _ in 0..2 {
        let pair = scene.pair();
        pair.write(scene.at(), "cert.pem", "key.pem");
        scene.renewed(&pair).await;
    }
}

#[tokio::test]
async fn renamed_into_its_place() {
    let mut scene = Scene::new(|at, pair| {
        pair.write(at, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    for _ in 0..2 {
        let pair = scene.pair();
        pair.write(scene.at(), "cert.tmp", "key.tmp");
        for (from, to) in [("cert.tmp", "cert.pem"), ("key.tmp", "key.pem")] {
            fs::rename(scene.at().join(from), scene.at().join(to)).unwrap();
        }
        scene.renewed(&pair).await;
    }
}

#[tokio::test]
async fn a_secret_of_kubernetes() {
    let mut scene = Scene::new(|at, pair| {
        pair.write(at, "..2026_11_20/tls.crt", "..2026_11_20/tls.key");
        symlink("..2026_11_20", at.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{file}"), at.join(file)).unwrap();
        }
        ("tls.crt", "tls.key")
    })
    .await;
    let mut before = "..2026_11_20";
    for day in ["..2026_11_21", "..2026_11_22"] {
        let pair = scene.pair();
        pair.write(
            scene.at(),
            &format!("{day}/tls.crt"),
            &format!("{day}/tls.key"),
        );
        symlink(day, scene.at().join("..data_tmp")).unwrap();
        fs::rename(scene.at().join("..data_tmp"), scene.at().join("..data")).unwrap();
        fs::remove_dir_all(scene.at().join(before)).unwrap();
        scene.renewed(&pair).await;
        before = day;
    }
}

#[tokio::test]
async fn a_renewal_of_certbot() {
    let names = ["fullchain", "privkey"];
    let link = |at: &Path, number: usize| {
        for name in names {
            let link = at.join(format!("live/a.test/{name}.pem"));
            let _ = fs::remove_file(&link);
            symlink(format!("../../archive/a.test/{name}{number}.pem"), link).unwrap();
        }
    };
    let archive = |at: &Path, pair: &Pair, number: usize| {
        let [cert, key] = names.map(|name| format!("archive/a.test/{name}{number}.pem"));
        pair.write(at, &cert, &key);
    };
    let mut scene = Scene::new(|at, pair| {
        archive(at, pair, 1);
        fs::create_dir_all(at.join("live/a.test")).unwrap();
        link(at, 1);
        ("live/a.test/fullchain.pem", "live/a.test/privkey.pem")
    })
    .await;
    for number in [2, 3] {
        let pair = scene.pair();
        archive(scene.at(), &pair, number);
        link(scene.at(), number);
        scene.renewed(&pair).await;
    }
}

#[tokio::test]
async fn a_broken_pair_is_told_and_the_last_good_one_served() {
    let mut scene = Scene::new(|at, pair| {
        pair.write(at, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    let first = scene.shown().await;
    assert!(scene.error().await.is_none());

    // The certificate is new, the key is not.
    let pair = scene.pair();
    fs::write(scene.at().join("cert.pem"), &pair.cert).unwrap();
    let told = scene.told("does not belong to the certificate").await;
    assert!(told.contains("same request"), "no hint: {told}");
    assert_eq!(scene.shown().await, first);
    let kept = "the previous one is still served";
    let stderr = scene.logged(kept).await;
    for part in [
        "does not belong to the certificate",
        "same request",
        "served_until",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in\n{stderr}");
    }

    fs::remove_file(scene.at().join("key.pem")).unwrap();
    scene.told("there is no file").await;
    assert_eq!(scene.shown().await, first);

    fs::write(scene.at().join("key.pem"), &pair.key).unwrap();
    scene.renewed(&pair).await;
    assert!(scene.error().await.is_none());
    let stderr = scene.logged("a new certificate is served").await;
    assert_eq!(stderr.matches(kept).count(), 2, "each state once");
}

/// A Lockgate with a pair of ours, and sessions through it.
struct Scene {
    files: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    lockgate: Lockgate,
    sessions: Vec<Wire>,
    /// How many messages each session has had back.
    echoed: usize,
}

struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

// === impl Scene ===

impl Scene {
    /// `lay_out` puts the first pair into a folder and returns the names by which it is read.
    async fn new(lay_out: impl FnOnce(&Path, &Pair) -> (&'static str, &'static str)) -> Scene {
        let mut params = CertificateParams::new([]).expect("no names are good names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let files = TempDir::new().expect("a temporary folder");
        let first = Pair::new(&ca);
        let (cert, key) = lay_out(files.path(), &first);
        let path = |name: &str| files.path().join(name).display().to_string();
        let lockgate = Lockgate::with_file(&format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n\n[tls]\ncertificates = [{{ cert = {:?}, key = {:?} }}]\n\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
            path(cert),
            path(key),
            Backend::echo().await
        ));
        let mut scene = Scene {
            lockgate: lockgate.start().await,
            files,
            ca,
            sessions: vec![],
            echoed: 0,
        };
        for _ in 0..SESSIONS {
            let mut client = Wire::tls(scene.shake().await);
            client.send(handshake("/", "")).await;
            assert_eq!(client.head().await.status(), 101);
            scene.sessions.push(client);
        }
        assert_eq!(scene.shown().await, first.der);
        scene
    }

    fn at(&self) -> &Path {
        self.files.path()
    }

    fn pair(&self) -> Pair {
        Pair::new(&self.ca)
    }

    /// Waits until new clients are shown this pair, while the sessions go on.
    async fn renewed(&mut self, pair: &Pair) {
        within("the new certificate", async {
            let mut beat = interval(PAUSE);
            while self.shown().await != pair.der {
                self.echo().await;
                beat.tick().await;
            }
        })
        .await;
        self.echo().await;
        let listed = self.lockgate.certificates().await;
        assert_eq!(listed[0]["names"][0], "a.test", "{listed:?}");
    }

    /// Every session has its next message back, and nothing else.
    async fn echo(&mut self) {
        self.echoed += 1;
        let text = format!("message {}", self.echoed);
        for session in &mut self.sessions {
            session.send_frame(Frame::text(&text)).await;
        }
        for session in &mut self.sessions {
            assert_eq!(session.text().await, text);
        }
    }

    /// Waits until `lockgate cert list` prints `what`.
    async fn told(&mut self, what: &str) -> String {
        within("a reason in `cert list`", async {
            let mut beat = interval(PAUSE);
            loop {
                match self.error().await {
                    Some(error) if error.contains(what) => break error,
                    _ => self.echo().await,
                }
                beat.tick().await;
            }
        })
        .await
    }

    /// Waits until the log contains `what`; returns the whole log.
    async fn logged(&self, what: &str) -> String {
        within("a line of the log", async {
            let mut beat = interval(PAUSE);
            loop {
                let stderr = self.lockgate.stderr();
                if stderr.contains(what) {
                    break stderr;
                }
                beat.tick().await;
            }
        })
        .await
    }

    async fn error(&self) -> Option<String> {
        let listed = self.lockgate.certificates().await;
        listed[0]["error"].as_str().map(ToOwned::to_owned)
    }

    /// What a new client is shown.
    async fn shown(&self) -> CertificateDer<'static> {
        let stream = self.shake().await;
        let chain = stream.get_ref().1.peer_certificates();
        chain.expect("every server has one")[0].clone().into_owned()
    }

    /// A client that trusts our CA and has never been here.
    async fn shake(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from("a.test").expect("a DNS name");
        within("a TLS handshake", async {
            let stream = TcpStream::connect(self.lockgate.https)
                .await
                .expect("it listens");
            let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
            shaken.await.expect("it is served a good certificate")
        })
        .await
    }
}

// === impl Pair ===

impl Pair {
    fn new(ca: &CertifiedIssuer<'static, KeyPair>) -> Pair {
        let key = KeyPair::generate().expect("random bytes");
        let params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
        let cert = params.signed_by(&key, ca).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().clone(),
        }
    }

    fn write(&self, at: &Path, cert: &str, key: &str) {
        for (name, content) in [(cert, &self.cert), (key, &self.key)] {
            let path: PathBuf = at.join(name);
            let folder = path.parent().expect("it is in a folder");
            fs::create_dir_all(folder).expect("ours");
            fs::write(path, content).expect("ours");
        }
    }
}

const SESSIONS: usize = 20;
/// Between two looks at what cannot be waited for.
const PAUSE: Duration = Duration::from_millis(50);
