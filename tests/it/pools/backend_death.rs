//! One of four processes is killed under many sessions, and started again: who notices, when, and how it is filled.
//!
//! `LOCKGATE_SESSIONS` sets how many sessions there are (400, to be quick), and a twentieth of that is how many more come
//! every second. The figures are printed.

mod aftermath;
mod client;
mod many_clients;

use super::{file, leases};
use crate::harness::{Lockgate, Program, raise_descriptor_limit, within};
use aftermath::Aftermath;
use client::{News, large};
use many_clients::Crowd;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Of them, so many take a stream: four of each process, for the first come to all in turn.
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
    within("a metric", async move {
        while lockgate.metric(&series).await != up {
            sleep(Duration::from_millis(10)).await;
        }
    })
}

/// Waits until it has as much as the others, to within a twentieth.
async fn until_filled(lockgate: &Lockgate, address: SocketAddr) -> String {
    let name = format!("ws://{address}");
    timeout(Duration::from_secs(60), async {
        loop {
            let leases = leases(lockgate).await;
            let most = leases.values().max().copied().unwrap_or_default();
            if leases[&name] * 20 >= most * 19 {
                let mut counts: Vec<_> = leases.into_values().collect();
                counts.sort_unstable();
                return format!("{counts:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it is filled")
}

async fn server(address: Ipv4Addr, port: u16) -> (Program, SocketAddr) {
    let arguments = [address.to_string(), port.to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let (server, at) = Program::server_with("named_echo.py", &arguments).await;
    (server, (address, at.port()).into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_is_killed_and_comes_back() {
    let set = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions: usize = set.as_ref().map_or(400, |it| it.parse().expect("a number"));
    // A machine that runs other tests meanwhile gets more time.
    let limit = Duration::from_millis(if set.is_some() { 250 } else { 1000 });
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
    // What streams are compared with has no Pings in it.
    let config = file(&pool).replace(
        "[tls]",
        "access = \"off\"\n[session]\nping = { legs = \"off\" }\n[tls]",
    );
    let lockgate = Arc::new(Lockgate::with_file(&config).start().await);

    let (stop, stopped) = watch::channel(false);
    let (killed, of_killed) = watch::channel(None);
    let news = News {
        stop: stopped,
        killed: of_killed,
    };
    // As many messages a second, however many there are.
    let pause = Duration::from_millis(sessions as u64);
    let mut crowd = Crowd::new(lockgate.clone(), pause, news);
    let large = large();
    for _ in 0..STREAMS {
        crowd.comes(Some(large.clone()));
        crowd.are_in().await;
    }
    for _ in STREAMS..sessions {
        crowd.comes(None);
    }
    crowd.are_in().await;
    let mut come = crowd.settled();
    let (tell_enough, enough) = watch::channel(false);
    let coming = tokio::spawn(crowd.keep_coming(rate as u32, enough));
    let mut until = async |count: usize| {
        let there = come.wait_for(|come| *come >= count);
        let there = timeout(Duration::from_secs(60), there).await;
        there.expect("they keep coming").expect("they keep coming");
    };
    until(sessions + rate).await;

    let (victim, of_victim) = (servers.swap_remove(1), addresses[1]);
    let old = victim.id();
    let kill = Instant::now();
    victim.kill().await;
    killed.send_replace(Some(old));
    until_up(&lockgate, of_victim, 0.0).await;
    let noticed = kill.elapsed();
    until(sessions + 4 * rate).await;
    assert_eq!(state(&lockgate, of_victim).await, "down");

    let (new, _) = server(own, of_victim.port()).await;
    let started = Instant::now();
    until_up(&lockgate, of_victim, 1.0).await;
    let back = Instant::now();
    assert_eq!(state(&lockgate, of_victim).await, "warming");
    let retried = "lockgate_retries_total{pool=\"chat\"}";
    let retried = lockgate.metric(retried).await;
    let leases = until_filled(&lockgate, of_victim).await;
    let filled = back.elapsed();
    until(sessions + sessions / 2).await;
    assert_eq!(state(&lockgate, of_victim).await, "up");
    tell_enough.send_replace(true);
    stop.send_replace(true);
    let visits = timeout(Duration::from_secs(60), coming).await;
    let visits = visits.expect("all leave").expect("none was dropped");

    let after = Aftermath::of(visits, old, kill);
    let (connects, refused) = (after.visits() - sessions, after.refused());
    let (told, cut) = (&after.told, &after.cut);
    let [half, most, all] = [50, 99, 100].map(|percent| after.told_within(percent));
    println!(
        "{sessions} sessions over four processes, one killed: {} were told 1011, half of them within {half:.0?}, \
         99 % within {most:.0?}, all within {all:.0?}; {} were cut in mid-frame, no byte appended, at an end within {:.0?}; \
         {} others: 0 dropped, {} messages echoed",
        told.len(),
        cut.len(),
        cut.last().expect("streams"),
        after.stayed,
        after.echoes,
    );
    println!(
        "{connects} connects meanwhile, {rate} a second: {} failed, {retried} were tried elsewhere; \
         the dead one was left alone after {noticed:.0?}",
        refused.len()
    );
    let quarters = after.shares(back, SLOW_START, new.id());
    println!(
        "started again, it was up after {:.1?}; of what was new it got {} in the quarters of {SLOW_START:?}; \
         filled after {filled:.1?}: {leases}",
        back - started,
        quarters.map(|it| format!("{:.0} %", 100.0 * it)).join(", "),
    );
    assert!(refused.len() * 1000 <= connects, "{refused:?}");
    assert!(connects >= sessions / 2 && cut.len() == STREAMS / 4 && retried >= 1.0);
    assert!(most <= limit, "{told:?}");
    // Without a slow start it would get all of it at once, for it has the fewest.
    let [one, two, three, four] = quarters;
    assert!(one + two < 1.3 && three + four > one + two, "{quarters:?}");
}
