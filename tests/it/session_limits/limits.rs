//! The limits of `[session]`, one per test.

use crate::harness::{Backend, End, EndKind, Frame, Lockgate, Wire, eventually};
use std::time::{Duration, Instant};

/// Opens a session with these limits; the test controls both ends.
async fn session(limits: &str) -> (Lockgate, Wire, Wire) {
    let backend = Backend::listen().await;
    let session = format!("session = {{ {limits}, close_timeout = \"1s\" }}");
    let lockgate = Lockgate::to(backend.address).with(&session).start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    (lockgate, client, server)
}

async fn closed_as(lockgate: &Lockgate, why: &str, by: &str, code: u16) {
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["why"], &record["by"], &record["code"]),
        (&why.into(), &by.into(), &code.into()),
        "{record}"
    );
}

#[tokio::test]
async fn too_many_fragments_close_the_session() {
    let (lockgate, mut client, mut server) = session("max_fragments = 2").await;
    for opcode in [1, 0, 0] {
        let fragment = Frame {
            fin: false,
            ..Frame::new(opcode, b"x")
        };
        client.send_frame(fragment).await;
    }
    for opcode in [1, 0] {
        assert_eq!(server.frame().await.opcode, opcode);
    }
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    assert_eq!(client.frame().await.closes_with(), (1008, ""));
    closed_as(&lockgate, "too-many-fragments", "client", 1008).await;
}

#[tokio::test]
async fn client_over_its_message_rate_is_paused() {
    let (lockgate, mut client, mut server) = session("messages_per_second = 20").await;
    let started = Instant::now();
    for i in 0..60 {
        client.send_frame(Frame::text(&i.to_string())).await;
    }
    for i in 0..60 {
        assert_eq!(server.text().await, i.to_string());
        if i == 20 {
            lockgate
                .until_metric("lockgate_rate_paused_sessions", 1.0)
                .await;
        }
    }
    // A burst of 20, then 40 in two seconds.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1950), "{took:?}");
}

/// The first frame of a message, and empty continuations of it.
fn continuations(number: usize) -> Vec<u8> {
    let open = |opcode, payload: &[u8]| Frame {
        fin: false,
        ..Frame::new(opcode, payload)
    };
    let empty = open(0, b"").masked().encode();
    [open(1, b"x").masked().encode(), empty.repeat(number)].concat()
}

#[tokio::test]
async fn empty_continuation_frames_are_limited() {
    let ten_times = "messages_per_second = 20";
    let own = "frames_per_second = 200";
    for limits in [ten_times, own] {
        let (lockgate, mut client, mut server) = session(limits).await;
        let flood = tokio::spawn(async move {
            let bytes = continuations(2_000_000);
            client.fill(&bytes, Duration::from_secs(5)).await
        });
        let (mut frames, started) = (0, Instant::now());
        while started.elapsed() < Duration::from_secs(2) {
            if tokio::time::timeout(Duration::from_millis(500), server.frame())
                .await
                .is_ok()
            {
                frames += 1;
            }
        }
        println!("{limits}: {frames} frames in two seconds");
        // A burst of 200, then 200 per second.
        let most = 200.0 + 200.0 * (started.elapsed().as_secs_f64() + 0.5);
        assert!(
            (300..=most as usize).contains(&frames),
            "{limits}: {frames} frames"
        );
        lockgate
            .until_metric("lockgate_rate_paused_sessions", 1.0)
            .await;
        flood.abort();
    }
}

#[tokio::test]
async fn client_over_its_frame_rate_is_closed() {
    let limits = "messages_per_second = 20, over_rate = \"close\"";
    let (lockgate, mut client, _server) = session(limits).await;
    client.try_send(&continuations(1000)).await;
    client.flush().await;
    assert_eq!(client.frame().await.closes_with(), (1008, ""));
    closed_as(&lockgate, "over-rate", "client", 1008).await;
}

#[tokio::test]
async fn control_frames_count_as_frames() {
    let limits = "frames_per_second = 5, over_rate = \"close\"";
    let (lockgate, mut client, _server) = session(limits).await;
    // At once and more than enough, because the rate permits another frame every 200 ms.
    let pings = Frame::ping(b"x").masked().encode().repeat(50);
    client.try_send(&pings).await;
    client.flush().await;
    closed_as(&lockgate, "over-rate", "client", 1008).await;
}

#[tokio::test]
async fn fragmented_messages_within_both_rates_are_not_delayed() {
    let limits = "messages_per_second = 20, over_rate = \"close\"";
    let (_lockgate, mut client, mut server) = session(limits).await;
    for _ in 0..20 {
        let mut message = continuations(8);
        message.extend(Frame::new(0, b"end").masked().encode());
        client.send(message).await;
    }
    for _ in 0..20 {
        for n in 0..10 {
            assert_eq!(server.frame().await.fin, n == 9);
        }
    }
}

