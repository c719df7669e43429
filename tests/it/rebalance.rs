//! Backends that are new or back, beside full ones: what those have too many of is closed at the pool's rate, and evens out.
//!
//! `LOCKGATE_SESSIONS` sets how many there are (200). The figures are printed.

use crate::harness::{Backend, Lockgate, Wire, handshake, raise_descriptor_limit, within};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

/// Two pools; "a.test" comes to the first, "b.test" to the second.
fn config(rebalance: [&str; 2], backends: [&[SocketAddr]; 2]) -> String {
    let mut text = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"2s\"\n".to_owned();
    for ((name, rebalance), backends) in ["a", "b"].into_iter().zip(rebalance).zip(backends) {
        let backends: Vec<_> = backends.iter().map(|at| format!("\"ws://{at}\"")).collect();
        text += &format!(
            "[pools.{name}]\nbackends = [{}]\nrebalance = \"{rebalance}\"\n[[routes]]\nname = \"{name}\"\n\
             hosts = [\"{name}.test\"]\norigins = [\"*\"]\npool = \"{name}\"\n",
            backends.join(", ")
        );
    }
    text
}

/// A session that was ordered to close.
struct Told {
    host: &'static str,
    code: u16,
    at: Instant,
}

/// Those who are connected.
struct Clients {
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
}

// === impl Clients ===

impl Clients {
    fn new() -> Self {
        let (tell, told) = unbounded_channel();
        Clients { tell, told }
    }

    /// Another one, which says when it is told to close.
    async fn comes(&self, lockgate: &Lockgate, host: &'static str) {
        let mut wire = Wire::stream(lockgate.tls(host).await);
        let request = handshake("/", "").replace("Host: a.test", &format!("Host: {host}"));
        wire.send(request).await;
        assert_eq!(wire.head().await.status(), 101);
        let tell = self.tell.clone();
        tokio::spawn(async move {
            while let Some(frame) = wire.next_frame().await {
                if frame.is_close() {
                    let (code, at) = (frame.closes_with().0, Instant::now());
                    drop(tell.send(Told { host, code, at }));
                    return wire.send_frame(frame).await;
                }
            }
        });
    }

    /// The next who is told with `code`, on "a.test".
    async fn next(&mut self, code: u16) -> Instant {
        let told = within("a Close", self.told.recv()).await.expect("ours");
        assert_eq!((told.host, told.code), ("a.test", code));
        told.at
    }

    /// So many are told 1012 and come back; when each was told.
    async fn even_out(&mut self, lockgate: &Lockgate, count: usize) -> Vec<Instant> {
        self.come_back(lockgate, count, 1012).await
    }

    async fn come_back(&mut self, lockgate: &Lockgate, count: usize, code: u16) -> Vec<Instant> {
        let mut times = vec![];
        while times.len() < count {
            times.push(self.next(code).await);
            self.comes(lockgate, "a.test").await;
        }
        times.sort_unstable();
        times
    }
}

