use crate::{
    admin::{
        listener::{self, describe},
        serve::{ServeTimeouts, serve_with},
        *,
    },
    config::AdminAddress,
    lifecycle::{
        command::{self, Status},
        tasks::Tasks,
    },
};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// An admin listener that is served until the test ends.
struct Served {
    address: String,
    tasks: Tasks,
    state: watch::Sender<ServerState>,
    commands_rx: mpsc::Receiver<Command>,
}

impl Served {
    fn on(address: AdminAddress, surface: Surface, timeouts: ServeTimeouts) -> Self {
        Self::start(address, surface, timeouts, "")
    }

    fn with_token(surface: Surface, token: &str) -> Self {
        Self::start(loopback(), surface, LONG_TIMEOUTS, token)
    }

    fn start(
        address: AdminAddress,
        surface: Surface,
        timeouts: ServeTimeouts,
        token: &str,
    ) -> Self {
        let (state, seen) = watch::channel(ServerState::Ready);
        let (commands, commands_rx) = mpsc::channel(1);
        let admin = Arc::new(Admin {
            metrics: Arc::new(Metrics::new()),
            sessions: Arc::default(),
            token: token.parse().unwrap(),
            proofs: Default::default(),
            commands,
            state: seen,
            max_connections: MAX_CONNECTIONS,
        });
        let bound = listener::bind(&address).unwrap().expect("not off");
        let address = listener::address(&bound);
        let tasks = Tasks::default();
        tasks.spawn(serve_with(
            Arc::new(bound),
            admin,
            surface,
            tasks.clone(),
            timeouts,
        ));
        Served {
            address,
            tasks,
            state,
            commands_rx,
        }
    }

