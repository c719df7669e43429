//! Back-pressure: a slow reader stops only its sender.

use crate::splice::{pump::READ_BUF_LEN, tests::harness::*};
use std::sync::atomic::Ordering::SeqCst;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

const PIPE: usize = 4096;

/// Maximum number of bytes that one direction of a session may hold.
const MAX_HELD: u64 = READ_BUF_LEN as u64;

/// Writes until a write is pending; returns how many bytes were accepted.
async fn flood(far: &mut TestPeer, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while let Ok(n) = timeout(secs(10), far.pipe.write(&bytes[sent..])).await {
        sent += n.unwrap();
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn peer_that_never_reads_blocks_the_sender() {
    for from_client in [true, false] {
        for payload in [100, 5_000, 1_000_000] {
            let mut rig = Builder::default().pipes(PIPE).start();
            let (sender, reader) = if from_client {
                (&mut rig.client, &mut rig.backend)
            } else {
                (&mut rig.backend, &mut rig.client)
            };
            let frames = sender
                .frame(BINARY, &vec![1; payload])
                .repeat(1_000_000 / payload);
            let sent = flood(sender, &frames).await;
            let received = sender.wire.received.load(SeqCst);
            assert!(received <= MAX_HELD + PIPE as u64, "{received} bytes read");
            assert_eq!(sent as u64, received + PIPE as u64);
            // Blocked, without polling, except for the checks whether the client has disconnected.
            let polls = rig.polls.load(SeqCst);
            sleep(secs(3600)).await;
            let checks = if from_client {
                3600 / CLOSE_TIMEOUT.as_secs()
            } else {
                0
            };
            assert!(rig.polls.load(SeqCst) - polls <= checks);
            // Once the peer reads, all bytes are delivered.
            tokio::join!(sender.send(&frames[sent..]), reader.expect(&frames));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn blocked_direction_does_not_block_the_other() {
    for blocked_is_client in [true, false] {
        let mut rig = Builder::default().pipes(PIPE).start();
        let (blocked, reader) = if blocked_is_client {
            (&mut rig.client, &mut rig.backend)
        } else {
            (&mut rig.backend, &mut rig.client)
        };
        let frames = blocked.frame(BINARY, &[1; 5_000]).repeat(100);
        let sent = flood(blocked, &frames).await;
        for _ in 0..100 {
            let back = reader.send_frame(BINARY, &[2; 1_000]).await;
            blocked.expect(&back).await;
        }
        tokio::join!(blocked.send(&frames[sent..]), reader.expect(&frames));
    }
}

#[tokio::test(start_paused = true)]
async fn close_to_a_blocked_peer_ends_with_a_reset_at_close_timeout() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    let whole = rig.backend.frame(BINARY, &[1; 1000]);
    let close = rig.backend.close(1000, "");
    rig.backend.send(&[whole.clone(), close].concat()).await;
    settle().await;
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("backend", "closed", Some(1000)));
    assert!(rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
    // No Close was inserted into the frame.
    rig.client.expect(&whole[..16]).await;
    rig.client.expect_eof().await;
}

#[tokio::test(start_paused = true)]
async fn close_to_a_blocked_peer_is_delivered_if_it_reads_in_time() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    let whole = rig.backend.frame(BINARY, &[1; 1000]);
    let close = rig.backend.close(1000, "");
    rig.backend
        .send(&[whole.clone(), close.clone()].concat())
        .await;
    sleep(secs(4)).await;
    rig.client.expect(&whole).await;
    rig.client.expect(&close).await;
    let answer = rig.client.close(1000, "");
    rig.client.send(&answer).await;
    rig.backend.expect(&answer).await;
    assert_eq!(rig.end().await, ("backend", "closed", Some(1000)));
    assert!(!rig.client.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn close_order_to_blocked_peers_ends_with_resets_at_close_timeout() {
    let mut rig = Builder::default().pipes(16).start();
    rig.backend.send_frame(BINARY, &[1; 40]).await;
    rig.client.send_frame(BINARY, &[1; 40]).await;
    settle().await;
    rig.sessions.close_all(1012);
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
    assert_span(rig.elapsed(), CLOSE_TIMEOUT + millis(1));
    assert!(rig.client.wire.was_reset() && rig.backend.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn both_directions_recover_from_back_pressure() {
    let mut rig = Builder::default().pipes(PIPE).start();
    let up = rig.client.frame(BINARY, &[1; 5_000]).repeat(100);
    let down = rig.backend.frame(BINARY, &[2; 5_000]).repeat(100);
    let up_sent = flood(&mut rig.client, &up).await;
    let down_sent = flood(&mut rig.backend, &down).await;
    assert!(up_sent < up.len() && down_sent < down.len());
    let (client_in, client_out) = (&mut rig.client, &mut rig.backend);
    // Each peer reads all available bytes, then sends its rest.
    let mut got = vec![0; PIPE];
    let mut up_rest = &up[up_sent..];
    let mut down_rest = &down[down_sent..];
    let (mut up_left, mut down_left) = (up.len(), down.len());
    while up_left + down_left > 0 {
        use tokio::io::AsyncReadExt;
        tokio::select! {
            n = client_in.pipe.read(&mut got), if down_left > 0 => down_left -= n.unwrap(),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            n = client_out.pipe.read(&mut got), if up_left > 0 => up_left -= n.unwrap(),
            () = std::future::ready(()) => {}
        }
        if let Ok(n) = timeout(millis(1), client_in.pipe.write(up_rest)).await {
            up_rest = &up_rest[n.unwrap()..];
        }
        if let Ok(n) = timeout(millis(1), client_out.pipe.write(down_rest)).await {
            down_rest = &down_rest[n.unwrap()..];
        }
        assert!(
            rig.started.elapsed() < secs(3600),
            "stalled: {up_left} up, {down_left} down"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_disconnects_before_a_blocked_backend_reads_is_gone() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .start();
    let text = rig.client.frame(TEXT, &[b'a'; 1000]);
    rig.client.send(&text.repeat(10)).await;
    rig.client.half_close().await;
    rig.client.wire.hang_up();
    let end = rig.end().await;
    assert_eq!(end, ("client", "gone", Some(1001)));
    // The backend had one close timeout to accept a byte, and another one for the rest.
    assert!(rig.elapsed() <= CLOSE_TIMEOUT * 2 + secs(2));
    assert!(rig.backend.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn client_that_disconnects_long_after_the_backend_blocked_is_gone() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    rig.client.send_frame(TEXT, &[b'a'; 1000]).await;
    sleep(secs(3_601)).await;
    assert!(rig.is_running());
    let (left, polls) = (rig.elapsed(), rig.polls.load(SeqCst));
    assert!(polls <= 1_000, "{polls} polls in an hour");
    rig.client.wire.hang_up();
    assert_eq!(rig.end().await.1, "gone");
    assert!(rig.elapsed() - left <= CLOSE_TIMEOUT * 2 + secs(2));
}

#[tokio::test(start_paused = true)]
async fn slow_backend_receives_everything_from_a_client_that_disconnected() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let text = rig.client.send_frame(TEXT, &[b'a'; 500]).await;
    rig.client.half_close().await;
    rig.client.wire.hang_up();
    for chunk in text.chunks(16) {
        sleep(CLOSE_TIMEOUT - secs(1)).await;
        rig.backend.expect(chunk).await;
    }
    rig.backend.expect_close(1001).await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}
