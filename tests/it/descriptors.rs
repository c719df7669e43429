//! A process without free descriptors: open sessions continue, new connections are refused, and the CPU stays idle.

use crate::harness::{Backend, Lockgate, eventually, handshake, within};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The limit of `ulimit -n`.
const DESCRIPTORS: u64 = 256;
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
    for _ in 0..SESSIONS {
        sessions.push(
            session(&lockgate)
                .await
                .expect("a hundred sessions fit into the limit"),
        );
    }
    // Silent connections use the remaining descriptors too; after that every other connection must be refused.
    let mut surplus = vec![];
    for _ in 0..SURPLUS {
        surplus.push(
            TcpStream::connect(lockgate.https)
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
    assert!(session(&lockgate).await.is_none(), "no descriptor is left");
    drop(surplus);
    let freed = Instant::now();
    let mut late = eventually("recovery", async || session(&lockgate).await).await;
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
    assert!(recovery <= Duration::from_secs(1), "{recovery:?}");
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

async fn session(lockgate: &Lockgate) -> Option<TlsStream<TcpStream>> {
    let mut client = lockgate.try_tls("a.test").await.ok()?;
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