    fn tcp(surface: Surface) -> Self {
        Self::on(loopback(), surface, LONG_TIMEOUTS)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    async fn request(&self, request: &str) -> Answer {
        exchange(self.connect().await, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request, and reads until the server closes.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG_TIMEOUT, stream.read_to_string(&mut answer)).await;
    read.expect("the server closes").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn loopback() -> AdminAddress {
    AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A timeout longer than any test needs.
const LONG_TIMEOUT: Duration = Duration::from_secs(20);

const LONG_TIMEOUTS: ServeTimeouts = ServeTimeouts {
    head: LONG_TIMEOUT,
    reply: LONG_TIMEOUT,
    connection: LONG_TIMEOUT,
    shutdown: LONG_TIMEOUT,
};

const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn paths_by_surface_and_method() {
    let full = Served::tcp(Surface::Full);
    let metrics = Served::tcp(Surface::Metrics);
    for (method, path, on_full, on_metrics) in [
        ("GET", "/healthz", 200, 200),
        ("GET", "/healthz?x=1", 200, 200),
        ("HEAD", "/healthz", 200, 200),
        ("GET", "/readyz", 200, 200),
        ("GET", "/metrics", 200, 200),
        ("GET", "/status/", 404, 404),
        ("GET", "/", 404, 404),
        ("POST", "/", 404, 404),
        ("POST", "/metrics", 405, 405),
        ("DELETE", "/healthz", 405, 405),
        ("OPTIONS", "/readyz", 405, 405),
        ("POST", "/status", 405, 404),
    ] {
        for (served, status) in [(&full, on_full), (&metrics, on_metrics)] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = served.request(&request).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert!(
                answer.head.contains("cache-control: no-store"),
                "{answer:?}"
            );
            assert!(answer.head.contains("x-content-type-options: nosniff"));
            let allow = answer.head.contains("\r\nallow: get, head");
            assert_eq!(allow, status == 405, "{answer:?}");
            assert_eq!(answer.body.is_empty(), method == "HEAD", "{answer:?}");
        }
    }
    assert_eq!(metrics.get("/status").await.status, 404);
}

#[tokio::test]
async fn requests_of_web_pages_are_refused() {
    let full = Served::tcp(Surface::Full);
    let metrics = Served::tcp(Surface::Metrics);
    for (headers, on_full, on_metrics, named) in [
        ("Host: localhost", 200, 200, ""),
        ("Host: LOCALHOST:9180", 200, 200, ""),
        ("Host: 127.0.0.1", 200, 200, ""),
        ("Host: 127.8.8.8:1", 200, 200, ""),
        ("Host: [::1]:9180", 200, 200, ""),
        ("Host: [::ffff:127.0.0.1]", 200, 200, ""),
        ("Host: evil.example", 403, 200, "Host"),
        ("Host: localhost.evil.example", 403, 200, "Host"),
        ("Host: 127.0.0.1.evil.example", 403, 200, "Host"),
        ("Host: localhost@evil.example", 403, 200, "Host"),
        ("Host: evil.example@localhost", 403, 200, "Host"),
        ("Host: 10.0.0.1:9180", 403, 200, "Host"),
        ("Host: ", 403, 200, "Host"),
        ("X: y", 400, 200, "Host"),
        ("Host: localhost\r\nHost: localhost", 400, 200, "Host"),
        ("Host: localhost\r\nOrigin: null", 403, 403, "Origin"),
        (
            "Host: localhost\r\nOrigin: http://localhost",
            403,
            403,
            "Origin",
        ),
        ("Host: localhost\r\nSec-Fetch-Site: none", 200, 200, ""),
        (
            "Host: localhost\r\nSec-Fetch-Site: same-origin",
            403,
            403,
            "Sec-Fetch-Site",
        ),
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site",
            403,
            403,
            "Sec-Fetch-Site",
        ),
        (
            "Host: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site",
            403,
            403,
            "Sec-Fetch-Site",
        ),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\n{headers}\r\n\r\n");
        for (served, status) in [(&full, on_full), (&metrics, on_metrics)] {
            let answer = served.request(&request).await;
            assert_eq!(answer.status, status, "{headers}: {answer:?}");
            assert!(status == 200 || answer.body.contains(named), "{answer:?}");
        }
    }
    // RFC 9112 §3.2.2: the target's authority takes precedence.
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(full.request(absolute).await.status, 403);
    let absolute = "GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(full.request(absolute).await.status, 200);
}

#[tokio::test]
async fn host_and_origin_are_checked_before_the_path() {
    let full = Served::tcp(Surface::Full);
    for path in ["/healthz", "/readyz", "/status", "/nothing"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(full.request(&request).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn readyz_follows_the_server_state_and_healthz_is_always_ok() {
    let served = Served::tcp(Surface::Metrics);
    for (state, status, text) in [
        (ServerState::Starting, 503, "starting\n"),
        (ServerState::Ready, 200, "ready\n"),
        (ServerState::Draining, 503, "draining\n"),
    ] {
        served.state.send_replace(state);
        let answer = served.get("/readyz").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text));
        let answer = served.get("/healthz").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    }
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let served = Served::tcp(Surface::Full);
    let answer = served.get("/metrics").await;
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.head.contains(kind), "{answer:?}");
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn status_returns_the_servers_reply() {
    let mut served = Served::tcp(Surface::Full);
    let mut commands_rx = std::mem::replace(&mut served.commands_rx, mpsc::channel(1).1);
    let server = async {
        let Some(Command::Status(reply)) = commands_rx.recv().await else {
            panic!("a command");
        };
        reply.send(status()).unwrap();
    };
    let (answer, ()) = tokio::join!(served.get("/status"), server);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status["state"], "ready");
    assert_eq!(status["sessions_max"], 9000);
}

#[tokio::test]
async fn command_without_reply_times_out_with_503() {
    let timeouts = ServeTimeouts {
        reply: SHORT_TIMEOUT,
        ..LONG_TIMEOUTS
    };
    // The commands are never received: the first waits for its reply, the second for space in the channel.
    let served = Served::on(loopback(), Surface::Full, timeouts);
    for _ in 0..2 {
        let answer = served.get("/status").await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("in time"), "{answer:?}");
    }
    let mut stopped = Served::tcp(Surface::Full);
    stopped.commands_rx.close();
    let answer = stopped.get("/status").await;
    assert_eq!(
        (answer.status, answer.body.contains("stopped")),
        (503, true)
    );
}

#[tokio::test]
async fn body_or_oversized_head_is_refused() {
    let served = Served::tcp(Surface::Full);
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let answer = served
        .request(&format!("{head}Content-Length: 4\r\n\r\nbody"))
        .await;
    assert_eq!(answer.status, 413);
    let long = "x".repeat(15 * 1024);
    assert_eq!(
        served
            .request(&format!("{head}X: {long}\r\n\r\n"))
            .await
            .status,
        200
    );
    // Just over the limit, so that no unread bytes turn the answer into a reset.
    let long = "x".repeat(16 * 1024 - head.len() - "X: ".len());
    assert_eq!(
        served.request(&format!("{head}X: {long}")).await.status,
        431
    );
}

#[tokio::test]
async fn connection_serves_one_request() {
    let served = Served::tcp(Surface::Full);
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = served.request(request).await;
    assert!(answer.head.contains("connection: close"), "{answer:?}");
}

#[tokio::test]
async fn slow_head_or_silent_client_is_disconnected() {
    for timeouts in [
        ServeTimeouts {
            head: SHORT_TIMEOUT,
            ..LONG_TIMEOUTS
        },
        ServeTimeouts {
            connection: SHORT_TIMEOUT,
            ..LONG_TIMEOUTS
        },
    ] {
        let served = Served::on(loopback(), Surface::Full, timeouts);
        for begun in ["", "GET /healthz HTTP/1.1\r\nHost: loc"] {
            let mut stream = served.connect().await;
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let read = timeout(LONG_TIMEOUT / 2, stream.read_to_end(&mut answer)).await;
            read.expect("cut long before").unwrap();
        }
    }
}

#[tokio::test]
async fn request_above_the_limit_closes_the_oldest_connection_without_a_request() {
    let served = Served::tcp(Surface::Full);
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = served.connect().await;
        stream.write_all(b"GET ").await.unwrap();
        silent.push(stream);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = timeout(LONG_TIMEOUT / 2, served.request(request)).await;
    assert_eq!(answer.expect("at once").status, 200);
    let oldest = timeout(LONG_TIMEOUT / 2, silent[0].read(&mut [0])).await;
    assert!(matches!(oldest.expect("it is closed"), Ok(0) | Err(_)));
    let newest = timeout(SHORT_TIMEOUT, silent[MAX_CONNECTIONS - 1].read(&mut [0])).await;
    assert!(newest.is_err(), "it stays: {newest:?}");
}

#[tokio::test]
async fn requests_above_the_limit_wait_for_a_permit() {
    let served = Served::tcp(Surface::Full);
    let mut holders = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = served.connect().await;
        // The reply to the command does not come.
        let request = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        holders.push(stream);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut late = Box::pin(served.request(request));
    assert!(
        timeout(SHORT_TIMEOUT, &mut late).await.is_err(),
        "it has no place"
    );
    holders.pop();
    let answer = timeout(LONG_TIMEOUT, late).await.expect("a place was left");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn shutdown_closes_the_listener_and_idle_connections() {
    let timeouts = ServeTimeouts {
        shutdown: SHORT_TIMEOUT,
        ..LONG_TIMEOUTS
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let served = Served::on(AdminAddress::Unix(path.clone()), Surface::Full, timeouts);
    let mut idle = UnixStream::connect(&path).await.unwrap();
    idle.write_all(b"GET ").await.unwrap();
    // Answered only after the idle one was accepted.
    let next = UnixStream::connect(&path).await.unwrap();
    exchange(next, "GET /healthz HTTP/1.1\r\n\r\n").await;
    served.tasks.stop();
    assert!(served.tasks.finish(LONG_TIMEOUT / 2).await);
    assert!(!path.exists(), "the socket's file is removed");
    assert_eq!(idle.read(&mut [0; 64]).await.unwrap(), 0);
}

#[tokio::test]
async fn unix_socket_has_mode_0600_and_needs_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let served = Served::on(
        AdminAddress::Unix(path.clone()),
        Surface::Full,
        LONG_TIMEOUTS,
    );
    assert_eq!(served.address, format!("unix:{}", path.display()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (headers, status) in [
        ("", 200),
        ("Host: any.example\r\n", 200),
        ("Host: localhost\r\nOrigin: http://localhost\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
    ] {
        let stream = UnixStream::connect(&path).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\n{headers}\r\n");
        assert_eq!(exchange(stream, &request).await.status, status, "{headers}");
    }
}

#[tokio::test]
async fn stale_socket_is_replaced_and_live_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let unix = AdminAddress::Unix(path.clone());
    // std's listener does not remove its file on drop.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let first = listener::bind(&unix).unwrap();
    let error = listener::bind(&unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains("another process is listening"),
        "{error}"
    );
    assert!(
        is_socket(&path),
        "the socket file of the live listener was removed"
    );
    drop(first);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let error = listener::bind(&unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

    let error =
        listener::bind(&AdminAddress::Unix(folder.path().join("none/admin.sock"))).unwrap_err();
    assert!(
        error.to_string().contains("directory does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn dropped_listener_keeps_the_socket_file_of_a_successor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let first = listener::bind(&AdminAddress::Unix(path.clone())).unwrap();
    // Kept under another name, so that its inode number is not reused.
    std::fs::rename(&path, folder.path().join("old.sock")).unwrap();
    let _second = listener::bind(&AdminAddress::Unix(path.clone())).unwrap();
    drop(first);
    assert!(is_socket(&path));
}

#[tokio::test]
async fn address_and_describe_use_the_configured_syntax() {
    assert!(listener::bind(&AdminAddress::Off).unwrap().is_none());
    assert_eq!(describe(&AdminAddress::Off), "off");
    assert_eq!(describe(&loopback()), "127.0.0.1:0");
    assert_eq!(
        describe(&AdminAddress::Unix("/run/a.sock".into())),
        "unix:/run/a.sock"
    );
    let bound = listener::bind(&loopback()).unwrap().unwrap();
    let real: SocketAddr = listener::address(&bound).parse().unwrap();
    assert_ne!(real.port(), 0);
    assert_eq!(
        listener::bind(&AdminAddress::Tcp(real)).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
}

/// The connections of the admin listener.
const MAX_CONNECTIONS: usize = 16;

fn is_socket(path: &Path) -> bool {
    let file = std::fs::symlink_metadata(path);
    file.is_ok_and(|file| file.file_type().is_socket())
}

fn status() -> Status {
    Status {
        version: "0.1.0",
        state: ServerState::Ready,
        process: 4711,
        uptime_seconds: 5,
        connections: 1,
        connections_max: 10_000,
        sessions: 1,
        sessions_max: 9000,
        requests: 7,
        backend_connections: 1210,
        backend_connections_idle: 3,
        descriptors: 2444,
        descriptors_max: 19_800,
        closing: 0,
        config: command::ConfigStatus {
            file: None,
            loaded: "2026-11-21T12:00:00Z".to_owned(),
            error: None,
            needs_restart: vec![],
        },
        listeners: vec![],
        routes: vec![],
        names: Vec::new(),
        pools: vec![],
        backends: vec![],
    }
}

/// Host × Origin × method × transport: only programs on this machine are accepted.
#[tokio::test]
async fn every_host_and_origin_of_a_web_page_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let tcp = Served::tcp(Surface::Full);
    let unix = Served::on(
        AdminAddress::Unix(path.clone()),
        Surface::Full,
        LONG_TIMEOUTS,
    );
    let origins = [
        None,
        Some("null"),
        Some("https://evil.example"),
        Some("http://localhost:9180"),
        Some("http://127.0.0.1:9180"),
    ];
    let mut allowed = 0;
    for (method, target) in [("GET", "/sessions"), ("POST", "/sessions/close?all")] {
        for host in ["localhost:9180", "evil.example"] {
            for origin in origins {
                let origin_line = origin.map(|it| format!("Origin: {it}\r\n"));
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{}\r\n",
                    origin_line.unwrap_or_default()
                );
                let over_tcp = tcp.request(&request).await.status;
                let over_unix = UnixStream::connect(&path).await.unwrap();
                let over_unix = exchange(over_unix, &request).await.status;
                // A Unix socket has no host name to check, and no web page can open one.
                let expected = |names| match (origin, names) {
                    (None, true) => 200,
                    _ => 403,
                };
                let cell = format!("{method} {host} {origin:?}");
                assert_eq!(over_tcp, expected(host != "evil.example"), "tcp {cell}");
                assert_eq!(over_unix, expected(true), "unix {cell}");
                allowed += i32::from(over_tcp == 200) + i32::from(over_unix == 200);
            }
        }
    }
    drop(unix);
    assert_eq!(allowed, 2 + 4, "of 40 cells");
}

#[tokio::test]
async fn token_is_required_except_for_health_and_metrics() {
    let token = "c2VjcmV0.~+/-_=";
    let full = Served::with_token(Surface::Full, token);
    let metrics = Served::with_token(Surface::Metrics, token);
    for (path, on_full, on_metrics) in [
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/metrics", 401, 200),
        ("/sessions", 401, 404),
        ("/nothing", 401, 404),
    ] {
        let answer = full.get(path).await;
        assert_eq!(answer.status, on_full, "{path}");
        let asks = answer.head.contains("www-authenticate: bearer");
        assert_eq!(asks, on_full == 401, "{answer:?}");
        assert_eq!(metrics.get(path).await.status, on_metrics, "{path}");
    }
    for (line, status) in [
        (format!("Bearer {token}"), 200),
        (format!("bearer   {token}"), 200),
        (format!("Bearer {token}x"), 401),
        (format!("Bearer {}", &token[1..]), 401),
        (format!("Basic {token}"), 401),
        ("Bearer ".to_owned(), 401),
        (token.to_owned(), 401),
        (
            format!("Bearer {token}\r\nAuthorization: Bearer {token}"),
            401,
        ),
    ] {
        let request =
            format!("GET /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {line}\r\n\r\n");
        let answer = full.request(&request).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(!answer.body.contains(token) && !answer.head.contains(token));
    }
}

#[tokio::test]
async fn parameters_of_drain_and_renew_are_named_once_and_known() {
    let mut served = Served::tcp(Surface::Full);
    let mut commands = std::mem::replace(&mut served.commands_rx, mpsc::channel(1).1);
    served.tasks.spawn(async move {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Drain {
                    target,
                    action,
                    reply,
                } => {
                    let pools_without_backend = vec![format!("{target:?} {action:?}").into()];
                    let _ = reply.send(Ok(command::DrainReport {
                        closing: 0,
                        pools_without_backend,
                    }));
                }
                Command::Renew(_, reply) => drop(reply.send(Ok(()))),
                _ => {}
            }
        }
    });
    for (path, status, part) in [
        ("/drain?route=a", 200, "Route(\"a\") Start"),
        ("/drain?route=a%26b&undo", 200, "the drain has ended"),
        ("/drain?undo&route=a", 200, "the drain has ended"),
        (
            "/drain?backend=ws%3A%2F%2Fa%3A1",
            200,
            "Backend(\"ws://a:1\") Start",
        ),
        (
            "/drain?backend=ws://a:1/=",
            200,
            "Backend(\"ws://a:1/=\") Start",
        ),
        ("/drain?route=a&route=b", 400, "`route` is given twice"),
        ("/drain?route=a&backend=b", 400, "a target is missing"),
        ("/drain?route=a&undoo", 400, "unknown parameter `undoo`"),
        ("/drain?route=%FF", 400, "UTF-8"),
        ("/drain?undo", 400, "a target is missing"),
        ("/drain", 400, "a target is missing"),
        ("/certificates/renew?host=a.test", 202, "a.test is ordered"),
        (
            "/certificates/renew?host=a.test&host=b.test",
            400,
            "`host` is given twice",
        ),
        (
            "/certificates/renew?host=a.test&force",
            400,
            "unknown parameter `force`",
        ),
        ("/certificates/renew", 400, "a host is missing"),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = served.request(&request).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.body.contains(part), "{path}: {answer:?}");
    }
}
