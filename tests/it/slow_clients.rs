//! Many slow attackers at a time: each is disconnected at its deadline, and other clients are served in the meantime.
//!
//! `LOCKGATE_ATTACKERS` sets the number of each kind (100). The figures are printed.

mod backend;

use crate::harness::{
    DEADLINE, Lockgate, eventually, handshake, observe, raise_descriptor_limit, within,
};
use backend::SlowBackend;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_in_time_and_do_not_delay_others() {
    let each = std::env::var("LOCKGATE_ATTACKERS").ok();
    let each = each.map_or(100, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    for kind in KINDS {
        attack(&[kind], each).await;
    }
    // At most as many connections as 20,000 descriptors permit, with a reserve for other clients.
    attack(&KINDS, each.min(1800)).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A TCP connection without a byte.
    Silent,
    /// The beginning of a ClientHello.
    HalfHello,
    /// A request head sent byte by byte.
    SlowHead,
    /// A request body that stalls.
    SlowBody,
    /// A response that the client does not read.
    SlowReader,
}

const KINDS: [Kind; 5] = [
    Kind::Silent,
    Kind::HalfHello,
    Kind::SlowHead,
    Kind::SlowBody,
    Kind::SlowReader,
];

/// The state that all attackers share.
#[derive(Clone)]
struct Shared {
    lockgate: Arc<Lockgate>,
    /// Permits for concurrent handshakes.
    handshakes: Arc<Semaphore>,
    /// Number of attackers that are connected.
    ready: Arc<watch::Sender<usize>>,
}

/// Starts `each` attackers of every kind at once: all must be connected before the first is disconnected.
async fn attack(kinds: &[Kind], each: usize) {
    let due = Duration::from_millis(3000 + each as u64 * 2 * kinds.len() as u64);
    let mut backend = SlowBackend::listen().await;
    let ms = due.as_millis();
    let limits = format!(
        "access = \"off\"\n[limits]\ntls_handshake = \"{ms}ms\"\nrequest_head = \"{ms}ms\"\nbody_idle = \"{ms}ms\""
    );
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"100ms\" }");
    let lockgate = Arc::new(setup.server(&limits).start().await);
    let mut before = handshake_times(&lockgate, async || {
        // The span of the measurement.
        tokio::time::sleep(Duration::from_secs(1)).await
    })
    .await;

    let (ready, mut connected) = watch::channel(0);
    let shared = Shared {
        lockgate: lockgate.clone(),
        handshakes: Arc::new(Semaphore::new(32)),
        ready: Arc::new(ready),
    };
    let mut attackers = JoinSet::new();
    for kind in kinds {
        for n in 0..each {
            attackers.spawn(attacker(shared.clone(), *kind, n, due));
        }
    }
    let all = kinds.len() * each;
    let started = Instant::now();
    let mut during = handshake_times(&lockgate, async || {
        connected
            .wait_for(|connected| *connected == all)
            .await
            .expect("we have the sender");
    })
    .await;
    let took = started.elapsed();
    let mut stalled = handshake_times(&lockgate, async || {
        // The span of the measurement.
        tokio::time::sleep((due / 2).min(Duration::from_secs(3))).await
    })
    .await;

    // Differences from the deadline: of the longest and of the shortest time that the server can have measured.
    let (mut early, mut late) = (vec![], vec![]);
    let past = |time: Duration| time.as_secs_f64() - due.as_secs_f64();
    let mut readers = vec![];
    let end_timeout = due + DEADLINE * 2;
    while let Some(end) = timeout(end_timeout, attackers.join_next())
        .await
        .expect("each has an end")
    {
        match end.expect("no panic") {
            End::Between(least, most) => {
                early.push(past(most));
                late.push(past(least));
            }
            End::Holds(stream) => readers.push(stream),
        }
    }
    // A client that does not read cannot detect the close; the backend detects it, because its response is aborted.
    for _ in 0..readers.len() {
        let time = timeout(end_timeout, backend.aborted.recv()).await;
        let time = time.expect("each answer has an end");
        let time = past(time.expect("the backend lives"));
        early.push(time);
        late.push(time);
    }
    for mut stream in readers {
        timeout(DEADLINE, read_to_end(&mut stream))
            .await
            .expect("its connection has ended, too");
    }
    early.sort_by(f64::total_cmp);
    late.sort_by(f64::total_cmp);
    let (first, last) = (early[0], late[late.len() - 1]);
    let in_time = late.iter().filter(|late| **late <= 1.0).count();
    let name = match kinds {
        [kind] => format!("{kind:?}"),
        _ => "all kinds".to_owned(),
    };
    let [p, q, r] = [p99(&mut before), p99(&mut during), p99(&mut stalled)];
    println!(
        "{all:>5} × {name:<10} in {:.1} s, due after {:.1} s, closed {first:+.2} to {last:+.2} s from then \
         ({in_time} within 1 s); handshakes \
         of other clients: p99 {p:.1} ms before, {q:.1} ms while attackers connect ({:.1} ×), {r:.1} ms while they stall ({:.1} ×); \
         {} + {} + {} of them",
        took.as_secs_f64(),
        due.as_secs_f64(),
        q / p,
        r / p,
        before.len(),
        during.len(),
        stalled.len(),
    );
    assert_eq!(late.len(), all);
    assert!(
        first > -0.1,
        "{name}: closed {first:+.2} s from its deadline"
    );
    // The kernel accepts some further bytes although the client does not read, because window probes are answered
    // seconds apart. Each time the deadline restarts.
    let max = if kinds.contains(&Kind::SlowReader) {
        due.as_secs_f64() + 8.0
    } else {
        8.0
    };
    assert!(last <= max, "{name}: closed {last:+.2} s from its deadline");
    // All processes share two cores: the limit only rules out an outage.
    assert!(r < 1000_f64.max(20.0 * p), "{name}: {r:.1} ms");
    eventually("no lease of the backend", async || {
        observe(lockgate.status().await, |status| {
            status["backends"][0]["leases"] == 0
        })
    })
    .await;
}

