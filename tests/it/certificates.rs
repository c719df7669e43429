//! Certificate files that are replaced under open sessions, by the methods of common tools.

use crate::harness::{Backend, Frame, Lockgate, Wire, eventually, handshake, within};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::Value;
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
async fn development_ca_signs_the_names_that_a_route_admits() {
    let backend = Backend::echo().await;
    for (host, signed, other) in [
        ("*", ["any.test", "a.deep.name.test"], None),
        ("*.a.test", ["x.a.test", "x.y.a.test"], Some("b.test")),
    ] {
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [\"{host}\"]\nto = \"ws://{backend}\"\n"
        );
        let lockgate = Lockgate::with_file(&config).start().await;
        for name in signed {
            let verified = within("a TLS handshake", lockgate.try_tls(name)).await;
            assert!(verified.is_ok(), "{host} {name}: {verified:?}");
        }
        if let Some(name) = other {
            let refused = within("a TLS handshake", lockgate.try_tls(name)).await;
            assert!(refused.is_err(), "{host} {name}");
        }
    }
}

#[tokio::test]
async fn certificate_written_in_place_is_reloaded() {
    let mut fixture = Fixture::new(|dir, pair| {
        pair.write(dir, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    for _ in 0..2 {
        let pair = fixture.pair();
        pair.write(fixture.dir(), "cert.pem", "key.pem");
        fixture.until_served(&pair).await;
    }
}

#[tokio::test]
async fn certificate_replaced_by_rename_is_reloaded() {
    let mut fixture = Fixture::new(|dir, pair| {
        pair.write(dir, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    for _ in 0..2 {
        let pair = fixture.pair();
        pair.write(fixture.dir(), "cert.tmp", "key.tmp");
        for (from, to) in [("cert.tmp", "cert.pem"), ("key.tmp", "key.pem")] {
            fs::rename(fixture.dir().join(from), fixture.dir().join(to)).unwrap();
        }
        fixture.until_served(&pair).await;
    }
}

#[tokio::test]
async fn certificate_of_a_kubernetes_secret_is_reloaded() {
    let mut fixture = Fixture::new(|dir, pair| {
        pair.write(dir, "..2026_11_20/tls.crt", "..2026_11_20/tls.key");
        symlink("..2026_11_20", dir.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{file}"), dir.join(file)).unwrap();
        }
        ("tls.crt", "tls.key")
    })
    .await;
    let mut before = "..2026_11_20";
    for day in ["..2026_11_21", "..2026_11_22"] {
        let pair = fixture.pair();
        pair.write(
            fixture.dir(),
            &format!("{day}/tls.crt"),
            &format!("{day}/tls.key"),
        );
        symlink(day, fixture.dir().join("..data_tmp")).unwrap();
        fs::rename(
            fixture.dir().join("..data_tmp"),
            fixture.dir().join("..data"),
        )
        .unwrap();
        fs::remove_dir_all(fixture.dir().join(before)).unwrap();
        fixture.until_served(&pair).await;
        before = day;
    }
}

#[tokio::test]
async fn certificate_renewed_by_certbot_is_reloaded() {
    let names = ["fullchain", "privkey"];
    let link = |dir: &Path, number: usize| {
        for name in names {
            let link = dir.join(format!("live/a.test/{name}.pem"));
            let _ = fs::remove_file(&link);
            symlink(format!("../../archive/a.test/{name}{number}.pem"), link).unwrap();
        }
    };
    let write_archive = |dir: &Path, pair: &Pair, number: usize| {
        let [cert, key] = names.map(|name| format!("archive/a.test/{name}{number}.pem"));
        pair.write(dir, &cert, &key);
    };
    let mut fixture = Fixture::new(|dir, pair| {
        write_archive(dir, pair, 1);
        fs::create_dir_all(dir.join("live/a.test")).unwrap();
        link(dir, 1);
        ("live/a.test/fullchain.pem", "live/a.test/privkey.pem")
    })
    .await;
    for number in [2, 3] {
        let pair = fixture.pair();
        write_archive(fixture.dir(), &pair, number);
        link(fixture.dir(), number);
        fixture.until_served(&pair).await;
    }
}

#[tokio::test]
async fn invalid_pair_is_reported_and_the_last_valid_one_served() {
    let mut fixture = Fixture::new(|dir, pair| {
        pair.write(dir, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    let first = fixture.served().await;
    assert!(fixture.error().await.is_none());

    // Only the certificate is replaced, not the key.
    let pair = fixture.pair();
    fs::write(fixture.dir().join("cert.pem"), &pair.cert).unwrap();
    let error = fixture
        .until_error("does not belong to the certificate")
        .await;
    assert!(error.contains("same request"), "no hint: {error}");
    assert_eq!(fixture.served().await, first);
    eventually("an error in the log", async || fixture.kept().len() == 1).await;
    let kept = &fixture.kept()[0];
    for field in ["file", "reason", "hint"] {
        assert!(kept[field].is_string(), "{field}: {kept}");
    }

    fs::remove_file(fixture.dir().join("key.pem")).unwrap();
    fixture.until_error("there is no file").await;
    assert_eq!(fixture.served().await, first);

    fs::write(fixture.dir().join("key.pem"), &pair.key).unwrap();
    fixture.until_served(&pair).await;
    assert!(fixture.error().await.is_none());
    eventually("the new certificate in the log", async || {
        let log = fixture.lockgate.log("INFO");
        log.iter().any(|line| line["not_after"].is_string())
    })
    .await;
    assert_eq!(fixture.kept().len(), 2, "each state once");
}

#[tokio::test]
async fn reload_reports_an_unusable_pair_as_long_as_it_lasts() {
    let fixture = Fixture::new(|dir, pair| {
        pair.write(dir, "cert.pem", "key.pem");
        ("cert.pem", "key.pem")
    })
    .await;
    let pair = fixture.pair();
    fs::write(fixture.dir().join("cert.pem"), &pair.cert).unwrap();
    for _ in 0..2 {
        let (succeeded, text) = fixture.lockgate.command(&["reload"]).await;
        assert!(succeeded, "{text}");
        for part in ["cert.pem", "does not belong", "previous one"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    fs::write(fixture.dir().join("key.pem"), &pair.key).unwrap();
    let (_, text) = fixture.lockgate.command(&["reload"]).await;
    assert!(!text.contains("previous one"), "{text}");
    assert_eq!(fixture.served().await, pair.der);
    let is_new = |line: &Value| line["not_after"].is_string();
    fixture.lockgate.logged("INFO", is_new).await;
    eventually("the error in the log", async || !fixture.kept().is_empty()).await;
    assert_eq!(fixture.kept().len(), 1, "logged once");
}

#[tokio::test]
async fn expired_and_future_certificates_are_reported_with_their_dates() {
    let folder = TempDir::new().expect("a temporary folder");
    for (year, (from, until), text) in [
        (2001, ("2000", "2001"), "expired"),
        (2999, ("2999", "3000"), "not valid before"),
    ] {
        let key = KeyPair::generate().expect("random bytes");
        let mut params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
        let date = |year: &str| rcgen::date_time_ymd(year.parse().expect("a year"), 1, 1);
        (params.not_before, params.not_after) = (date(from), date(until));
        let cert = params.self_signed(&key).expect("a certificate");
        let config = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"off\"\n\
             [tls]\ncertificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";
        for (file, text) in [
            ("cert.pem", cert.pem()),
            ("key.pem", key.serialize_pem()),
            ("lockgate.toml", config.to_owned()),
        ] {
            fs::write(folder.path().join(file), text).expect("ours");
        }
        let has_report = |output: &str| {
            let mut lines = output.lines().filter(|line| line.contains("cert.pem"));
            lines.any(|line| line.contains(text) && line.contains(&year.to_string()))
        };
        for command in ["check", "doctor"] {
            let arguments = [command, "--config", "lockgate.toml"];
            let output = Lockgate::run(folder.path(), &arguments).await;
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(has_report(&printed), "{command}: {printed}");
        }
        let lockgate = Lockgate::with_file(&config.replace(
            "\"cert.pem\", key = \"key.pem\"",
            &format!(
                "\"{dir}/cert.pem\", key = \"{dir}/key.pem\"",
                dir = folder.path().display()
            ),
        ));
        let lockgate = lockgate.start().await;
        let (_, list) = lockgate.command(&["cert", "list"]).await;
        assert!(list.contains(text), "{list}");
    }
}

/// A Lockgate with certificate files, and sessions through it.
struct Fixture {
    files: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    lockgate: Lockgate,
    sessions: Vec<Wire>,
    /// Number of messages that each session has echoed.
    echoed: usize,
}

struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

// === impl Scene ===

impl Fixture {
    /// `write_first` writes the first pair into a directory and returns the names of its files.
    async fn new(
        write_first: impl FnOnce(&Path, &Pair) -> (&'static str, &'static str),
    ) -> Fixture {
        let mut params = CertificateParams::new([]).expect("no names are good names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let files = TempDir::new().expect("a temporary folder");
        let first = Pair::new(&ca);
        let (cert, key) = write_first(files.path(), &first);
        let path = |name: &str| files.path().join(name).display().to_string();
        let lockgate = Lockgate::with_file(&format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n\n[tls]\ncertificates = [{{ cert = {:?}, key = {:?} }}]\n\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
            path(cert),
            path(key),
            Backend::echo().await
        ));
        let mut fixture = Fixture {
            lockgate: lockgate.start().await,
            files,
            ca,
            sessions: vec![],
            echoed: 0,
        };
        for _ in 0..SESSIONS {
            let mut client = Wire::tls(fixture.connect().await);
            client.send(handshake("/", "")).await;
            assert_eq!(client.head().await.status(), 101);
            fixture.sessions.push(client);
        }
        assert_eq!(fixture.served().await, first.der);
        fixture
    }

    fn dir(&self) -> &Path {
        self.files.path()
    }

    fn pair(&self) -> Pair {
        Pair::new(&self.ca)
    }

    /// Waits until new clients are presented this certificate, while the sessions keep echoing.
    async fn until_served(&mut self, pair: &Pair) {
        within("the new certificate", async {
            let mut ticker = interval(POLL_INTERVAL);
            while self.served().await != pair.der {
                self.echo().await;
                ticker.tick().await;
            }
        })
        .await;
        self.echo().await;
        let listed = self.lockgate.certificates().await;
        assert_eq!(listed[0]["names"][0], "a.test", "{listed:?}");
    }

    /// Checks that every session echoes its next message.
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

    /// Waits until `lockgate cert list` prints `text`.
    async fn until_error(&mut self, text: &str) -> String {
        within("a reason in `cert list`", async {
            let mut ticker = interval(POLL_INTERVAL);
            loop {
                match self.error().await {
                    Some(error) if error.contains(text) => break error,
                    _ => self.echo().await,
                }
                ticker.tick().await;
            }
        })
        .await
    }

    /// The logged errors of new certificates, each with the end of the previous one, which is kept.
    fn kept(&self) -> Vec<Value> {
        let mut log = self.lockgate.log("ERROR");
        log.retain(|line| line["served_until"].is_string());
        log
    }

    async fn error(&self) -> Option<String> {
        let listed = self.lockgate.certificates().await;
        listed[0]["error"].as_str().map(ToOwned::to_owned)
    }

    /// The certificate presented to a new client.
    async fn served(&self) -> CertificateDer<'static> {
        let stream = self.connect().await;
        let chain = stream.get_ref().1.peer_certificates();
        chain.expect("every server has one")[0].clone().into_owned()
    }

    /// Connects a client that trusts the CA and has no ticket.
    async fn connect(&self) -> TlsStream<TcpStream> {
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
            let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
            connected.await.expect("it is served a good certificate")
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

    fn write(&self, dir: &Path, cert: &str, key: &str) {
        for (name, content) in [(cert, &self.cert), (key, &self.key)] {
            let path: PathBuf = dir.join(name);
            let folder = path.parent().expect("it is in a folder");
            fs::create_dir_all(folder).expect("ours");
            fs::write(path, content).expect("ours");
        }
    }
}

const SESSIONS: usize = 20;
/// Interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
