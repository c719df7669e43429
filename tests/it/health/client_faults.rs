//! Failures that one client can cause do not eject a backend.

use super::*;
use crate::harness::switching_protocols;
use futures_util::future::join_all;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// What the client does after its request.
#[derive(Debug, Clone, Copy)]
enum Client {
    /// It reads the response.
    Waits,
    /// It disconnects after this time.
    Leaves(Duration),
}

/// Starts a backend whose response depends on the path; `/` opens a session.
async fn backend() -> SocketAddr {
    let backend = TcpListener::bind((ONE, 0)).await.expect("a free port");
    let address = backend.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = backend.accept().await {
            let mut wire = Wire::plain(stream);
            tokio::spawn(async move {
                let request = wire.head().await;
                let path = request.start.split(' ').nth(1).expect("a target");
                match path {
                    "/closes" => return,
                    "/431" => {
                        wire.send("HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
                            .await
                    }
                    "/503" => {
                        wire.send("HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")
                            .await
                    }
                    "/subprotocol" => {
                        let more = "Sec-WebSocket-Protocol: other\r\n";
                        wire.send(switching_protocols(&request, more)).await;
                    }
                    "/" => wire.send(switching_protocols(&request, "")).await,
                    _ => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

/// Sends the request `times` times at once from `client`, and waits for the end of each.
async fn send(lockgate: &Lockgate, client: IpAddr, request: &str, then: Client, times: usize) {
    let count = |lockgate: &Lockgate| {
        let from = client.to_string();
        let ended = |it: &&serde_json::Value| it["client"] == *from && it["event"] == "request";
        lockgate.records().iter().filter(ended).count()
    };
    let before = count(lockgate);
    let mut open = vec![];
    // The requests begin together, however long the TLS handshakes take.
    for _ in 0..times {
        open.push(lockgate.connect_from(client).await);
    }
    for wire in &mut open {
        wire.send(request).await;
    }
    if let Client::Leaves(stay) = then {
        // How long the client waits, which the case is about.
        sleep(stay).await;
        open.clear();
    }
    eventually(format!("{times} records of {client}"), async || {
        observe(count(lockgate), |ended| *ended >= before + times)
    })
    .await;
}

async fn opens(lockgate: &Lockgate, client: IpAddr) -> Wire {
    let mut wire = lockgate.connect_from(client).await;
    wire.send(handshake("/", "")).await;
    assert_eq!(wire.head().await.status(), 101);
    wire
}

fn config(backends: &[&dyn Display], more: &str) -> String {
    let limits = "[session]\nhandshake_timeout = \"4s\"\n[limits]\nanswer_idle = \"2s\"\nbody_idle = \"1s\"\n";
    let more = format!("all_down = \"refuse\"\nretry = {{ times = 0 }}\n{more}");
    format!("{limits}{}", pool("a", backends, &more))
}

#[tokio::test]
async fn failure_that_a_client_can_cause_ejects_only_if_a_second_client_has_it() {
    use Client::{Leaves, Waits};
    let plain = |method: &str, more: &str| {
        format!("{method} /plain HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{more}\r\n")
    };
    let subprotocol = "Sec-WebSocket-Protocol: chat\r\n";
    let half = Leaves(Duration::from_millis(2800));
    // The case, the request, what the client does, and whether two clients with it eject.
    let cases = [
        (
            "handshake without a response",
            handshake("/hangs", ""),
            Waits,
            true,
        ),
        (
            "connection closed without a response",
            handshake("/closes", ""),
            Waits,
            true,
        ),
        (
            "handshake that cannot be served",
            handshake("/503", ""),
            Waits,
            true,
        ),
        (
            "client left after half of the time",
            handshake("/hangs", ""),
            half,
            true,
        ),
        (
            "client left at once",
            handshake("/hangs", ""),
            Leaves(Duration::from_millis(50)),
            false,
        ),
        (
            "invalid subprotocol",
            handshake("/subprotocol", subprotocol),
            Waits,
            false,
        ),
        (
            "oversized request that is refused",
            handshake("/431", ""),
            Waits,
            false,
        ),
        (
            "plain request without a response",
            plain("GET", ""),
            Waits,
            false,
        ),
        (
            "stalled body",
            plain("POST", "Content-Length: 9\r\n"),
            Waits,
            false,
        ),
        (
            "malformed body",
            plain("POST", "Transfer-Encoding: chunked\r\n") + "x\r\n",
            Waits,
            false,
        ),
        (
            "client left during its body",
            plain("POST", "Content-Length: 9\r\n"),
            half,
            false,
        ),
    ];
    let running = cases.map(|(case, request, then, counts)| async move {
        let backend = backend().await;
        let passive = "passive = { fails = 2, within = \"60s\", eject = \"60s\" }";
        let config = config(&[&backend], passive);
        let lockgate = start(&config).await;
        let ejected = transitions("a", backend, "ejected");
        let _other = opens(&lockgate, OTHER).await;
        send(&lockgate, ONE, &request, then, 4).await;
        assert_eq!(lockgate.metric_or_zero(&ejected).await, 0.0, "{case}");
        send(&lockgate, OTHER, &request, then, 4).await;
        if counts {
            until(&lockgate, &ejected, 1.0).await;
        } else {
            assert_eq!(lockgate.metric_or_zero(&ejected).await, 0.0, "{case}");
            opens(&lockgate, ONE).await;
        }
    });
    join_all(running).await;
}

#[tokio::test]
async fn unanswered_handshakes_of_one_client_eject_no_backend() {
    let backends = [backend().await, backend().await];
    let lockgate = start(&config(&[&backends[0], &backends[1]], "")).await;
    send(&lockgate, ONE, &handshake("/hangs", ""), Client::Waits, 12).await;
    for backend in backends {
        let ejected = transitions("a", backend, "ejected");
        assert_eq!(lockgate.metric_or_zero(&ejected).await, 0.0);
    }
    opens(&lockgate, OTHER).await;
}

#[tokio::test]
async fn failed_connections_of_one_client_eject_a_backend() {
    let refusing = Switch::off().await;
    let lockgate = start(&config(&[&refusing.address], "")).await;
    send(&lockgate, ONE, &handshake("/", ""), Client::Waits, 5).await;
    until(
        &lockgate,
        &transitions("a", refusing.address, "ejected"),
        1.0,
    )
    .await;
}

#[tokio::test]
async fn connections_that_time_out_eject_a_backend_for_one_client() {
    // The accept queue is full, so that the kernel ignores further connections.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((ONE, 0).into()).expect("a free port");
    let listener = socket.listen(0).expect("it listens");
    let address = listener.local_addr().expect("bound");
    let _held = tokio::net::TcpStream::connect(address)
        .await
        .expect("it is queued");
    let lockgate = start(&config(&[&address], "")).await;
    send(&lockgate, ONE, &handshake("/", ""), Client::Waits, 5).await;
    until(&lockgate, &transitions("a", address, "ejected"), 1.0).await;
}
