//! `pick BALANCE BACKENDS TIMES`: acquires a lease of a pool TIMES times and releases it; `pick.sh` counts the
//! instructions. `pick shared POOLS TIMES`: POOLS pools with one common backend.

use futures_util::FutureExt as _;
use lockgate::internals::{
    Admission, AllDown, Backend, Backends, Balance, DurationValue, HashKey, Located, Passive, Pool,
    PoolConfig, Rebalance, Retry, Sticky,
};
use std::time::Duration;
use tokio::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes flags only: nothing to measure.
    let [name, backends, times] = &arguments[..] else {
        return;
    };
    let (backends, times): (u16, u64) = (
        backends.parse().expect("a number"),
        times.parse().expect("a number"),
    );
    let (balance, uneven) = match &**name {
        "least-sessions" | "shared" => (Balance::LeastSessions, true),
        "round-robin" => (Balance::RoundRobin, true),
        "random-two" => (Balance::RandomTwo, true),
        "hash" => (Balance::Hash, false),
        "hash-weighted" => (Balance::Hash, true),
        other => panic!("unknown balance: {other}"),
    };
    let (backends, pools) = match &**name {
        "shared" => (1, backends),
        _ => (backends, 1),
    };
    let backend = |n: u16| {
        let address = format!("ws://10.0.0.{}:{}", n % 250, 8000 + n);
        Located::nowhere(Backend {
            weight: if uneven { n % 4 + 1 } else { 1 },
            max_sessions: 1000,
            ..Backend::at(address.parse().expect("an address"))
        })
    };
    let config = PoolConfig {
        backends: (0..backends).map(backend).collect(),
        balance,
        hash: HashKey::Ip,
        sticky: Sticky::Off,
        health: Located::default(),
        passive: Passive::default(),
        all_down: AllDown::default(),
        retry: Retry::default(),
        connect_timeout: DurationValue(Duration::from_secs(2)),
        admission: Admission {
            handshakes: 0,
            ..Admission::default()
        },
        slow_start: DurationValue(Duration::ZERO),
        rebalance: Rebalance::Off,
    };
    let mut known = Backends::default();
    let pools = (0..pools).map(|_| {
        let pool = Pool::new("bench", &config, &mut known, &mut vec![]);
        let pool = pool.carry_over(None, &mut known);
        pool.commit();
        pool
    });
    let pools: Vec<_> = pools.collect();
    let pool = &pools[0];
    let headers = http::HeaderMap::new();
    // Some backends have leases, as in production.
    let key = |n: u64| pool.key(&headers, "/", None, (n as u32).to_be_bytes().into());
    let (client, now) = ([192, 0, 2, 1].into(), Instant::now());
    // Without a queue the first poll returns the lease.
    let acquire = |n| pool.acquire(key(n), client, &[], now).now_or_never();
    let held = (0..u64::from(backends) * 3).map(acquire);
    let held: Vec<_> = held.collect();
    for n in 0..times {
        drop(std::hint::black_box(acquire(n)));
    }
    drop(held);
}
