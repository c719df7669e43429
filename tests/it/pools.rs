//! Pools: the choice of a backend, and the transports to a backend.

mod backend_death;
mod health_checks;
mod shares;
mod sources;
pub(crate) mod tls;

use crate::harness::{
    Backend, Frame, Lockgate, Wire, eventually, handshake, switching_protocols, within,
};
use std::{collections::HashMap, net::SocketAddr};
use tokio::net::{TcpListener, UnixListener};

/// A Lockgate in front of a pool; `pool` is the pool's lines.
pub(crate) async fn lockgate(pool: &str) -> Lockgate {
    Lockgate::with_file(&file(pool)).start().await
}

fn file(pool: &str) -> String {
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nlog = {{ level = \"info\", format = \"json\" }}\n[tls]\ndev_ca = true\n\
         [pools.chat]\n{pool}\n[[routes]]\nhosts = [\"a.test\"]\norigins = [\"*\"]\npool = \"chat\"\n"
    )
}

/// Opens a session.
async fn open(lockgate: &Lockgate, more: &str) -> Wire {
    let mut client = lockgate.upgrade("/", more).await;
    assert_eq!(client.head().await.status(), 101);
    client
}

/// The number of leases of each backend, by address.
async fn leases(lockgate: &Lockgate) -> HashMap<String, u64> {
    let status = lockgate.status().await;
    let backends = status["backends"].as_array().expect("a list");
    let lease = |backend: &serde_json::Value| {
        let address = backend["address"].as_str().expect("text").to_owned();
        (address, backend["leases"].as_u64().expect("a number"))
    };
    backends.iter().map(lease).collect()
}

#[tokio::test]
async fn sessions_are_balanced_by_weight_up_to_max_sessions() {
    let [one, two] = [Backend::echo().await, Backend::echo().await];
    let pool = format!(
        "backends = [\"ws://{one}\", {{ address = \"ws://{two}\", weight = 2, max_sessions = 4 }}]"
    );
    let lockgate = lockgate(&pool).await;
    let mut clients = vec![];
    for _ in 0..6 {
        clients.push(open(&lockgate, "").await);
    }
    let (one, two) = (format!("ws://{one}"), format!("ws://{two}"));
    let now = leases(&lockgate).await;
    assert_eq!((now[&one], now[&two]), (2, 4));
    for _ in 0..2 {
        clients.push(open(&lockgate, "").await);
    }
    let now = leases(&lockgate).await;
    assert_eq!((now[&one], now[&two]), (4, 4));

    // The settings of a reload apply at once, and no session is closed.
    let smaller = format!(
        "backends = [{{ address = \"{one}\", max_sessions = 4 }}, {{ address = \"{two}\", max_sessions = 1 }}]\nadmission = {{ queue = 0 }}"
    );
    lockgate.write_config(&file(&smaller));
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    let mut client = lockgate.upgrade("/", "").await;
    let refused = client.head().await;
    assert_eq!(
        (refused.status(), refused.get("retry-after")),
        (503, Some("1"))
    );
    let record = lockgate.record(|record| record["status"] == 503).await;
    assert_eq!(record["why"], "backends-full", "{record}");
    let now = leases(&lockgate).await;
    assert_eq!((now[&one], now[&two]), (4, 4));
}

#[tokio::test]
async fn equal_hash_keys_get_the_same_backend() {
    let backends = [
        Backend::echo().await,
        Backend::echo().await,
        Backend::echo().await,
    ];
    let list = backends.map(|at| format!("\"ws://{at}\"")).join(", ");
    let pool = format!("backends = [{list}]\nbalance = \"hash\"\nhash = \"cookie:sid\"");
    let lockgate = lockgate(&pool).await;
    let mut assigned = HashMap::new();
    for user in 0..12 {
        for _ in 0..2 {
            let before = leases(&lockgate).await;
            let cookie = format!("Cookie: a=b; sid={user}\r\n");
            let client = open(&lockgate, &cookie).await;
            let after = leases(&lockgate).await;
            let backend = after.into_iter().find(|(at, count)| before[at] < *count);
            let backend = backend.expect("one has more").0;
            let first = assigned.entry(user).or_insert_with(|| backend.clone());
            assert_eq!(*first, backend);
            drop(client);
            eventually("the end of the session", async || {
                leases(&lockgate).await == before
            })
            .await;
        }
    }
    let used: std::collections::HashSet<_> = assigned.values().collect();
    assert!(used.len() > 1, "{assigned:?}");
}

#[tokio::test]
async fn unix_socket_backend_gets_sessions_and_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.sock");
    let listener = UnixListener::bind(&path).expect("a fresh folder");
    let pool = format!("backends = [\"unix:{}\"]", path.display());
    let lockgate = lockgate(&pool).await;
    let accept = || async {
        let (stream, _) = within("a connection", listener.accept())
            .await
            .expect("lives");
        Wire::backend(stream)
    };

    let mut client = lockgate.upgrade("/room", "").await;
    let mut server = accept().await;
    let request = server.head().await;
    assert_eq!(request.start, "GET /room HTTP/1.1");
    assert_eq!(request.get("host"), Some("a.test"));
    server.send(switching_protocols(&request, "")).await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("up")).await;
    assert_eq!(server.text().await, "up");
    server.send_frame(Frame::text("down")).await;
    assert_eq!(client.text().await, "down");
    server.send_frame(Frame::close(4001, "bye")).await;
    let closed = lockgate.record(|record| record["event"] == "close");
    assert!(client.frame().await.is_close());
    client.send_frame(Frame::close(4001, "bye")).await;
    assert_eq!(closed.await["code"], 4001);

    let mut client = lockgate
        .request("GET /page HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = accept().await;
    assert_eq!(server.head().await.start, "GET /page HTTP/1.1");
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"ok");

    // The socket no longer has a listener.
    drop(listener);
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 502);
}

#[tokio::test]
async fn proxy_header_has_the_client_address() {
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = backend.local_addr().expect("bound");
    for (version, websocket) in [("v1", true), ("v2", true), ("v1", false), ("v2", false)] {
        let pool = format!(
            "backends = [{{ address = \"ws://{address}\", proxy_protocol = \"{version}\" }}]"
        );
        let lockgate = lockgate(&pool).await;
        // Two clients must not share a backend connection.
        for _ in 0..2 {
            let tls = lockgate.tls("a.test").await;
            let client_address = tls.get_ref().0.local_addr().expect("connected");
            let mut client = Wire::tls(tls);
            client
                .send(if websocket {
                    handshake("/", "")
                } else {
                    "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".into()
                })
                .await;
            let (stream, _) = within("a connection", backend.accept())
                .await
                .expect("lives");
            let mut server = Wire::plain(stream);
            let header = proxy_header(version, client_address, lockgate.https);
            assert_eq!(server.exactly(header.len()).await, header, "{version}");
            let request = server.head().await;
            assert_eq!(request.get("host"), Some("a.test"));
            if websocket {
                server.send(switching_protocols(&request, "")).await;
                assert_eq!(client.head().await.status(), 101);
            } else {
                server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
                assert_eq!(client.head().await.status(), 204);
            }
        }
    }
}

fn proxy_header(version: &str, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (ip, port) = (from.ip(), from.port());
    if version == "v1" {
        let line = format!("PROXY TCP4 {ip} {} {port} {}\r\n", to.ip(), to.port());
        return line.into_bytes();
    }
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    bytes.extend(port.to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes
}
