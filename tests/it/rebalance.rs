//! Rebalancing: excess sessions are closed at the pool's rate when a backend is added, undrained or has recovered.
//!
//! `LOCKGATE_SESSIONS` sets the number of sessions (200). The figures are printed.

use crate::harness::{
    Backend, Lockgate, Wire, eventually, handshake, observe, raise_descriptor_limit, within,
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

/// Two pools; "a.test" is routed to the first, "b.test" to the second.
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

/// A Close that a client received.
struct ReceivedClose {
    host: &'static str,
    code: u16,
    at: Instant,
}

/// The connected clients, and the Closes that they have received.
struct Clients {
    report: UnboundedSender<ReceivedClose>,
    closes: UnboundedReceiver<ReceivedClose>,
}

// === impl Clients ===

impl Clients {
    fn new() -> Self {
        let (report, closes) = unbounded_channel();
        Clients { report, closes }
    }

    /// Connects a client, which reports the Close that it receives.
    async fn connect(&self, lockgate: &Lockgate, host: &'static str) {
        let mut wire = Wire::stream(lockgate.tls(host).await);
        let request = handshake("/", "").replace("Host: a.test", &format!("Host: {host}"));
        wire.send(request).await;
        assert_eq!(wire.head().await.status(), 101);
        let report = self.report.clone();
        tokio::spawn(async move {
            while let Some(frame) = wire.next_frame().await {
                if frame.is_close() {
                    let (code, at) = (frame.closes_with().0, Instant::now());
                    drop(report.send(ReceivedClose { host, code, at }));
                    return wire.send_frame(frame).await;
                }
            }
        });
    }

    /// Waits for the next Close, which must be on "a.test" with `code`.
    async fn next_close(&mut self, code: u16) -> Instant {
        let close = within("a Close", self.closes.recv()).await.expect("ours");
        assert_eq!((close.host, close.code), ("a.test", code));
        close.at
    }

    /// Waits for `count` Closes with 1012 and reconnects each client. Returns the times of the Closes.
    async fn reconnect_after_1012(&mut self, lockgate: &Lockgate, count: usize) -> Vec<Instant> {
        self.reconnect_after(lockgate, count, 1012).await
    }

    async fn reconnect_after(
        &mut self,
        lockgate: &Lockgate,
        count: usize,
        code: u16,
    ) -> Vec<Instant> {
        let mut times = vec![];
        while times.len() < count {
            times.push(self.next_close(code).await);
            self.connect(lockgate, "a.test").await;
        }
        times.sort_unstable();
        times
    }
}

async fn until(lockgate: &Lockgate, description: &str, condition: impl Fn(&Value) -> bool) {
    eventually(description, async || {
        observe(lockgate.status().await, &condition)
    })
    .await;
}

/// Waits until the backends of pool "a" have these numbers of sessions.
async fn until_leases(lockgate: &Lockgate, expected: &[u64]) {
    until(lockgate, &format!("leases {expected:?}"), |status| {
        let all = status["backends"].as_array().expect("a list");
        let ours = all.iter().filter(|backend| backend["pool"] == "a");
        let leases = ours.map(|backend| backend["leases"].as_u64().expect("a number"));
        leases.eq(expected.iter().copied())
    })
    .await;
}

async fn until_closing(lockgate: &Lockgate, expected: u64) {
    until(lockgate, &format!("{expected} closing"), |status| {
        status["closing"] == expected
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
async fn added_backend_gets_its_share_at_the_configured_rate() {
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
        clients.connect(&lockgate, "a.test").await;
        if n % 4 == 0 {
            clients.connect(&lockgate, "b.test").await;
        }
    }

    // The other pool grows too, but does not rebalance: a Close there would fail the test.
    let started = Instant::now();
    lockgate.write_config(&config(rebalance, [&[a, b], &[other, more]]));
    let times = clients.reconnect_after_1012(&lockgate, sessions / 2).await;
    let moved = sessions as u64 / 2;
    until_leases(&lockgate, &[sessions as u64 - moved, moved]).await;
    until_closing(&lockgate, 0).await;
    let (first, last) = (times[0], times[times.len() - 1]);
    let second = Duration::from_secs(1);
    let from = |(n, from): (usize, &Instant)| {
        let within = times[n..].iter().take_while(|at| **at < *from + second);
        within.count()
    };
    let peak = times.iter().enumerate().map(from).max().unwrap_or(0);
    println!(
        "{} of {sessions} sessions were closed from {:.1?} to {:.1?} after the change: {peak} in the busiest second, {RATE} at most",
        times.len(),
        first - started,
        last - started
    );
    // A loaded machine may receive several Closes at once. The unit tests of `server::drains` check the exact rate.
    assert!(peak <= RATE * 9 / 5, "{peak} in a second");
    let shortest = second * (times.len() as u32 - 1) / RATE as u32;
    assert!(last - first >= shortest.mul_f64(0.8), "{:?}", last - first);

    // The sessions closed next are the excess above a third: none was closed in between.
    lockgate.write_config(&config(rebalance, [&[a, b, c], &[other, more]]));
    let third = (sessions as u64).div_ceil(3);
    let surplus = (sessions as u64 - moved - third) + (moved - third);
    clients
        .reconnect_after_1012(&lockgate, surplus as usize)
        .await;
    until_leases(&lockgate, &[third, third, sessions as u64 - 2 * third]).await;
    until_closing(&lockgate, 0).await;
    assert!(
        clients.closes.try_recv().is_err(),
        "another session was closed"
    );
    eventually("two closings in the log", async || {
        observe(lockgate.stderr(), |logged| {
            let closings = logged.matches("closing sessions to rebalance the pool");
            closings.count() == 2
        })
    })
    .await;
}

#[tokio::test]
async fn undrained_backend_gets_its_share() {
    let [a, b, other] = backends().await;
    let config = config(["100/s", "off"], [&[a, b], &[other]]);
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.connect(&lockgate, "a.test").await;
    }
    until_leases(&lockgate, &[20, 20]).await;
    let (backend, undo) = (format!("ws://{b}"), "--undo");
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.command(&drain).await.0);
    clients.reconnect_after_1012(&lockgate, 20).await;
    until_leases(&lockgate, &[40, 0]).await;
    assert!(lockgate.command(&[&drain[..], &[undo]].concat()).await.0);
    clients.reconnect_after_1012(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    assert!(
        clients.closes.try_recv().is_err(),
        "another session was closed"
    );
}

/// An echo backend in a runtime of its own: dropping the runtime ends all of its sessions.
fn echo_backend(at: SocketAddr) -> (Runtime, SocketAddr) {
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
    let (runtime, b) = echo_backend("127.0.0.1:0".parse().expect("an address"));
    let checked = "[pools.a]\npassive = { fails = 0 }\n\
         health = { check = \"websocket\", interval = \"100ms\", timeout = \"10s\", rise = 1, fall = 1 }\n";
    let config = |all: &[SocketAddr]| {
        config(["100/s", "off"], [all, &[other]]).replace("[pools.a]\n", checked)
    };
    let lockgate = Lockgate::with_file(&config(&[a])).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.connect(&lockgate, "a.test").await;
    }
    lockgate.write_config(&config(&[a, b]));
    clients.reconnect_after_1012(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    runtime.shutdown_background();
    clients.reconnect_after(&lockgate, 20, 1011).await;
    until(&lockgate, "one down", |status| {
        let all = status["backends"].as_array().expect("a list");
        all.iter().any(|backend| backend["state"] == "down")
    })
    .await;
    until_leases(&lockgate, &[40, 0]).await;
    let (runtime, _) = echo_backend(b);
    clients.reconnect_after_1012(&lockgate, 20).await;
    until_leases(&lockgate, &[20, 20]).await;
    until_closing(&lockgate, 0).await;
    assert!(
        clients.closes.try_recv().is_err(),
        "another session was closed"
    );
    runtime.shutdown_background();
}

#[tokio::test]
async fn reload_drain_and_shutdown_cancel_rebalancing() {
    let [a, b, other] = backends().await;
    let config = |rate| config([rate, "off"], [&[a, b], &[other]]);
    let before = config("off").replace(&format!(", \"ws://{b}\""), "");
    let mut lockgate = Lockgate::with_file(&before).start().await;
    let mut clients = Clients::new();
    for _ in 0..40 {
        clients.connect(&lockgate, "a.test").await;
    }
    lockgate.write_config(&config("1/h"));
    until_closing(&lockgate, 20).await;
    lockgate.write_config(&config("off"));
    until_closing(&lockgate, 0).await;
    until_leases(&lockgate, &[40, 0]).await;
    // The pool is already uneven when rebalancing is switched on.
    lockgate.write_config(&config("1/h"));
    until_closing(&lockgate, 20).await;
    // Draining the new backend cancels the pending closes.
    let (backend, undo) = (format!("ws://{b}"), "--undo");
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.command(&drain).await.0);
    until_closing(&lockgate, 0).await;
    assert!(lockgate.command(&[&drain[..], &[undo]].concat()).await.0);
    until_closing(&lockgate, 20).await;
    assert!(clients.closes.try_recv().is_err(), "a session was closed");
    lockgate.terminate();
    for _ in 0..40 {
        clients.next_close(1001).await;
    }
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn takeover_cancels_rebalancing() {
    let [a, b, other] = backends().await;
    let config = |all: &[SocketAddr]| config(["1/h", "off"], [all, &[other]]);
    let mut old = Lockgate::with_file(&config(&[a])).start().await;
    let mut clients = Clients::new();
    for _ in 0..20 {
        clients.connect(&old, "a.test").await;
    }
    old.write_config(&config(&[a, b]));
    until_closing(&old, 10).await;
    let new = old.successor(&[]).await;
    clients.reconnect_after_1012(&new, 20).await;
    assert_eq!(old.exit().await, Some(0));
    until_leases(&new, &[10, 10]).await;
    until_closing(&new, 0).await;
}
