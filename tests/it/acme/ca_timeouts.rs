//! Many peers begin a validation and stall. Each is disconnected after 2 s, and clients are accepted in the meantime.
//!
//! `LOCKGATE_ATTACKERS` sets how many there are (200, to be quick). The figures are printed.

use super::fixture::{AcmeFixture, Trust, leaf};
use crate::harness::{raise_descriptor_limit, web::unverified};
use rustls::{ClientConnection, pki_types::ServerName};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// A ClientHello of a CA that validates `a.test`.
fn hello() -> Vec<u8> {
    let mut config = (**unverified().config()).clone();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = vec![];
    connection.write_tls(&mut bytes).expect("into memory");
    bytes
}

/// Returns two times until the connection is closed: since it was begun, and since the first bytes of the answer. The
/// time that the server measures is between them.
async fn stall(port: u16, hello: Arc<[u8]>) -> [Duration; 2] {
    let begun = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .expect("it listens");
    stream.write_all(&hello).await.expect("taken");
    let mut bytes = [0; 4096];
    let answered = stream.read(&mut bytes).await.expect("an answer");
    assert!(
        answered > 100,
        "not a ServerHello: {:?}",
        &bytes[..answered]
    );
    let started = Instant::now();
    while let Ok(1..) = stream.read(&mut bytes).await {}
    [begun.elapsed(), started.elapsed()]
}

/// Durations of consecutive TLS handshakes of a client, in milliseconds, until `done`; sorted.
async fn handshake_times(port: u16, done: impl Future<Output = ()>) -> Vec<f64> {
    let mut times = vec![];
    tokio::pin!(done);
    loop {
        let started = Instant::now();
        tokio::select! {
            () = &mut done => break,
            handshake = leaf(&Trust::Everything, "a.test", port) => {
                handshake.expect("accepted");
                times.push(started.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

fn p99(times: &[f64]) -> f64 {
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_validations_are_closed_and_do_not_delay_clients() {
    let attackers = std::env::var("LOCKGATE_ATTACKERS").ok();
    let attackers = attackers.map_or(200, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    // The CA fetches the answer where nothing listens, so that the challenge stays pending.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port is free");
    let nowhere = silent.local_addr().expect("bound").port();
    let fixture = AcmeFixture::with(|pebble| pebble.ports(nowhere, nowhere)).await;
    let _lockgate = fixture.start(&["a.test"], "").await;
    let _ca = timeout(Duration::from_secs(20), silent.accept())
        .await
        .expect("the CA comes");

    // The span of the measurement.
    let second = async || tokio::time::sleep(Duration::from_secs(1)).await;
    let before = handshake_times(fixture.https, second()).await;
    let hello: Arc<[u8]> = hello().into();
    let mut stalling = JoinSet::new();
    for _ in 0..attackers {
        stalling.spawn(stall(fixture.https, hello.clone()));
    }
    let mut ends = vec![];
    let during = handshake_times(fixture.https, async {
        while let Some(end) = stalling.join_next().await {
            ends.push(end.expect("no panic").map(|time| time.as_secs_f64()));
        }
    })
    .await;

    let first = ends.iter().map(|[time, _]| *time).fold(f64::MAX, f64::min);
    let last = ends.iter().map(|[_, time]| *time).fold(0.0, f64::max);
    println!(
        "{attackers} stalled: closed {first:.2} s after their connect to {last:.2} s after the answer to their hello; a client's handshake: p99 {:.1} ms of {} before, {:.1} ms of {} during it",
        p99(&before),
        before.len(),
        p99(&during),
        during.len(),
    );
    // The deadline of 2 s, and less than `limits.tls_handshake`, which is 10 s.
    assert!(first >= 1.9 && last <= 9.0, "{first} to {last}");
}
