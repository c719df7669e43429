//! Ejection after failed handshakes.

use super::*;
use crate::harness::within;

#[tokio::test]
async fn repeated_failures_eject_a_backend_for_a_while() {
    let (mut failing, other) = (Switch::off().await, Switch::on().await);
    let passive = "passive = { fails = 3, within = \"60s\", eject = \"3s\" }\nbalance = \"round-robin\"\nretry = { times = 0 }";
    let lockgate = start(&pool("a", &[&failing.address, &other.address], passive)).await;
    let (ejected, up) = (
        transitions("a", failing.address, "ejected"),
        up("a", failing.address),
    );
    let mut open = vec![];
    within("an ejection", async {
        while lockgate.metric(&ejected).await == 0.0 {
            open.push(try_session(&lockgate, "a.test").await);
        }
    })
    .await;
    let failed = open.iter().filter(|(_, status)| *status == 502).count();
    assert_eq!(failed, 3);
    let (state, why) = state(&lockgate, "a").await;
    if state == "ejected" {
        assert!(why.is_some_and(|why| why.contains("cannot connect")));
    }
    let mut handshakes = 0;
    while handshakes < 10 {
        let (wire, status) = try_session(&lockgate, "a.test").await;
        // On a slow machine the ejection may have ended already.
        if lockgate.metric(&up).await == 1.0 {
            break;
        }
        assert_eq!(status, 101);
        open.push((wire, status));
        handshakes += 1;
    }
    failing.turn_on().await;
    until(&lockgate, &up, 1.0).await;
    let there = format!("ws://{}", failing.address);
    within("a session there", async {
        while !lockgate
            .records()
            .iter()
            .any(|it| it["event"] == "open" && it["backend"] == *there)
        {
            open.push(try_session(&lockgate, "a.test").await);
        }
    })
    .await;
    println!("{handshakes} handshakes while it was ejected, none failed");
}

#[tokio::test]
async fn backend_whose_clients_give_up_waiting_is_ejected_too() {
    // The kernel accepts connections, but no response is ever sent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let passive = "passive = { fails = 1, within = \"60s\", eject = \"60s\" }";
    let pool = pool("a", &[&address], passive);
    let patient = "[session]\nhandshake_timeout = \"2s\"\n";
    let lockgate = start(&format!("{patient}{pool}")).await;
    let leave_after = async |stay: Duration| {
        let mut wire = lockgate.connect_as("a.test").await;
        wire.send(handshake("/", "")).await;
        // How long this client waits for an answer, which is what the test is about.
        sleep(stay).await;
    };
    // A client that leaves early is no evidence about the backend.
    for _ in 0..4 {
        leave_after(Duration::from_millis(50)).await;
    }
    eventually("four records of clients that left", async || {
        let records = lockgate.records();
        let left = records.iter().filter(|it| it["status"] == 499).count();
        observe(left, |left| *left >= 4)
    })
    .await;
    assert_eq!(state(&lockgate, "a").await.0, "up");
    leave_after(Duration::from_millis(1200)).await;
    until(&lockgate, &transitions("a", address, "ejected"), 1.0).await;
    let (state, why) = state(&lockgate, "a").await;
    assert_eq!(state, "ejected");
    assert!(why.is_some_and(|why| why.contains("then the client disconnected")));
}
