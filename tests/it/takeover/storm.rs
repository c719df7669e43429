//! Replacement after replacement under a storm of connects: not one is refused.
//!
//! `LOCKGATE_REPLACEMENTS` sets how many (4, to be quick). The figures are printed.

use super::config;
use crate::harness::{
    Backend, Frame, Lockgate, Wire, handshake, raise_descriptor_limit, web::trusting,
};
use rustls::pki_types::ServerName;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// A second.
const CONNECTS: u32 = 200;
/// What the last one to be told may take, and some more: `session.close_timeout`, FIN.
const GOODBYE: Duration = Duration::from_secs(4);
/// From one replacement to the next.
const BETWEEN: usize = 100;
/// Of each process: `drain.window` of the configuration.
const WINDOW: Duration = Duration::from_secs(4);

/// How far one connect got, and how its session ended.
#[derive(Debug, Default)]
struct Count {
    connects: usize,
    failed: Vec<String>,
    told_to_move: usize,
}

/// Connects, performs the handshake, echoes for a second, and closes or is closed.
async fn visit(address: SocketAddr, connector: TlsConnector) -> Result<bool, String> {
    let name = ServerName::try_from("a.test").expect("a DNS name");
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let tls = connector
        .connect(name, tcp)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    let mut wire = Wire::tls(tls);
    wire.send(handshake("/", "")).await;
    let status = wire.head().await.status();
    if status != 101 {
        return Err(format!("status {status}"));
    }
    for turn in 0..4 {
        let message = Frame::text(&format!("turn {turn}"));
        wire.send_frame(message.clone()).await;
        let came = wire.frame().await;
        if came.is_close() {
            wire.send_frame(Frame::close(1012, "")).await;
            return match came.closes_with().0 {
                1012 => Ok(true),
                code => Err(format!("Close {code}")),
            };
        }
        if came != message {
            return Err("another message".into());
        }
        sleep(Duration::from_millis(250)).await;
    }
    wire.send_frame(Frame::close(1000, "")).await;
    Ok(false)
}

async fn storm(
    address: SocketAddr,
    ca: PathBuf,
    made: watch::Sender<usize>,
    mut stop: watch::Receiver<bool>,
) -> Count {
    let connector = trusting(&ca);
    let mut visits = JoinSet::new();
    let mut count = Count::default();
    let mut tick = interval(Duration::from_secs(1) / CONNECTS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !*stop.borrow_and_update() {
        tick.tick().await;
        count.connects += 1;
        made.send_replace(count.connects);
        visits.spawn(visit(address, connector.clone()));
    }
    while let Some(visit) = visits.join_next().await {
        match visit {
            Ok(Ok(moved)) => count.told_to_move += usize::from(moved),
            Ok(Err(why)) => count.failed.push(why),
            Err(panicked) => count.failed.push(panicked.to_string()),
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_is_refused_during_repeated_takeovers() {
    let replacements = std::env::var("LOCKGATE_REPLACEMENTS").ok();
    let replacements = replacements.map_or(4, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    let backend = Backend::echo().await;
    let mut serving = Lockgate::with_file(&config(backend)).start().await;
    let (stop, stopped) = watch::channel(false);
    let (made, mut connects) = watch::channel(0);
    let storming = tokio::spawn(storm(serving.https, serving.ca(), made, stopped));
    let started = Instant::now();
    let mut leaving = JoinSet::new();
    for turn in 1..=replacements {
        let enough = connects.wait_for(|made| *made >= turn * BETWEEN);
        enough.await.expect("the storm goes on");
        let new = serving.successor(&[]).await;
        let mut old = std::mem::replace(&mut serving, new);
        leaving.spawn(async move {
            let since = Instant::now();
            let gone = timeout(WINDOW + GOODBYE, old.exit()).await;
            (gone.map(|code| (code, since.elapsed())), old)
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(left) = leaving.join_next().await {
        let (left, old) = left.expect("waited for");
        let (code, took) = left.unwrap_or_else(|_| panic!("process {} is still there", old.id()));
        assert_eq!(code, Some(0), "{}", old.stderr());
        longest = longest.max(took);
    }
    let took = started.elapsed();
    stop.send_replace(true);
    let count = storming.await.expect("counted");
    println!(
        "{replacements} replacements in {took:.0?}, {} connects: {} failed, {} told to move, the slowest process gone after {longest:.1?}",
        count.connects,
        count.failed.len(),
        count.told_to_move
    );
    assert!(count.failed.is_empty(), "{:?}", count.failed);
    assert!(count.told_to_move > 0, "no session was open to be moved");
}
