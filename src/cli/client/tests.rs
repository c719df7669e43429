use crate::{
    admin::{
        Admin, Surface,
        listener::{address, bind},
        serve::serve,
    },
    cli::client::*,
    lifecycle::{
        command::{
            self, BackendStatus, Command, ListenerStatus, PoolStatus, RouteStatus, ServerState,
            Status,
        },
        tasks::Tasks,
    },
    observe::metrics::Metrics,
};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, watch},
};

const LONG: Duration = Duration::from_secs(20);

fn loopback() -> AdminAddress {
    AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn status() -> Status {
    Status {
        version: "0.1.0",
        state: ServerState::Ready,
        process: 4711,
        uptime_seconds: 93_784,
        connections: 1234,
        connections_max: 9900,
        sessions: 1200,
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
        listeners: vec![
            ListenerStatus {
                kind: "https",
                address: "[::]:443".to_owned(),
            },
            ListenerStatus {
                kind: "admin",
                address: "unix:/run/lockgate/admin.sock".to_owned(),
            },
        ],
        routes: vec![RouteStatus {
            name: "chat".to_owned(),
            rule: "chat.example.com /ws/*".to_owned(),
            pool: "chat".to_owned(),
            draining: false,
        }],
        names: Vec::new(),
        pools: vec![PoolStatus {
            name: "chat".to_owned(),
            waiting: 3,
        }],
        backends: vec![
            BackendStatus {
                pool: "chat".to_owned(),
                address: "ws://10.0.0.1:8765".to_owned(),
                leases: 1199,
                handshakes: 0,
                state: "up",
                ejected_seconds: None,
                why: None,
                draining: false,
            },
            BackendStatus {
                pool: "chat".to_owned(),
                address: "ws://app:80".to_owned(),
                leases: 1,
                handshakes: 1,
                state: "down",
                ejected_seconds: None,
                why: Some("no HTTP answer".to_owned()),
                draining: false,
            },
            BackendStatus {
                pool: "chat".to_owned(),
                address: "ws://new:80".to_owned(),
                leases: 0,
                handshakes: 0,
                state: "ejected",
                ejected_seconds: Some(11),
                why: Some("no connection".to_owned()),
                draining: false,
            },
        ],
    }
}

#[test]
fn status_is_rendered_as_tables() {
    let status = serde_json::to_value(status()).unwrap();
    let expected = "\
lockgate 0.1.0, ready, process 4711, up 1day 2h 3m 4s
connections  1234 of 9900
sessions     1200 of 9000
requests     7
to backends  1210, 3 of them idle
descriptors  2444 of 19800
waiting      3 in the queue of pool chat

listeners
  https  [::]:443
  admin  unix:/run/lockgate/admin.sock

routes
  chat  chat.example.com /ws/*  pool chat

backends (leases: sessions, requests and pending handshakes)
  chat  ws://10.0.0.1:8765  1199 leases
  chat  ws://app:80         1 lease, down: no HTTP answer
  chat  ws://new:80         0 leases, ejected for 12 s: no connection
";
    assert_eq!(render_status(&status), expected);
}

#[test]
fn unknown_status_fields_are_rendered_as_question_marks() {
    let text = render_status(&json!({ "version": "9.0.0", "listeners": [{}], "routes": 7 }));
    assert!(
        text.starts_with("lockgate 9.0.0, ?, process ?, up ?\nconnections  ? of ?\n"),
        "{text}"
    );
    assert!(text.contains("listeners\n  ?  ?\n"), "{text}");
}

#[tokio::test]
async fn admin_requests_work_over_tcp_and_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let unix = AdminAddress::Unix(folder.path().join("admin.sock"));
    for configured in [loopback(), unix.clone()] {
        let (commands, mut received) = mpsc::channel(1);
        let (_state, state) = watch::channel(ServerState::Ready);
        let admin = Arc::new(Admin {
            metrics: Arc::new(Metrics::new()),
            sessions: Arc::default(),
            token: Default::default(),
            proofs: Default::default(),
            commands,
            state,
            max_connections: 16,
        });
        let bound = bind(&configured).unwrap().expect("not off");
        let real = match address(&bound).parse() {
            Ok(tcp) => AdminAddress::Tcp(tcp),
            Err(_) => unix.clone(),
        };
        let tasks = Tasks::default();
        tasks.spawn(serve(Arc::new(bound), admin, Surface::Full, tasks.clone()));
        tasks.spawn(async move {
            while let Some(Command::Status(reply)) = received.recv().await {
                let _ = reply.send(status());
            }
        });
        let health = get(&real, "/healthz", LONG).await.unwrap();
        assert_eq!(health, (200, "ok\n".to_owned()));
        let (code, text) = get(&real, "/status", LONG).await.unwrap();
        assert_eq!(code, 200);
        let received: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(received, serde_json::to_value(status()).unwrap());
        assert_eq!(get(&real, "/nothing", LONG).await.unwrap().0, 404);
    }
}

#[tokio::test]
async fn connection_errors_name_the_address_and_the_key() {
    let folder = tempfile::tempdir().unwrap();
    // Bound, so that no other process gets the port, but without `listen`.
    let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    unused
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let tcp = AdminAddress::Tcp(unused.local_addr().unwrap().as_socket().unwrap());
    let unix = AdminAddress::Unix(folder.path().join("admin.sock"));
    for address in [tcp, unix] {
        let error = get(&address, "/healthz", LONG)
            .await
            .unwrap_err()
            .to_string();
        let endpoint = describe(&address);
        let expected = format!(
            "nothing listens on {endpoint}: is lockgate running, and is server.admin the same?"
        );
        assert_eq!(error, expected);
    }
    let error = get(&AdminAddress::Off, "/healthz", LONG).await.unwrap_err();
    assert!(error.to_string().contains("\"off\""), "{error}");
}

#[tokio::test]
async fn other_listening_program_is_reported() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = AdminAddress::Tcp(other.local_addr().unwrap());
    // The listener never calls accept; the kernel completes the TCP handshake.
    let error = get(&address, "/healthz", Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("did not answer within 50ms"),
        "{error}"
    );
    drop(other);

    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = AdminAddress::Tcp(other.local_addr().unwrap());
    let talk = async {
        let (mut stream, _) = other.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        stream
            .write_all(b"220 mail.example ESMTP\r\n")
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(get(&address, "/healthz", LONG), talk);
    let error = answer.unwrap_err().to_string();
    assert!(
        error.contains("is it lockgate that listens there?"),
        "{error}"
    );
}