enum End {
    /// The shortest and the longest time that the server can have measured.
    Between(Duration, Duration),
    /// It does not read, so that it cannot detect the close.
    Holds(Box<dyn AsyncRead + Send + Unpin>),
}

async fn attacker(shared: Shared, kind: Kind, n: usize, due: Duration) -> End {
    let permit = shared
        .handshakes
        .clone()
        .acquire_owned()
        .await
        .expect("never closed");
    let begun = Instant::now();
    let mut tcp = timeout(DEADLINE, connect(shared.lockgate.https, n, kind))
        .await
        .expect("a connection")
        .expect("it listens");
    if matches!(kind, Kind::Silent | Kind::HalfHello) {
        let started = Instant::now();
        if kind == Kind::HalfHello {
            tcp.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1])
                .await
                .expect("it reads");
        }
        drop(permit);
        shared.ready.send_modify(|ready| *ready += 1);
        read_to_end(&mut tcp).await;
        return End::Between(started.elapsed(), begun.elapsed());
    }
    let mut stream = timeout(DEADLINE, shared.lockgate.tls_over(tcp))
        .await
        .expect("a TLS handshake")
        .expect("the connection is accepted");
    let begin: &[u8] = match kind {
        Kind::SlowHead => b"GET / HTTP/1.1\r\nHost: a.test\r\nX: ",
        Kind::SlowBody => b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nx",
        _ => b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    };
    stream.write_all(begin).await.expect("it reads");
    stream.flush().await.expect("it reads");
    let started = Instant::now();
    drop(permit);
    shared.ready.send_modify(|ready| *ready += 1);
    if kind == Kind::SlowReader {
        return End::Holds(Box::new(stream));
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let drip = async {
        let mut ticker = tokio::time::interval(due / 4);
        if kind == Kind::SlowHead {
            loop {
                ticker.tick().await;
                if writer.write_all(b"x").await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drip => {}
        () = read_to_end(&mut reader) => {}
    }
    End::Between(started.elapsed(), begun.elapsed())
}

/// Connects from one of eight addresses, because the ports of one address are not enough.
async fn connect(to: SocketAddr, n: usize, kind: Kind) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if kind == Kind::SlowReader {
        // Small segments keep the kernel buffers of both ends small.
        socket.set_recv_buffer_size(4096)?;
        socket2::SockRef::from(&socket).set_tcp_mss(536)?;
    }
    let from = Ipv4Addr::new(127, 0, 0, 2 + (n % 8) as u8);
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Reads until the end or an error.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 4096];
    while let Ok(1..) = stream.read(&mut scratch).await {}
}

/// Durations of consecutive handshakes, from TCP to 101, until `done`; in milliseconds.
async fn handshake_times(lockgate: &Lockgate, done: impl AsyncFnOnce()) -> Vec<f64> {
    let mut times = vec![];
    let measure = async {
        loop {
            let started = Instant::now();
            let mut wire = lockgate.request(handshake("/", "")).await;
            assert_eq!(wire.head().await.status(), 101);
            times.push(started.elapsed().as_secs_f64() * 1e3);
            drop(wire);
            // A pause, so that this client is not an attack itself.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = measure => {}
        () = done() => {}
    }
    // At least 20.
    while times.len() < 20 {
        let started = Instant::now();
        let mut wire = within("a handshake", lockgate.request(handshake("/", ""))).await;
        assert_eq!(wire.head().await.status(), 101);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn p99(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}
