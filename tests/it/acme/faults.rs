//! A CA on its bad days. What is held is served throughout, the CA is not stormed, and when it is well again the rest
//! comes without a restart.

use super::fixture::{Rig, failed, issued, until};
use crate::harness::{Answer, Fault, Front, Lockgate};
use std::time::Duration;
use tokio::time::Instant;

/// `a.test` has its certificate, `b.test` wants one while the fault lasts.
struct Bad {
    rig: Rig,
    front: Front,
    lockgate: Lockgate,
}

impl Bad {
    async fn day(fault: Fault) -> Bad {
        let rig = Rig::new().await;
        let front = Front::before(&rig.pebble).await;
        let acme = format!("directory = {:?}", front.directory());
        let mut before = rig.start(&["a.test"], &acme).await;
        issued(&before, "a.test").await;
        super::fixture::stop(&mut before).await;
        assert_eq!(rig.pebble.orders(), 1);
        front.set(fault);
        let lockgate = rig.start(&["a.test", "b.test"], &acme).await;
        Bad {
            rig,
            front,
            lockgate,
        }
    }

    /// It fails with these words, and `a.test` is served as before; then all is well.
    async fn ends(self, words: &str) {
        failed(&self.lockgate, "b.test", words).await;
        self.rig.leaf("a.test").await.expect("served throughout");
        assert_eq!(self.rig.pebble.orders(), 1, "none came so far");
        self.front.set(Fault::Pass);
        issued(&self.lockgate, "b.test").await;
        self.rig.leaf("a.test").await.expect("served throughout");
        self.rig.leaf("b.test").await.expect("served now");
        assert_eq!(self.rig.pebble.orders(), 2);
    }
}

#[tokio::test]
async fn it_is_down() {
    Bad::day(Fault::Refuse)
        .await
        .ends("the CA cannot be reached")
        .await;
}

#[tokio::test]
async fn it_has_an_internal_error() {
    let fault = Fault::Answer(Answer::new(500, "<html>oh</html>"));
    Bad::day(fault)
        .await
        .ends("it answered with the status 500")
        .await;
}

#[tokio::test]
async fn it_has_an_internal_error_in_the_middle_of_an_order() {
    let fault = Fault::Late(
        "order-plz",
        Answer::problem(500, "serverInternal", "database"),
    );
    Bad::day(fault)
        .await
        .ends("database (serverInternal)")
        .await;
}

#[tokio::test]
async fn it_is_silent() {
    Bad::day(Fault::Silent)
        .await
        .ends("no answer from localhost within 30 s")
        .await;
}

#[tokio::test]
async fn it_wants_to_be_asked_later() {
    let limited = Answer::problem(429, "rateLimited", "too many requests");
    let bad = Bad::day(Fault::Answer(limited.retry_after("6"))).await;
    let started = Instant::now();
    failed(&bad.lockgate, "b.test", "too many requests (rateLimited)").await;
    // The time is asked once more, at the start.
    assert!(bad.front.answered() <= 2, "{}", bad.front.answered());
    bad.rig.leaf("a.test").await.expect("served throughout");
    bad.front.set(Fault::Pass);
    issued(&bad.lockgate, "b.test").await;
    assert!(
        started.elapsed() >= Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(bad.rig.pebble.orders(), 2);
}

#[tokio::test]
async fn it_wants_to_be_asked_later_and_says_when_in_its_text() {
    let detail = "too many certificates, retry after 2199-01-01 00:00:00 UTC: see https://ca.test";
    let limited = Answer::problem(429, "rateLimited", detail);
    let bad = Bad::day(Fault::Late("order-plz", limited)).await;
    let row = failed(&bad.lockgate, "b.test", "too many certificates").await;
    // A week at most: what is later is a mistake.
    let next = row["next_attempt"].as_str().expect("a time");
    let next = humantime::parse_rfc3339(next).expect("RFC 3339");
    let wait = next
        .duration_since(std::time::SystemTime::now())
        .expect("later");
    assert!(wait > Duration::from_secs(6 * 86_400), "{wait:?}");
    assert_eq!(bad.front.answered(), 1);
    assert!(bad.rig.leaf("a.test").await.is_ok());
}

#[tokio::test]
async fn it_refuses_good_nonces() {
    let rig = Rig::with(|pebble| pebble.nonce_reject(30)).await;
    rig.prepare(&["a.test"]).await;
    let lockgate = rig.start(&["a.test", "b.test", "c.test"], "").await;
    for host in ["b.test", "c.test"] {
        rig.leaf("a.test").await.expect("served throughout");
        issued(&lockgate, host).await;
        rig.leaf(host).await.expect("served now");
    }
    // Orders are given up in their middle; each is one of few.
    let orders = rig.pebble.count("Added order");
    println!("{orders} orders for 3 certificates with 30 % bad nonces");
    assert!(orders <= 30, "{orders}");
}

#[tokio::test]
async fn it_does_not_find_a_host() {
    let rig = Rig::new().await;
    rig.prepare(&["a.test"]).await;
    rig.pebble.set_ipv4("b.test", "127.0.0.99").await;
    let lockgate = rig.start(&["a.test", "b.test"], "").await;
    failed(&lockgate, "b.test", "could not validate").await;
    rig.leaf("a.test").await.expect("served throughout");
    rig.pebble.set_ipv4("b.test", "127.0.0.1").await;
    issued(&lockgate, "b.test").await;
    let orders = rig.pebble.orders();
    assert!((3..=5).contains(&orders), "{orders}");
}

#[tokio::test]
async fn it_never_finds_a_host_and_is_asked_four_times_an_hour() {
    let rig = Rig::new().await;
    rig.pebble.set_ipv4("a.test", "127.0.0.99").await;
    let mut lockgate = rig.start(&["a.test"], "").await;
    let in_an_hour = |row: &serde_json::Value| {
        let next = row["next_attempt"]
            .as_str()
            .and_then(|next| humantime::parse_rfc3339(next).ok());
        let wait = next.and_then(|next| next.duration_since(std::time::SystemTime::now()).ok());
        wait.is_some_and(|wait| wait > Duration::from_secs(3000))
    };
    until(&lockgate, "a.test", in_an_hour).await;
    assert_eq!(rig.pebble.orders(), 4);
    // Neither a wish nor a restart changes that.
    let (well, said) = lockgate.tell(&["cert", "renew", "a.test"]).await;
    assert!(well, "{said}");
    super::fixture::stop(&mut lockgate).await;
    let lockgate = rig.start(&["a.test"], "").await;
    until(&lockgate, "a.test", in_an_hour).await;
    assert_eq!(rig.pebble.orders(), 4);
}

#[tokio::test]
async fn it_does_not_find_one_host_of_five() {
    let rig = Rig::new().await;
    rig.prepare(&["a.test"]).await;
    let held = rig.leaf_of("a.test");
    rig.pebble.set_ipv4("dead.test", "127.0.0.99").await;
    let hosts = ["a.test", "b.test", "dead.test", "d.test", "e.test"];
    let started = Instant::now();
    let lockgate = rig.start(&hosts, "").await;
    for host in hosts.into_iter().filter(|host| *host != "dead.test") {
        issued(&lockgate, host).await;
        rig.leaf(host).await.expect("served");
    }
    println!("the four others after {:.1?}", started.elapsed());
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    failed(&lockgate, "dead.test", "").await;
    assert_eq!(rig.leaf("a.test").await.expect("served throughout"), held);
}
