//! Repeated takeovers while clients connect at a constant rate: no connection is refused.
//!
//! `LOCKGATE_REPLACEMENTS` sets the number of takeovers (4). The figures are printed.

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

/// Connections per second, fewer on a machine that is too slow for them.
const CONNECT_RATE: u32 = 200;
/// Time for the last closed session: `session.close_timeout`, FIN, and a reserve for a loaded machine.
const CLOSE_MARGIN: Duration = Duration::from_secs(20);
/// Connections between two takeovers.
const CONNECTS_PER_TAKEOVER: usize = 100;
/// `drain.window` of the configuration.
const DRAIN_WINDOW: Duration = Duration::from_secs(4);

/// Numbers of connections and their results.
#[derive(Debug, Default)]
struct ConnectSummary {
    connects: usize,
    failed: Vec<String>,
    closed_1012: usize,
}

/// Connects, performs the handshake, echoes for a second, and closes or is closed.
async fn session(address: SocketAddr, connector: TlsConnector) -> Result<bool, String> {
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
        let frame = wire.frame().await;
        if frame.is_close() {
            wire.send_frame(Frame::close(1012, "")).await;
            return match frame.closes_with().0 {
                1012 => Ok(true),
                code => Err(format!("Close {code}")),
            };
        }
        if frame != message {
            return Err("another message".into());
        }
        // The pace of the session: it lasts a second.
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
) -> ConnectSummary {
    let connector = trusting(&ca);
    let mut sessions = JoinSet::new();
    let mut summary = ConnectSummary::default();
    let mut tick = interval(Duration::from_secs(1) / CONNECT_RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow_and_update() {
        tick.tick().await;
        summary.connects += 1;
        made.send_replace(summary.connects);
        sessions.spawn(session(address, connector.clone()));
    }
    while let Some(session) = sessions.join_next().await {
        match session {
            Ok(Ok(moved)) => summary.closed_1012 += usize::from(moved),
            Ok(Err(why)) => summary.failed.push(why),
            Err(panicked) => summary.failed.push(panicked.to_string()),
        }
    }
    summary
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
    let mut draining = JoinSet::new();
    for turn in 1..=replacements {
        let reached = connects.wait_for(|made| *made >= turn * CONNECTS_PER_TAKEOVER);
        reached.await.expect("clients keep connecting");
        let new = serving.successor(&[]).await;
        let mut old = std::mem::replace(&mut serving, new);
        draining.spawn(async move {
            let since = Instant::now();
            let gone = timeout(DRAIN_WINDOW + CLOSE_MARGIN, old.exit()).await;
            (gone.map(|code| (code, since.elapsed())), old)
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(left) = draining.join_next().await {
        let (left, old) = left.expect("waited for");
        let (code, took) = left.unwrap_or_else(|_| panic!("process {} is still there", old.id()));
        assert_eq!(code, Some(0), "{}", old.stderr());
        longest = longest.max(took);
    }
    let took = started.elapsed();
    stop.send_replace(true);
    let summary = storming.await.expect("counted");
    println!(
        "{replacements} replacements in {took:.0?}, {} connects: {} failed, {} closed with 1012, the slowest process exited after {longest:.1?}",
        summary.connects,
        summary.failed.len(),
        summary.closed_1012
    );
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    assert!(
        summary.closed_1012 > 0,
        "no session was open during a takeover"
    );
}
