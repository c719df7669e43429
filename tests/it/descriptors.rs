//! A process without free descriptors: open sessions continue, new connections are refused, and the CPU stays idle.

use crate::harness::{
    Backend, Lockgate, RawH2, Setup, Wire, eventually, handshake, observe,
    raw_h2::{END_HEADERS, END_STREAM, HEADERS, HELLO, frame, hpack},
    within,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tokio_rustls::client::TlsStream;

/// The limit of `ulimit -n`.
const DESCRIPTORS: u64 = 256;
/// [`DESCRIPTORS`] without the reserve.
const BUDGET: u64 = 208;
/// HTTP/2 connections of one address.
const ATTACKERS: usize = 10;
/// The requests of each.
const STREAMS: usize = 100;
/// Clients with another address.
const OTHERS: usize = 20;
const SESSIONS: usize = 100;
const SURPLUS: usize = 200;
const MASKED_HI: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const HI: [u8; 4] = [0x81, 0x02, b'h', b'i'];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptor_exhaustion_keeps_sessions_and_refuses_connections() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::to(backend).descriptors(DESCRIPTORS).start().await;
    let lockgate = Arc::new(lockgate);
    let mut sessions = vec![];
    for n in 0..SESSIONS {
        sessions.push(
            session(&lockgate, n)
                .await
                .expect("a hundred sessions fit into the limit"),
        );
    }
    // Silent connections use the remaining descriptors too; after that every other connection must be refused.
    let mut surplus = vec![];
    for n in 0..SURPLUS {
        surplus.push(
            connect_from(&lockgate, SESSIONS + n)
                .await
                .expect("the backlog takes it"),
        );
    }
    let refused = within("the refusals", refused(&mut surplus)).await;
    let (cpu, started) = (cpu_ticks(&lockgate), Instant::now());
    for session in &mut sessions {
        echo(session).await;
    }
    let observed = Duration::from_secs(2).saturating_sub(started.elapsed());
    // The span of the measurement.
    tokio::time::sleep(observed).await;
    let share = (cpu_ticks(&lockgate) - cpu) as f64 / 100.0 / started.elapsed().as_secs_f64();
    assert!(
        session(&lockgate, 0).await.is_none(),
        "no descriptor is left"
    );
    drop(surplus);
    let freed = Instant::now();
    let mut late = eventually("recovery", async || session(&lockgate, 0).await).await;
    let recovery = freed.elapsed();
    echo(&mut late).await;
    println!(
        "descriptors: {DESCRIPTORS}; {SESSIONS} sessions echo on, {refused} of {SURPLUS} surplus connections refused, \
         CPU {:.1} %, recovery {} ms",
        share * 100.0,
        recovery.as_millis()
    );
    assert!(refused > 0);
    assert!(share <= 0.1, "{:.0} % of a core", share * 100.0);
    assert!(recovery <= Duration::from_secs(5), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_h2_requests_of_one_address_leave_descriptors_for_others() {
    let (backend, waiting) = slow_backend().await;
    let lockgate = setup(backend, "").start().await;
    let mut streams = vec![];
    for _ in 0..ATTACKERS {
        streams.push(lockgate.tls_for_h2().await);
    }
    let mut attackers = vec![];
    for stream in streams {
        attackers.push(RawH2::over(stream, &requests("/wait", &[])).await);
    }
    let status = settled(&lockgate, &waiting, (ATTACKERS * STREAMS) as u64).await;
    let forwarded = *waiting.borrow();
    assert!(forwarded >= BUDGET / 2, "{forwarded}");
    println!(
        "{forwarded} of {} requests are at the backend: {status}",
        ATTACKERS * STREAMS
    );
    assert_eq!(status["connections"], ATTACKERS);
    assert_eq!(status["sessions"], 0);
    assert_eq!(status["requests"], forwarded);
    assert_eq!(status["backend_connections"], forwarded);
    assert_eq!(status["descriptors"], forwarded + ATTACKERS as u64);
    assert_eq!(status["descriptors_max"], BUDGET);
    let gauges = [
        ("lockgate_requests_in_flight", forwarded),
        (
            "lockgate_backend_connections{purpose=\"request\"}",
            forwarded,
        ),
        ("lockgate_descriptors", forwarded + ATTACKERS as u64),
        ("lockgate_descriptors_max", BUDGET),
    ];
    for (series, expected) in gauges {
        assert_eq!(lockgate.metric(series).await, expected as f64, "{series}");
    }
    assert!(open_descriptors(&lockgate) < DESCRIPTORS as usize);

    let mut others = vec![];
    for _ in 0..OTHERS {
        let mut wire = other(&lockgate).await.expect("the connection is accepted");
        wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(wire.head().await.status(), 200);
        others.push(wire);
    }
    // The address above its share gets neither a connection nor a request.
    assert!(lockgate.try_tls("a.test").await.is_err());
    let failures = "lockgate_connection_failures_total{why=\"descriptors-share\"}";
    lockgate.until_metric(failures, 1.0).await;

    drop((attackers, others));
    eventually("the permits are released", async || {
        let status = lockgate.status().await;
        let names = [
            "connections",
            "requests",
            "backend_connections",
            "descriptors",
        ];
        let held: u64 = names.iter().filter_map(|name| status[name].as_u64()).sum();
        observe(status, |_| held == 0)
    })
    .await;
    let mut again = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    assert_eq!(again.head().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_descriptor_get_503_and_eject_no_backend() {
    let (backend, waiting) = slow_backend().await;
    let lockgate = setup(backend, "trusted_proxies = [\"127.0.0.1\"]")
        .start()
        .await;
    let mut connections = vec![];
    // The proxy is exempt from the share, and each of its requests has a client of its own.
    for n in 0..3 {
        let clients: Vec<_> = (0..STREAMS).map(|m| format!("192.0.{n}.{m}")).collect();
        let stream = lockgate.tls_for_h2().await;
        connections.push(RawH2::over(stream, &requests("/wait", &clients)).await);
        // One connection after the other, so that the refused requests are of the last one.
        settled(&lockgate, &waiting, (n + 1) * STREAMS as u64).await;
    }
    let status = lockgate.status().await;
    assert_eq!(*waiting.borrow(), BUDGET - 3);
    let refusals = "lockgate_refusals_total{status=\"503\",why=\"descriptors\"}";
    assert_eq!(
        lockgate.metric(refusals).await,
        (3 * STREAMS as u64 - (BUDGET - 3)) as f64
    );
    assert_eq!(status["descriptors"], BUDGET);
    assert_eq!(status["backends"][0]["state"], "up", "{status}");
    assert_eq!(status["backends"][0]["why"], serde_json::Value::Null);
    let refused = loop {
        let last = connections.last_mut().expect("three connections");
        let frame = last.frame().await.expect("the connection is open");
        if frame.kind == HEADERS {
            break frame;
        }
    };
    assert_eq!(refused.status(), 503);
    // Index 53 of the static table is `retry-after` (RFC 7541, appendix A).
    let retry_after = [0x0F, 53 - 15];
    let literal = refused.payload.windows(2).any(|it| it == retry_after);
    assert!(
        literal || refused.payload.contains(&(0x40 | 53)),
        "{refused:?}"
    );
    // A connection without a descriptor is closed.
    assert!(other(&lockgate).await.is_err());
    let failures = "lockgate_connection_failures_total{why=\"descriptors\"}";
    eventually("a count of it", async || {
        lockgate.metric_or_zero(failures).await >= 1.0
    })
    .await;
    // As soon as one is free, others are served.
    drop(connections.pop());
    eventually("a client is served", async || {
        let Ok(mut wire) = other(&lockgate).await else {
            return false;
        };
        wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        wire.head().await.status() == 200
    })
    .await;
}

/// Returns the number of connections closed within 100 ms; the others stay in `surplus`.
async fn refused(surplus: &mut Vec<TcpStream>) -> usize {
    let mut refused = 0;
    for stream in std::mem::take(surplus) {
        let mut stream = stream;
        match tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await {
            Ok(_) => refused += 1,
            Err(_) => surplus.push(stream),
        }
    }
    refused
}

async fn session(lockgate: &Lockgate, client: usize) -> Option<TlsStream<TcpStream>> {
    let stream = connect_from(lockgate, client).await.ok()?;
    let mut client = lockgate.tls_over(stream).await.ok()?;
    client.write_all(handshake("/", "").as_bytes()).await.ok()?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    head.starts_with(b"HTTP/1.1 101").then_some(client)
}

async fn echo(session: &mut TlsStream<TcpStream>) {
    within("an echo", async {
        session.write_all(&MASKED_HI).await.expect("it reads");
        let mut answer = [0; HI.len()];
        session
            .read_exact(&mut answer)
            .await
            .expect("the session lives");
        assert_eq!(answer, HI);
    })
    .await;
}

/// User and system time in hundredths of a second (proc(5), fields 14 and 15).
fn cpu_ticks(lockgate: &Lockgate) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", lockgate.id())).expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("a name in brackets")
        .split(' ')
        .collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

/// Returns the open descriptors of the process.
fn open_descriptors(lockgate: &Lockgate) -> usize {
    let list = std::fs::read_dir(format!("/proc/{}/fd", lockgate.id()));
    list.expect("Linux").count()
}

/// Waits until each of `requests` is at the backend or refused, and returns the status.
async fn settled(
    lockgate: &Lockgate,
    waiting: &watch::Receiver<u64>,
    requests: u64,
) -> serde_json::Value {
    eventually("every request is at the backend or refused", async || {
        let (status, page) = (lockgate.status().await, lockgate.metrics().await);
        let refusals = page
            .lines()
            .filter(|line| line.starts_with("lockgate_refusals_total"));
        let counts = refusals.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        let settled = *waiting.borrow() + counts.sum::<u64>();
        if settled == requests && status["requests"] == *waiting.borrow() {
            Ok(status)
        } else {
            Err(format!("{settled}: {status}"))
        }
    })
    .await
}

/// Starts a backend that answers every request but those for `/wait`, and counts these while they are open.
async fn slow_backend() -> (SocketAddr, watch::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("bound");
    let (count, waiting) = watch::channel(0);
    let count = Arc::new(count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    if buffer[..length].starts_with(b"GET /wait") {
                        count.send_modify(|waiting| *waiting += 1);
                        let _ = stream.read(&mut buffer).await;
                        count.send_modify(|waiting| *waiting -= 1);
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, waiting)
}

/// Encodes [`STREAMS`] requests, each with the client of its index, if there is one, in `X-Forwarded-For`.
fn requests(path: &str, clients: &[String]) -> Vec<u8> {
    let mut bytes = HELLO.to_vec();
    for n in 0..STREAMS {
        let mut list = vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", path),
        ];
        if let Some(client) = clients.get(n) {
            list.push(("x-forwarded-for", client));
        }
        let stream = u32::try_from(2 * n + 1).expect("few streams");
        bytes.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &hpack(&list),
        ));
    }
    bytes
}

/// Opens a TLS connection of a client with another address than all other clients of these tests.
async fn other(lockgate: &Lockgate) -> std::io::Result<Wire> {
    let stream = connect_from(lockgate, 1000).await?;
    Ok(Wire::tls(
        within("a TLS handshake", lockgate.tls_over(stream)).await?,
    ))
}

/// Connects from the address with this index.
async fn connect_from(lockgate: &Lockgate, client: usize) -> std::io::Result<TcpStream> {
    let [high, low] = u16::try_from(client + 1).expect("few").to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    socket.connect(lockgate.https).await
}

/// A configuration without a limit on concurrent handshakes, which plain requests count as for a second.
fn setup(backend: SocketAddr, server: &str) -> Setup {
    Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n{server}\n[tls]\ndev_ca = true\n\
         [pools.slow]\nbackends = [\"ws://{backend}\"]\nadmission = {{ handshakes = 10_000 }}\n\
         [[routes]]\nhosts = [\"a.test\"]\npool = \"slow\"\n"
    ))
    .descriptors(DESCRIPTORS)
}