async fn until(lockgate: &Lockgate, what: &str, wanted: impl Fn(&Value) -> bool) {
    let looks = async {
        while !wanted(&lockgate.status().await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(Duration::from_secs(10), looks).await;
    assert!(found.is_ok(), "{what}: {}", lockgate.status().await);
}

/// How many sessions the backends of pool "a" have.
async fn until_leases(lockgate: &Lockgate, wanted: &[u64]) {
    until(lockgate, &format!("leases {wanted:?}"), |status| {
        let all = status["backends"].as_array().expect("a list");
        let ours = all.iter().filter(|backend| backend["pool"] == "a");
        let leases = ours.map(|backend| backend["leases"].as_u64().expect("a number"));
        leases.eq(wanted.iter().copied())
    })
    .await;
}

async fn until_closing(lockgate: &Lockgate, wanted: u64) {
    until(lockgate, &format!("{wanted} closing"), |status| {
        status["closing"] == wanted
    })
    .await;
}

async fn backends<const N: usize>() -> [SocketAddr; N] {
    let mut all = vec![];
    for _ in 0..N {
        all.push(Backend::echo().await);
    }
    all.try_into().expect("as many")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_out_evens_out_at_the_rate_and_only_where_it_is_wanted() {
    const RATE: usize = 50;
    let sessions = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions: usize = sessions.map_or(200, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    let [a, b, c, other, more] = backends().await;
    let rebalance = ["50/s", "off"];
    let lockgate = Lockgate::with_file(&config(rebalance, [&[a], &[other]]))
        .start()
        .await;
    let mut clients = Clients::new();
    for n in 0..sessions {
        clients.comes(&lockgate, "a.test").await;
        if n % 4 == 0 {
            clients.comes(&lockgate, "b.test").await;
        }
    }

    // The other pool grows as well: who is told there would be counted.
    let started = Instant::now();
    lockgate.write_config(&config(rebalance, [&[a, b], &[other, more]]));
    let times = clients.even_out(&lockgate, sessions / 2).await;
    let half = sessions as u64 / 2;
    until_leases(&lockgate, &[sessions as u64 - half, half]).await;
    until_closing(&lockgate, 0).await;
    let (first, last) = (times[0], times[times.len() - 1]);
    let second = Duration::from_secs(1);
    let from = |(n, from): (usize, &Instant)| {
        let within = times[n..].iter().take_while(|at| **at < *from + second);
        within.count()
    };
    let peak = times.iter().enumerate().map(from).max().unwrap_or(0);
    println!(
        "{} of {sessions} sessions were told from {:.1?} to {:.1?} after the change: {peak} in the busiest second, {RATE} at most",
        times.len(),
        first - started,
        last - started
    );
    // A machine that does other things meanwhile may bunch what it hears. That no second has more is shown without a clock,
    // in `server::drains`.
    assert!(peak <= RATE * 3 / 2, "{peak} in a second");
    let shortest = second * (times.len() as u32 - 1) / RATE as u32;
    assert!(last - first >= shortest.mul_f64(0.8), "{:?}", last - first);

    // The sessions closed next are the excess above a third: none was closed in between.
    lockgate.write_config(&config(rebalance, [&[a, b, c], &[other, more]]));
    let third = (sessions as u64).div_ceil(3);
    let surplus = (sessions as u64 - half - third) + (half - third);
    clients.even_out(&lockgate, surplus as usize).await;
    until_leases(&lockgate, &[third, third, sessions as u64 - 2 * third]).await;
    until_closing(&lockgate, 0).await;
    assert!(clients.told.try_recv().is_err(), "another was told");
    let logged = lockgate.stderr();
    assert_eq!(
        logged
            .matches("closing sessions to rebalance the pool")
            .count(),
        2,
        "{logged}"
    );
}

#[tokio::test]
async fn undrained_backend_gets_its_share() {
    let [a, b, other] = backends().await;
    let config = config(["100/s", "off"], [&[a, b], &[other]]);
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.comes(&lockgate, "a.test").await;
    }
    until_leases(&lockgate, &[20, 20]).await;
    let (backend, undo) = (format!("ws://{b}"), "--undo");
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.tell(&drain).await.0);
    clients.even_out(&lockgate, 20).await;
    until_leases(&lockgate, &[40, 0]).await;
    assert!(lockgate.tell(&[&drain[..], &[undo]].concat()).await.0);
    clients.even_out(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    assert!(clients.told.try_recv().is_err(), "another was told");
}

/// A backend with a life of its own, which ends with all of its sessions.
fn alive(at: SocketAddr) -> (Runtime, SocketAddr) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread");
    let listener = std::net::TcpListener::bind(at).expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let at = listener.local_addr().expect("bound");
    runtime.spawn(async move {
        Backend::echo_on(TcpListener::from_std(listener).expect("inside a runtime")).await;
    });
    (runtime, at)
}

#[tokio::test]
async fn recovered_backend_gets_its_share() {
    let [a, other] = backends().await;
    let (life, b) = alive("127.0.0.1:0".parse().expect("an address"));
    let checked = "[pools.a]\npassive = { fails = 0 }\n\
         health = { check = \"websocket\", interval = \"100ms\", rise = 1, fall = 1 }\n";
    let config = |all: &[SocketAddr]| {
        config(["100/s", "off"], [all, &[other]]).replace("[pools.a]\n", checked)
    };
    let lockgate = Lockgate::with_file(&config(&[a])).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.comes(&lockgate, "a.test").await;
    }
    lockgate.write_config(&config(&[a, b]));
    clients.even_out(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    life.shutdown_background();
    clients.come_back(&lockgate, 20, 1011).await;
    until(&lockgate, "one down", |status| {
        let all = status["backends"].as_array().expect("a list");
        all.iter().any(|backend| backend["state"] == "down")
    })
    .await;
    until_leases(&lockgate, &[40, 0]).await;
    let (life, _) = alive(b);
    clients.even_out(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    assert!(clients.told.try_recv().is_err(), "another was told");
    life.shutdown_background();
}

#[tokio::test]
async fn a_reload_a_drain_and_a_stop_end_it() {
    let [a, b, other] = backends().await;
    let config = |rate| config([rate, "off"], [&[a, b], &[other]]);
    let before = config("off").replace(&format!(", \"ws://{b}\""), "");
    let mut lockgate = Lockgate::with_file(&before).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.comes(&lockgate, "a.test").await;
    }
    lockgate.write_config(&config("1/h"));
    until_closing(&lockgate, 20).await;
    lockgate.write_config(&config("off"));
    until_closing(&lockgate, 0).await;
    until_leases(&lockgate, &[40, 0]).await;
    // The pool is already uneven when rebalancing is switched on.
    lockgate.write_config(&config("1/h"));
    until_closing(&lockgate, 20).await;
    // As long as there is room elsewhere.
    let (backend, undo) = (format!("ws://{b}"), "--undo");
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.tell(&drain).await.0);
    until_closing(&lockgate, 0).await;
    assert!(lockgate.tell(&[&drain[..], &[undo]].concat()).await.0);
    until_closing(&lockgate, 20).await;
    assert!(clients.told.try_recv().is_err(), "one was told");
    lockgate.terminate();
    for _ in 0..40 {
        clients.next(1001).await;
    }
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn a_takeover_ends_it() {
    let [a, b, other] = backends().await;
    let config = |all: &[SocketAddr]| config(["1/h", "off"], [all, &[other]]);
    let mut old = Lockgate::with_file(&config(&[a])).start().await;
    let mut clients = Clients::new();
    for _ in 0..20 {
        clients.comes(&old, "a.test").await;
    }
    old.write_config(&config(&[a, b]));
    until_closing(&old, 10).await;
    let new = old.successor(&[]).await;
    clients.even_out(&new, 20).await;
    assert_eq!(old.exit().await, Some(0));
    until_leases(&new, &[10, 10]).await;
    until_closing(&new, 0).await;
}
