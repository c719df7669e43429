//! One of four backend processes is killed under many sessions, and started again: detection, closes, retries and slow
//! start.
//!
//! `LOCKGATE_SESSIONS` sets the number of sessions (400 by default); a twentieth of that connects additionally per
//! second. The figures are printed.

mod client;
mod many_clients;
mod summary;

use super::{file, leases};
use crate::harness::{
    Lockgate, Program, eventually, eventually_within, observe, raise_descriptor_limit,
};
use client::{Signals, large_frame};
use many_clients::ClientSet;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use summary::Summary;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Number of sessions that read a stream: four per process, because the first sessions are spread evenly.
const STREAMS: usize = 16;
const SLOW_START: Duration = Duration::from_secs(4);

/// The state of the backend at this address.
async fn state(lockgate: &Lockgate, address: SocketAddr) -> String {
    let status = lockgate.status().await;
    let backends = status["backends"].as_array().expect("a list");
    let name = format!("ws://{address}");
    let one = backends.iter().find(|one| one["address"] == *name);
    one.and_then(|one| one["state"].as_str())
        .expect("it has one")
        .to_owned()
}

#[track_caller]
fn until_up(lockgate: &Lockgate, address: SocketAddr, up: f64) -> impl Future<Output = ()> {
    let series = format!("lockgate_backend_up{{pool=\"chat\",backend=\"ws://{address}\"}}");
    eventually(format!("{series} {up}"), async move || {
        lockgate.metric(&series).await == up
    })
}

/// Waits until the backend has at least 95 % of the sessions of the fullest one.
async fn until_filled(lockgate: &Lockgate, address: SocketAddr) -> String {
    let name = format!("ws://{address}");
    let expected = format!("an equal share for {name}");
    eventually_within(Duration::from_secs(60), expected, async || {
        let leases = leases(lockgate).await;
        let max = leases.values().max().copied().unwrap_or_default();
        let filled = leases[&name] * 20 >= max * 19;
        let mut counts: Vec<_> = leases.into_values().collect();
        counts.sort_unstable();
        observe(format!("{counts:?}"), |_| filled)
    })
    .await
}