#[tokio::test]
async fn client_over_its_byte_rate_is_paused() {
    let (_lockgate, mut client, mut server) = session("bytes_per_second = 200_000").await;
    let started = Instant::now();
    let frame = Frame::binary(&vec![7; 500_000]).masked();
    let bytes = frame.encode();
    let (_, received) = tokio::join!(client.send(&bytes), server.exactly(bytes.len()));
    assert!(received == bytes, "it arrives as it was sent");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1450), "{took:?}");
}

#[tokio::test]
async fn over_rate_close_closes_the_session() {
    let limits = "messages_per_second = 3, over_rate = \"close\"";
    let (lockgate, mut client, mut server) = session(limits).await;
    let frame = Frame::text("x").masked().encode();
    client.send(frame.repeat(4)).await;
    for _ in 0..3 {
        assert_eq!(server.text().await, "x");
    }
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    assert_eq!(client.frame().await.closes_with(), (1008, ""));
    closed_as(&lockgate, "over-rate", "client", 1008).await;
}

#[tokio::test]
async fn max_idle_ignores_pings() {
    let limits = "max_idle = \"1s\", ping = { interval = \"100ms\", timeout = \"5s\" }";
    let (lockgate, mut client, mut server) = session(limits).await;
    let mut pings = 0;
    let close = loop {
        let frame = client.frame().await;
        if frame.is_close() {
            break frame;
        }
        pings += 1;
        client.send_frame(Frame::pong(&frame.payload)).await;
    };
    assert!(pings > 0);
    assert_eq!(close.closes_with(), (1001, ""));
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    closed_as(&lockgate, "max-idle", "lockgate", 1001).await;
    let count = lockgate.metric("lockgate_ping_rtt_seconds_count{leg=\"client\"}");
    let count = count.await;
    // The session may end before it has read the last Pong.
    assert!(
        [pings - 1, pings].map(f64::from).contains(&count),
        "{count} of {pings}"
    );
}

/// What a direction may hold for a slow reader: one read, by docs/architecture.md.
const MAX_PENDING: f64 = 66.0 * 1024.0;

#[tokio::test]
async fn slow_reader_is_counted_and_closed_after_a_reload() {
    let backend = Backend::listen().await;
    let config = |action: &str| {
        format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[session]\nclose_timeout = \"1s\"\n\
             slow_reader = {{ after = \"200ms\" }}\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n\
             session = {{ slow_reader = {{ do = \"{action}\" }} }}\n",
            backend.address
        )
    };
    let lockgate = Lockgate::with_file(&config("pause")).start().await;
    let (_client, mut server, _) = lockgate.session(&backend).await;
    let frame = Frame::binary(&vec![0x55; 48 << 20]).encode();
    server.fill(&frame, Duration::from_millis(300)).await;
    let slow = "lockgate_slow_readers{leg=\"client\"}";
    let stuck = "lockgate_stuck_bytes{leg=\"client\"}";
    eventually("one slow reader", async || {
        lockgate.metric(slow).await == 1.0
    })
    .await;
    let bytes = lockgate.metric(stuck).await;
    assert!((1.0..=MAX_PENDING).contains(&bytes), "{bytes}");
    lockgate.write_config(&config("close"));
    closed_as(&lockgate, "slow-reader", "client", 1008).await;
    // Part of a frame to the client is still pending; the Close to the backend is sent nevertheless.
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    for series in [slow, stuck] {
        lockgate.until_metric(series, 0.0).await;
    }
}

#[tokio::test]
async fn reload_changes_limits_of_open_sessions() {
    let backend = Backend::listen().await;
    let config = |limits: &str| {
        format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[session]\n{limits}\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
            backend.address
        )
    };
    let lockgate = Lockgate::with_file(&config("bytes_per_second = 1"))
        .start()
        .await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    client.send_frame(Frame::binary(&[7; 1000])).await;
    server.exactly(2).await;
    lockgate.write_config(&config("max_idle = \"500ms\""));
    // The rest is no longer limited to one byte per second.
    server.exactly(1000 + 8 - 2).await;
    assert_eq!(client.frame().await.closes_with(), (1001, ""));
    client.send_frame(Frame::close(1001, "")).await;
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    server.send_frame(Frame::close(1001, "")).await;
    let kind = EndKind::Fin;
    assert_eq!(
        client.end().await,
        End {
            bytes: vec![],
            kind
        }
    );
    closed_as(&lockgate, "max-idle", "lockgate", 1001).await;
}
