//! Backends that authenticate connections (NTLM, Negotiate): such a connection serves one connection of a client only.

use crate::harness::{Backend, H2, Head, Lockgate, Program, Wire, eventually, request, within};
use http_body_util::BodyExt;
use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

/// A server with a user per connection. Its responses have the user and the number of the connection.
///
/// `Authorization: SCHEME one` is the first message of a handshake, and `SCHEME two:USER` the second; the path
/// `/persistent/USER` sets the user as well, and `/challenge` is answered by the challenge in `X-Challenge`.
struct IdentityServer {
    addresses: Vec<SocketAddr>,
    open: Arc<AtomicUsize>,
}

impl IdentityServer {
    /// Starts it on several addresses.
    async fn start(addresses: usize) -> IdentityServer {
        let (open, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut server = IdentityServer {
            addresses: vec![],
            open: open.clone(),
        };
        for _ in 0..addresses {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            server.addresses.push(listener.local_addr().expect("bound"));
            let (open, opened) = (open.clone(), opened.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (open, number) = (open.clone(), opened.fetch_add(1, Ordering::Relaxed));
                    open.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        serve(Wire::plain(stream), number).await;
                        open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            });
        }
        server
    }

    /// Waits until it has this number of open connections.
    async fn has_open(&self, expected: usize) {
        eventually(format!("{expected} open connections"), async || match self
            .open
            .load(Ordering::Relaxed)
        {
            open if open == expected => Ok(()),
            open => Err(format!("{open} connections")),
        })
        .await;
    }
}

