//! Faults of the CA. Stored certificates are served throughout, orders are limited, and missing certificates are issued
//! without a restart once the CA has recovered.

use super::fixture::{AcmeFixture, failed, issued, until};
use crate::harness::{Answer, Fault, Front, Lockgate};
use std::time::Duration;
use tokio::time::Instant;

/// A Lockgate that has a certificate for `a.test` and orders one for `b.test` while the CA has a fault.
struct FaultyCa {
    fixture: AcmeFixture,
    front: Front,
    lockgate: Lockgate,
    /// Before the start of `lockgate`.
    started: Instant,
}

impl FaultyCa {
    async fn new(fault: Fault) -> FaultyCa {
        let fixture = AcmeFixture::new().await;
        let front = Front::before(&fixture.pebble).await;
        let acme = format!("directory = {:?}", front.directory());
        let mut before = fixture.start(&["a.test"], &acme).await;
        issued(&before, "a.test").await;
        super::fixture::stop(&mut before).await;
        assert_eq!(fixture.pebble.orders(), 1);
        front.set(fault);
        let started = Instant::now();
        let lockgate = fixture.start(&["a.test", "b.test"], &acme).await;
        FaultyCa {
            fixture,
            front,
            lockgate,
            started,
        }
    }

    /// Checks that the order fails with this error while `a.test` is served, then removes the fault and waits for
    /// `b.test`.
    async fn recovers_from(self, error: &str) {
        failed(&self.lockgate, "b.test", error).await;
        self.fixture
            .leaf("a.test")
            .await
            .expect("served throughout");
        assert_eq!(self.fixture.pebble.orders(), 1, "no order was added");
        self.front.set(Fault::Pass);
        issued(&self.lockgate, "b.test").await;
        self.fixture
            .leaf("a.test")
            .await
            .expect("served throughout");
        self.fixture.leaf("b.test").await.expect("served now");
        assert_eq!(self.fixture.pebble.orders(), 2);
    }
}

#[tokio::test]
async fn unreachable_ca_is_retried() {
    FaultyCa::new(Fault::Refuse)
        .await
        .recovers_from("the CA cannot be reached")
        .await;
}

#[tokio::test]
async fn ca_with_status_500_is_retried() {
    let fault = Fault::Answer(Answer::new(500, "<html>oh</html>"));
    FaultyCa::new(fault)
        .await
        .recovers_from("the CA answered with the status 500")
        .await;
}

#[tokio::test]
async fn ca_with_status_500_at_new_order_is_retried() {
    let fault = Fault::Late(
        "order-plz",
        Answer::problem(500, "serverInternal", "database"),
    );
    FaultyCa::new(fault)
        .await
        .recovers_from("database (serverInternal)")
        .await;
}

#[tokio::test]
async fn silent_ca_times_out_and_is_retried() {
    FaultyCa::new(Fault::Silent)
        .await
        .recovers_from("no answer from localhost within 30 s")
        .await;
}

#[tokio::test]
async fn retry_after_header_delays_the_next_order() {
    let limited = Answer::problem(429, "rateLimited", "too many requests");
    let faulty = FaultyCa::new(Fault::Answer(limited.retry_after("6"))).await;
    failed(
        &faulty.lockgate,
        "b.test",
        "too many requests (rateLimited)",
    )
    .await;
    // The clock check at the start is the second request.
    assert!(faulty.front.answered() <= 2, "{}", faulty.front.answered());
    faulty
        .fixture
        .leaf("a.test")
        .await
        .expect("served throughout");
    faulty.front.set(Fault::Pass);
    issued(&faulty.lockgate, "b.test").await;
    let waited = faulty.started.elapsed();
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
    assert_eq!(faulty.fixture.pebble.orders(), 2);
}