async fn server(address: Ipv4Addr, port: u16) -> (Program, SocketAddr) {
    let arguments = [address.to_string(), port.to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let (server, at) = Program::server_with("named_echo.py", &arguments).await;
    (server, (address, at.port()).into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_backend_is_detected_retried_and_refilled() {
    let set = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions: usize = set.as_ref().map_or(400, |it| it.parse().expect("a number"));
    // The default limit allows for a machine that runs other tests at the same time.
    let limit = Duration::from_millis(if set.is_some() { 250 } else { 5000 });
    let rate = sessions / 20;
    raise_descriptor_limit();
    // An address that only this process uses, so that the port stays available while it is unbound.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let own = Ipv4Addr::new(127, 78, high, low.clamp(1, 254));
    let (mut servers, mut addresses) = (vec![], vec![]);
    for _ in 0..4 {
        let (server, address) = self::server(own, 0).await;
        servers.push(server);
        addresses.push(address);
    }
    let backends: Vec<_> = addresses.iter().map(|at| format!("ws://{at}")).collect();
    let pool = format!(
        "backends = {backends:?}\nslow_start = \"{}s\"\n\
         health = {{ check = \"websocket\", interval = \"250ms\", timeout = \"5s\", fall = 2, rise = 2 }}\n\
         passive = {{ fails = 5, within = \"10s\", eject = \"2s\" }}",
        SLOW_START.as_secs()
    );
    // The expected bytes of a stream contain no Pings.
    let config = file(&pool).replace(
        "[tls]",
        "access = \"off\"\n[session]\nping = { legs = \"off\" }\n[tls]",
    );
    let lockgate = Arc::new(Lockgate::with_file(&config).start().await);

    let (stop, stopped) = watch::channel(false);
    let (killed, killed_rx) = watch::channel(None);
    let signals = Signals {
        stop: stopped,
        killed: killed_rx,
    };
    // The message rate of all sessions together is constant.
    let pause = Duration::from_millis(sessions as u64);
    let mut clients = ClientSet::new(lockgate.clone(), pause, signals);
    let stream_frame = large_frame();
    for _ in 0..STREAMS {
        clients.spawn(Some(stream_frame.clone()));
        clients.wait_until_settled().await;
    }
    for _ in STREAMS..sessions {
        clients.spawn(None);
    }
    clients.wait_until_settled().await;
    let mut settled = clients.settled();
    let (stop_spawning, enough) = watch::channel(false);
    let spawning = tokio::spawn(clients.spawn_at_rate(rate as u32, enough));
    let mut until = async |count: usize| {
        let reached = settled.wait_for(|settled| *settled >= count);
        let reached = timeout(Duration::from_secs(60), reached).await;
        reached
            .expect("clients are still being spawned")
            .expect("clients are still being spawned");
    };
    until(sessions + rate).await;

    let (victim, victim_address) = (servers.swap_remove(1), addresses[1]);
    let old = victim.id();
    let kill = Instant::now();
    victim.kill().await;
    killed.send_replace(Some(old));
    until_up(&lockgate, victim_address, 0.0).await;
    let detected = kill.elapsed();
    until(sessions + 4 * rate).await;
    assert_eq!(state(&lockgate, victim_address).await, "down");

    let (new, _) = server(own, victim_address.port()).await;
    let started = Instant::now();
    until_up(&lockgate, victim_address, 1.0).await;
    let recovered = Instant::now();
    assert_eq!(state(&lockgate, victim_address).await, "warming");
    let retried = "lockgate_retries_total{pool=\"chat\"}";
    let retried = lockgate.metric(retried).await;
    let leases = until_filled(&lockgate, victim_address).await;
    let filled = recovered.elapsed();
    until(sessions + sessions / 2).await;
    assert_eq!(state(&lockgate, victim_address).await, "up");
    stop_spawning.send_replace(true);
    stop.send_replace(true);
    let attempts = timeout(Duration::from_secs(60), spawning).await;
    let attempts = attempts
        .expect("all sessions end")
        .expect("none was dropped");

    let after = Summary::new(attempts, old, kill);
    let (connects, refused) = (after.attempts() - sessions, after.failures());
    let (closed, truncated) = (&after.closed, &after.truncated);
    let [median, p99, all] = [50, 99, 100].map(|percent| after.closed_within(percent));
    println!(
        "{sessions} sessions over four processes, one killed: {} received 1011, half of them within {median:.0?}, \
         99 % within {p99:.0?}, all within {all:.0?}; {} were truncated in mid-frame, no byte appended, closed within {:.0?}; \
         {} others: 0 dropped, {} messages echoed",
        closed.len(),
        truncated.len(),
        truncated.last().expect("streams"),
        after.unaffected,
        after.echoes,
    );
    println!(
        "{connects} further connects, {rate} per second: {} failed, {retried} were retried on another backend; \
         the dead backend was marked down after {detected:.0?}",
        refused.len()
    );
    let quarters = after.shares(recovered, SLOW_START, new.id());
    println!(
        "started again, it was up after {:.1?}; its share of new sessions was {} in the quarters of {SLOW_START:?}; \
         filled after {filled:.1?}: {leases}",
        recovered - started,
        quarters.map(|it| format!("{:.0} %", 100.0 * it)).join(", "),
    );
    assert!(refused.len() * 1000 <= connects, "{refused:?}");
    assert!(connects >= sessions / 2 && truncated.len() == STREAMS / 4 && retried >= 1.0);
    assert!(p99 <= limit, "{closed:?}");
    // Without slow start it would receive all new sessions at once, because it has the fewest.
    let [one, two, three, four] = quarters;
    assert!(one + two < 1.3 && three + four > one + two, "{quarters:?}");
}