/// Serves one connection to its end.
async fn serve(mut wire: Wire, number: usize) {
    let (mut user, mut challenged) = ("anonymous".to_owned(), false);
    while wire.has_more().await {
        let head = wire.head().await;
        let path = head.start.split(' ').nth(1).unwrap_or_default();
        let credentials = head.get("authorization").and_then(|it| it.split_once(' '));
        let mut fields = String::new();
        let mut status = "200 OK";
        match credentials {
            Some((scheme, "one")) => {
                (status, challenged) = ("401 Unauthorized", true);
                fields = format!("WWW-Authenticate: {scheme} challenge\r\n");
            }
            Some((_, message)) if challenged && message.starts_with("two:") => {
                (user, challenged) = (message[4..].to_owned(), false);
            }
            Some((_, message)) if message.starts_with("two:") => status = "400 Bad Request",
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/persistent/") {
            user = name.to_owned();
            fields = "Persistent-Auth: true\r\n".to_owned();
        }
        if let Some(challenges) = head.get("x-challenge") {
            status = "401 Unauthorized";
            fields = challenges.replace(" | ", "\r\n") + "\r\n";
        }
        let body = format!("{user} {number}");
        let length = body.len();
        wire.send(format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }
}

/// A response: status, user and number of the backend's connection.
type Answer = (u16, String, String);

fn answer(status: u16, body: &[u8]) -> Answer {
    let body = String::from_utf8_lossy(body);
    let (user, number) = body.split_once(' ').unwrap_or((&body, ""));
    (status, user.to_owned(), number.to_owned())
}

/// A client connection of either version.
enum Client {
    Http1(Wire),
    Http2(H2),
}

impl Client {
    async fn connect(lockgate: &Lockgate, version: u8) -> Client {
        match version {
            1 => Client::Http1(lockgate.connect().await),
            _ => Client::Http2(lockgate.h2().await),
        }
    }

    async fn get(&mut self, path: &str, field: (&str, &str)) -> Answer {
        let (name, value) = field;
        match self {
            Client::Http1(wire) => {
                wire.send(format!(
                    "GET {path} HTTP/1.1\r\nHost: a.test\r\n{name}: {value}\r\n\r\n"
                ))
                .await;
                let head: Head = wire.head().await;
                let body = wire.body(&head).await;
                answer(head.status(), &body)
            }
            Client::Http2(connection) => {
                let mut get = request("GET", path);
                let name: http::HeaderName = name.parse().expect("a name");
                get.headers_mut()
                    .insert(name, value.parse().expect("a value"));
                let response = connection.send(get).await;
                let status = response.status().as_u16();
                let body = within("a body", response.collect()).await.expect("a body");
                answer(status, &body.to_bytes())
            }
        }
    }

    /// Performs the handshake; returns the connection of the backend.
    async fn log_in(&mut self, scheme: &str, user: &str) -> String {
        let (status, _, first) = self
            .get("/", ("authorization", &format!("{scheme} one")))
            .await;
        assert_eq!(status, 401);
        let second = format!("{scheme} two:{user}");
        let (status, seen, number) = self.get("/", ("authorization", &second)).await;
        assert_eq!(
            (status, &*seen, &number),
            (200, user, &first),
            "one connection"
        );
        number
    }
}

const NONE: (&str, &str) = ("x-none", "1");

/// Returns whether one of several requests of other clients is answered on the backend's connection `number`.
async fn is_shared(lockgate: &Lockgate, number: &str) -> bool {
    for _ in 0..10 {
        let (_, user, other) = Client::connect(lockgate, 1).await.get("/", NONE).await;
        if other == number {
            return true;
        }
        assert_eq!(user, "anonymous");
    }
    false
}

#[tokio::test]
async fn authenticated_connection_serves_its_client_only_and_closes_with_it() {
    for version in [1, 2] {
        for scheme in ["NTLM", "ntlm", "Negotiate", "NEGOTIATE"] {
            let server = IdentityServer::start(1).await;
            let lockgate = Lockgate::to(server.addresses[0]).start().await;
            let mut alice = Client::connect(&lockgate, version).await;
            let number = alice.log_in(scheme, "alice").await;
            assert!(
                !is_shared(&lockgate, &number).await,
                "{scheme} over {version}"
            );
            let mut bob = Client::connect(&lockgate, version).await;
            assert_eq!(
                bob.get("/", NONE).await.1,
                "anonymous",
                "{scheme} over {version}"
            );
            bob.log_in(scheme, "bob").await;
            for _ in 0..5 {
                assert_eq!(alice.get("/", NONE).await.1, "alice");
                assert_eq!(bob.get("/", NONE).await.1, "bob");
            }
            drop((alice, bob));
            server.has_open(0).await;
        }
    }
}

#[tokio::test]
async fn response_that_requires_connection_authentication_binds_its_connection() {
    for (challenges, expected) in [
        ("WWW-Authenticate: NTLM", true),
        ("www-authenticate: negotiate", true),
        ("WWW-Authenticate: Basic realm=\"a, b\", NTLM", true),
        (
            "WWW-Authenticate: Basic realm=\"x\" | WWW-Authenticate: Negotiate",
            true,
        ),
        ("WWW-Authenticate: Bearer,Negotiate abc==", true),
        ("Persistent-Auth: true", true),
        ("WWW-Authenticate: Basic realm=\"x\"", false),
        ("Persistent-Auth: false", false),
    ] {
        for version in [1, 2] {
            let server = IdentityServer::start(1).await;
            let lockgate = Lockgate::to(server.addresses[0]).start().await;
            let mut client = Client::connect(&lockgate, version).await;
            let (status, _, number) = client.get("/", ("x-challenge", challenges)).await;
            assert_eq!(status, 401);
            assert_eq!(
                is_shared(&lockgate, &number).await,
                !expected,
                "{challenges}"
            );
            if expected {
                assert_eq!(client.get("/", NONE).await.2, number, "{challenges}");
                drop(client);
                server.has_open(0).await;
            }
        }
    }
}

#[tokio::test]
async fn user_of_a_persistent_response_stays_with_its_client() {
    let server = IdentityServer::start(1).await;
    let lockgate = Lockgate::to(server.addresses[0]).start().await;
    for version in [1, 2] {
        let mut client = Client::connect(&lockgate, version).await;
        let (_, user, number) = client.get("/persistent/carol", NONE).await;
        assert_eq!(user, "carol");
        assert!(!is_shared(&lockgate, &number).await);
        assert_eq!(client.get("/", NONE).await.1, "carol");
    }
}

#[tokio::test]
async fn handshake_of_several_requests_stays_on_one_of_several_backends() {
    let server = IdentityServer::start(3).await;
    let backends: Vec<String> = server
        .addresses
        .iter()
        .map(|it| format!("\"ws://{it}\""))
        .collect();
    for balance in ["round-robin", "random-two", "least-sessions"] {
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
             [pools.p]\nbackends = [{}]\nbalance = \"{balance}\"\n\
             [[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\n",
            backends.join(", ")
        );
        let lockgate = Lockgate::with_file(&config).start().await;
        for version in [1, 2] {
            for user in ["alice", "bob"] {
                let mut client = Client::connect(&lockgate, version).await;
                let number = client.log_in("NTLM", user).await;
                for _ in 0..4 {
                    let seen = client.get("/", NONE).await;
                    assert_eq!(seen, (200, user.to_owned(), number.clone()), "{balance}");
                }
            }
        }
    }
}