#[tokio::test]
async fn retry_after_in_problem_detail_delays_the_next_order() {
    let detail = "too many certificates, retry after 2199-01-01 00:00:00 UTC: see https://ca.test";
    let limited = Answer::problem(429, "rateLimited", detail);
    let faulty = FaultyCa::new(Fault::Late("order-plz", limited)).await;
    failed(&faulty.lockgate, "b.test", "too many certificates").await;
    // Times that are further away are reduced to a week.
    let row = until(&faulty.lockgate, "b.test", |row| {
        row["next_attempt"].is_string()
    })
    .await;
    let next = row["next_attempt"].as_str().expect("a time");
    let next = humantime::parse_rfc3339(next).expect("RFC 3339");
    let wait = next
        .duration_since(std::time::SystemTime::now())
        .expect("later");
    assert!(wait > Duration::from_secs(6 * 86_400), "{wait:?}");
    assert_eq!(faulty.front.answered(), 1);
    assert!(faulty.fixture.leaf("a.test").await.is_ok());
}

#[tokio::test]
async fn rejected_nonces_do_not_prevent_issuance() {
    let fixture = AcmeFixture::with(|pebble| pebble.nonce_reject(30)).await;
    fixture.prepare(&["a.test"]).await;
    let lockgate = fixture.start(&["a.test", "b.test", "c.test"], "").await;
    for host in ["b.test", "c.test"] {
        fixture.leaf("a.test").await.expect("served throughout");
        issued(&lockgate, host).await;
        fixture.leaf(host).await.expect("served now");
    }
    // A rejected nonce may abort an order; the number of orders stays limited.
    let orders = fixture.pebble.count("Added order");
    println!("{orders} orders for 3 certificates with 30 % bad nonces");
    assert!(orders <= 30, "{orders}");
}

#[tokio::test]
async fn failed_validation_is_retried_until_dns_is_corrected() {
    let fixture = AcmeFixture::new().await;
    fixture.prepare(&["a.test"]).await;
    fixture.pebble.set_ipv4("b.test", "127.0.0.99").await;
    let lockgate = fixture.start(&["a.test", "b.test"], "").await;
    failed(&lockgate, "b.test", "could not validate").await;
    fixture.leaf("a.test").await.expect("served throughout");
    fixture.pebble.set_ipv4("b.test", "127.0.0.1").await;
    issued(&lockgate, "b.test").await;
    let orders = fixture.pebble.orders();
    assert!((3..=5).contains(&orders), "{orders}");
}

#[tokio::test]
async fn permanently_failing_host_is_ordered_four_times_an_hour() {
    let fixture = AcmeFixture::new().await;
    fixture.pebble.set_ipv4("a.test", "127.0.0.99").await;
    let mut lockgate = fixture.start(&["a.test"], "").await;
    let in_an_hour = |row: &serde_json::Value| {
        let next = row["next_attempt"]
            .as_str()
            .and_then(|next| humantime::parse_rfc3339(next).ok());
        let wait = next.and_then(|next| next.duration_since(std::time::SystemTime::now()).ok());
        wait.is_some_and(|wait| wait > Duration::from_secs(3000))
    };
    until(&lockgate, "a.test", in_an_hour).await;
    assert_eq!(fixture.pebble.orders(), 4);
    // Neither `cert renew` nor a restart bypasses the limit.
    let (ok, output) = lockgate.command(&["cert", "renew", "a.test"]).await;
    assert!(ok, "{output}");
    super::fixture::stop(&mut lockgate).await;
    let lockgate = fixture.start(&["a.test"], "").await;
    until(&lockgate, "a.test", in_an_hour).await;
    assert_eq!(fixture.pebble.orders(), 4);
}

#[tokio::test]
async fn failing_host_does_not_delay_four_others() {
    let fixture = AcmeFixture::new().await;
    let started = Instant::now();
    fixture.prepare(&["a.test"]).await;
    let one = started.elapsed();
    let held = fixture.leaf_of("a.test");
    fixture.pebble.set_ipv4("dead.test", "127.0.0.99").await;
    let hosts = ["a.test", "b.test", "dead.test", "d.test", "e.test"];
    let started = Instant::now();
    let lockgate = fixture.start(&hosts, "").await;
    for host in hosts.into_iter().filter(|host| *host != "dead.test") {
        issued(&lockgate, host).await;
        fixture.leaf(host).await.expect("served");
    }
    let all = started.elapsed();
    println!("one host alone after {one:.1?}, the four others after {all:.1?}");
    assert!(all < one * 5 + Duration::from_secs(10), "{all:?}");
    failed(&lockgate, "dead.test", "").await;
    assert_eq!(
        fixture.leaf("a.test").await.expect("served throughout"),
        held
    );
}
