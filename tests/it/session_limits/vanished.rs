//! Peers that vanish: a network that drops all packets, and stopped processes. Each is detected within
//! `ping.interval` + `ping.timeout`, and its backend gets a Close.
//!
//! `LOCKGATE_PEERS` sets the number of peers of both kinds together (20). The figures are printed.

use crate::harness::{
    Backend, Frame, Lockgate, Program, eventually_within, listener, observe, raise_descriptor_limit,
};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(4);

/// A network namespace whose only link can be disconnected. Removed on drop.
struct Network {
    name: String,
    near: String,
    /// Lockgate's address, from the benchmarking range (RFC 2544) and used by this process only.
    address: String,
}

impl Network {
    fn new() -> Network {
        assert!(
            rustix::process::getuid().is_root(),
            "a network namespace is made, which only root may do: run the tests as root with CAP_SYS_ADMIN, or leave \
             this one out (cargo nextest run -E 'not test(vanish)')"
        );
        let id = std::process::id();
        let (name, near) = (format!("lockgate-{id}"), format!("lg{id}"));
        let net = format!("198.18.{}", id % 250);
        let address = format!("{net}.1");
        let network = Network {
            name,
            near,
            address,
        };
        let (name, near) = (&network.name, &network.near);
        ip(&["netns", "add", name]);
        ip(&[
            "link", "add", near, "type", "veth", "peer", "far", "netns", name,
        ]);
        ip(&["addr", "add", &format!("{net}.1/30"), "dev", near]);
        ip(&["link", "set", near, "up"]);
        let far = format!("{net}.2/30");
        ip(&["-n", name, "addr", "add", &far, "dev", "far"]);
        ip(&["-n", name, "link", "set", "far", "up"]);
        network
    }

    /// Drops all packets from now on, in both directions.
    fn disconnect(&self) {
        ip(&["-n", &self.name, "link", "set", "far", "down"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Deleting one end of the link deletes both.
        let _ = Command::new("ip")
            .args(["link", "del", &self.near])
            .status();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    let status = status.expect("the package iproute2 is installed");
    assert!(status.success(), "ip {}: {status}", arguments.join(" "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vanished_clients_are_detected_in_time_and_their_backends_notified() {
    let peers = std::env::var("LOCKGATE_PEERS").ok();
    let peers: usize = peers.map_or(20, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    let network = Network::new();
    let backend = Backend::listen().await;
    let lockgate = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"0.0.0.0:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[session]\nping = {{ interval = \"2s\", \
         timeout = \"4s\" }}\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\n",
        backend.address
    ))
    .start()
    .await;
    let port = listener(&lockgate.status().await, "https")
        .port()
        .to_string();
    let ca = lockgate.ca().display().to_string();
    let half = (peers / 2).to_string();
    let arguments = |host: &str| ["crowd.py", host, &port, &ca, &half].map(str::to_owned);
    let [script, rest @ ..] = &arguments(&network.address);
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let mut far = Program::start_under(&["ip", "netns", "exec", &network.name], script, &rest);
    let [script, rest @ ..] = &arguments("127.0.0.1");
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let mut stopped = Program::start(script, &rest);

    let mut closes = JoinSet::new();
    for _ in 0..peers / 2 * 2 {
        let (mut wire, _) = backend.accept_session().await;
        closes.spawn(async move {
            let close = wire.next_frame().await.expect("its Close");
            let at = Instant::now();
            let code = close.closes_with().0;
            wire.send_frame(Frame::close(code, "")).await;
            (code, at)
        });
    }
    assert_eq!(
        (far.line().await, stopped.line().await),
        ("open".into(), "open".into())
    );
    // Peers that answer their Pings do not count as vanished.
    let answered = "lockgate_ping_rtt_seconds_count{leg=\"client\"}";
    eventually_within(
        5 * (INTERVAL + TIMEOUT),
        "a Pong of every peer",
        async || {
            observe(lockgate.metric_or_zero(answered).await, |it| {
                *it >= peers as f64
            })
        },
    )
    .await;
    assert!(closes.try_join_next().is_none(), "no peer has vanished yet");

    network.disconnect();
    stopped.stop();
    let vanished = Instant::now();
    let mut latest = Duration::ZERO;
    while let Some(end) = closes.join_next().await {
        let (code, at) = end.expect("no panic");
        assert_eq!(code, 1001);
        latest = latest.max(at - vanished);
    }
    println!("{peers} peers vanished; the last was detected after {latest:?}");
    // Without Pings they would not be detected at all.
    assert!(latest <= 3 * (INTERVAL + TIMEOUT), "{latest:?}");
    let by_ping = |record: &serde_json::Value| record["why"] == "ping-timeout";
    lockgate.record(by_ping).await;
}