#[tokio::test]
async fn request_without_credentials_does_not_use_the_connection_of_a_handshake_over_http2() {
    let server = IdentityServer::start(1).await;
    let lockgate = Lockgate::to(server.addresses[0]).start().await;
    let mut client = Client::connect(&lockgate, 2).await;
    let (status, _, number) = client.get("/", ("authorization", "NTLM one")).await;
    assert_eq!(status, 401);
    assert_ne!(client.get("/", NONE).await.2, number);
    let seen = client.get("/", ("authorization", "NTLM two:alice")).await;
    assert_eq!(seen, (200, "alice".to_owned(), number));
}

#[tokio::test]
async fn ordinary_credentials_share_connections() {
    let server = IdentityServer::start(1).await;
    let lockgate = Lockgate::to(server.addresses[0]).start().await;
    for credentials in ["Basic eDp5", "Bearer NTLM", "Digest username=\"NTLM\""] {
        let mut client = Client::connect(&lockgate, 1).await;
        let (status, _, number) = client.get("/", ("authorization", credentials)).await;
        assert_eq!(status, 200);
        assert!(is_shared(&lockgate, &number).await, "{credentials}");
    }
}

/// Over a transport whose connections are not pooled, the handshake works as well.
#[tokio::test]
async fn handshake_works_with_a_proxy_header() {
    let backend = Backend::listen().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.p]\nbackends = [{{ address = \"ws://{}\", proxy_protocol = \"v1\" }}]\n\
         [[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\n",
        backend.address
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let serving = tokio::spawn(async move {
        for number in 0..2 {
            let mut wire = backend.accept().await;
            assert!(wire.line().await.starts_with("PROXY TCP4 "));
            tokio::spawn(serve(wire, number));
        }
    });
    let mut alice = Client::connect(&lockgate, 1).await;
    alice.log_in("NTLM", "alice").await;
    assert_eq!(alice.get("/", NONE).await.1, "alice");
    let other = Client::connect(&lockgate, 1).await.get("/", NONE).await;
    assert_eq!(other.1, "anonymous");
    serving.await.expect("two connections");
}

/// Real NTLM: curl, and a server with pyspnego.
#[tokio::test]
async fn curl_authenticates_by_ntlm_and_others_are_not_answered_as_its_user() {
    let folder = TempDir::new().expect("a folder");
    let users = folder.path().join("users");
    std::fs::write(&users, "LAB:alice:secret\nLAB:bob:other\n").expect("writable");
    let users = users.display().to_string();
    let (_server, address) = Program::server_with("ntlm_server.py", &[&users]).await;
    let lockgate = Lockgate::to(address).start().await;
    let base = format!("https://localhost:{}", lockgate.https.port());
    let curl = async |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--cacert"])
            .arg(lockgate.ca())
            .args(["--write-out", " %{http_code} %{num_connects}\n"])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = within("curl", output).await.expect("curl is installed");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (user, password) in [("alice", "secret"), ("bob", "other")] {
        let credentials = format!("LAB\\{user}:{password}");
        let (private, public) = (format!("{base}/private"), format!("{base}/public"));
        for mode in ["--ntlm", "--anyauth"] {
            let seen = curl(&[mode, "--user", &credentials, &private, &private]).await;
            let lines: Vec<&str> = seen.lines().collect();
            assert_eq!(lines.len(), 2, "{mode}: {seen}");
            for line in lines {
                assert!(
                    line.contains(user) && line.contains(" 200 "),
                    "{mode}: {seen}"
                );
            }
        }
        for _ in 0..5 {
            assert_eq!(curl(&[&public]).await, "anonymous 200 1\n");
            assert_eq!(curl(&["--http1.1", &private]).await, " 401 1\n");
        }
    }
}
