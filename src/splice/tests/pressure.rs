//! Back-pressure: a slow reader stops only its sender.

use super::rig::*;
use crate::splice::pump::READ_BUF_LEN;
use std::sync::atomic::Ordering::SeqCst;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

const PIPE: usize = 4096;
/// What one direction of a session may hold.
const HELD: u64 = READ_BUF_LEN as u64;

/// Writes as long as bytes are accepted; returns how many were.
async fn flood(far: &mut Far, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while let Ok(n) = timeout(secs(10), far.pipe.write(&bytes[sent..])).await {
        sent += n.unwrap();
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_stops_the_sender() {
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
            let taken = sender.dials.received.load(SeqCst);
            assert!(taken <= HELD + PIPE as u64, "{taken} taken");
            assert_eq!(sent as u64, taken + PIPE as u64);
            // Stopped, not spinning.
            let polls = rig.polls.load(SeqCst);
            sleep(secs(3600)).await;
            assert_eq!(rig.polls.load(SeqCst), polls);
            // It reads again, and all is there.
            tokio::join!(sender.send(&frames[sent..]), reader.expect(&frames));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_direction_stuck_the_other_flows() {
    for stuck_up in [true, false] {
        let mut rig = Builder::default().pipes(PIPE).start();
        let (stuck, reader) = if stuck_up {
            (&mut rig.client, &mut rig.backend)
        } else {
            (&mut rig.backend, &mut rig.client)
        };
        let frames = stuck.frame(BINARY, &[1; 5_000]).repeat(100);
        let sent = flood(stuck, &frames).await;
        for _ in 0..100 {
            let back = reader.say(BINARY, &[2; 1_000]).await;
            stuck.expect(&back).await;
        }
        tokio::join!(stuck.send(&frames[sent..]), reader.expect(&frames));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_cannot_pass_a_full_pipe() {
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
    assert!(rig.client.dials.was_reset() && !rig.backend.dials.was_reset());
    // Nothing was put where it does not belong.
    rig.client.expect(&whole[..16]).await;
    rig.client.expect_eof().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_a_full_pipe_passes_when_the_peer_reads_in_time() {
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
    assert!(!rig.client.dials.was_reset());
}

#[tokio::test(start_paused = true)]
async fn an_order_cannot_pass_a_full_pipe() {
    let mut rig = Builder::default().pipes(16).start();
    rig.backend.say(BINARY, &[1; 40]).await;
    rig.client.say(BINARY, &[1; 40]).await;
    settle().await;
    rig.sessions.close_all(1012);
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
    assert_span(rig.elapsed(), CLOSE_TIMEOUT + millis(1));
    assert!(rig.client.dials.was_reset() && rig.backend.dials.was_reset());
}

#[tokio::test(start_paused = true)]
async fn both_stuck_recover_when_both_read() {
    let mut rig = Builder::default().pipes(PIPE).start();
    let up = rig.client.frame(BINARY, &[1; 5_000]).repeat(100);
    let down = rig.backend.frame(BINARY, &[2; 5_000]).repeat(100);
    let up_sent = flood(&mut rig.client, &up).await;
    let down_sent = flood(&mut rig.backend, &down).await;
    assert!(up_sent < up.len() && down_sent < down.len());
    let (client_in, client_out) = (&mut rig.client, &mut rig.backend);
    // Each end reads all that is there, then sends its rest.
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
