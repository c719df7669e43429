//! Answers that are large, of IPv6, or go and come back.

use super::*;
use std::net::Ipv6Addr;

#[tokio::test]
async fn the_same_256_of_300_srv_targets_are_always_used() {
    let service = |port: u16| {
        (
            "_ws._tcp.chat.test",
            "SRV",
            format!("0 1 {port} one.chat.test."),
        )
    };
    let mut records: Vec<Record> = (20_000..20_300).map(service).collect();
    records.push(("one.chat.test", "A", at(1).to_string()));
    // Too much for UDP: the rest of the answer is asked for over TCP (RFC 7766).
    let dns = Dns::saying(&records).await;
    let config = pool("a", "\"srv://_ws._tcp.chat.test\"", "");
    let lockgate = dns.lockgate(&config).await;
    let taken: Vec<_> = (20_000..20_256).map(|port| shown(port, 1, "up")).collect();
    let status = until(&lockgate, "a", &taken).await;
    let error = status["names"][0]["error"].as_str();
    assert_eq!(error, Some("44 backends beyond the limit are left out"));
    // Servers turn their answers from one to the next.
    records[..300].rotate_left(150);
    dns.say(&records);
    let answered = "lockgate_dns_answers_total{outcome=\"answered\"}";
    let before = lockgate.metric(answered).await;
    within("two more answers", async {
        while lockgate.metric(answered).await < before + 2.0 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let status = lockgate.status().await;
    assert!(backends(&status, "a").keys().eq(taken.iter()), "{status:#}");
}

#[tokio::test]
async fn addresses_of_both_families_are_backends() {
    let port = 8772;
    echo_on(port, [1]).await;
    // The only address of IPv6 that loopback has: a port of the system's choice, so that no other test has it.
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await;
    let six = six.expect("a machine with IPv6");
    let its = six.local_addr().expect("bound").port();
    tokio::spawn(Backend::echo_on(six));
    let dns = Dns::saying(&[
        ("six.test", "AAAA", Ipv6Addr::LOCALHOST.to_string()),
        ("chat.test", "A", at(1).to_string()),
    ])
    .await;
    let names = format!("\"dns://six.test:{its}\", \"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &names, "")).await;
    let six = (format!("ws://[::1]:{its}"), "up".to_owned());
    until(&lockgate, "a", &[shown(port, 1, "up"), six.clone()]).await;
    let mut both = vec![];
    for _ in 0..2 {
        both.push(session(&lockgate, "a.test").await);
    }
    for wire in &mut both {
        echoes(wire).await;
    }
    let leases = backends(&lockgate.status().await, "a");
    assert_eq!(leases.get(&six), Some(&1), "{leases:?}");
}

#[tokio::test]
async fn drained_backend_stays_drained_when_dns_returns_it_again() {
    let port = 8773;
    echo_on(port, 1..=2).await;
    let dns = Dns::saying(&addresses(1..=2)).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &name, "")).await;
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "up"), shown(port, 2, "up")],
    )
    .await;
    let backend = format!("ws://{}:{port}", at(1));
    let (well, said) = lockgate.tell(&["drain", "--backend", &backend]).await;
    assert!(well, "{said}");
    dns.say(&addresses([2]));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "vanished"), shown(port, 2, "up")],
    )
    .await;
    dns.say(&addresses(1..=2));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "draining"), shown(port, 2, "up")],
    )
    .await;
    let all: Vec<_> = (0..4).map(|_| session(&lockgate, "a.test")).collect();
    let _open = futures_util::future::join_all(all).await;
    let leases: Vec<u64> = backends(&lockgate.status().await, "a")
        .into_values()
        .collect();
    assert_eq!(leases, [0, 4]);
}

#[tokio::test]
async fn backend_that_dns_returns_while_down_is_reported_as_down() {
    let port = 8774;
    echo_on(port, [2]).await;
    let dns = Dns::saying(&addresses(1..=2)).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let health = "health = { check = \"tcp\", interval = \"100ms\", timeout = \"100ms\" }";
    let lockgate = dns.lockgate(&pool("a", &name, health)).await;
    // Held, so that it is remembered: a drain is.
    let backend = format!("ws://{}:{port}", at(1));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "down"), shown(port, 2, "up")],
    )
    .await;
    let up = format!("lockgate_backend_up{{pool=\"a\",backend=\"{backend}\"}}");
    assert_eq!(lockgate.metric(&up).await, 0.0);
    assert!(lockgate.tell(&["drain", "--backend", &backend]).await.0);
    dns.say(&addresses([2]));
    within("its series to go", async {
        while lockgate.metrics().await.contains(&up) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    dns.say(&addresses(1..=2));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "draining"), shown(port, 2, "up")],
    )
    .await;
    assert_eq!(lockgate.metric(&up).await, 0.0);
}
