//! Memory held by a session: little, and none while it is idle.

use super::rig::*;
use crate::{
    observe::{SessionHandle, SessionMetrics},
    proto::track::{Role, RsvBits},
    splice::{
        SessionLimits, Socket, SpliceLegs,
        leg::Leg,
        pump::{Pump, READ_BUF_LEN},
        run,
    },
    wire::ServerStream,
};
use std::{future::poll_fn, mem::size_of, sync::Arc, task::Poll};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep},
};

/// One direction alone, with what it leads from and to.
struct Direction {
    pump: Pump,
    client: Leg<Wire>,
    backend: Leg<Wire>,
    limits: SessionLimits,
}

impl Direction {
    /// From a client to a backend whose pipe holds `pipe` bytes.
    fn new(pipe: usize) -> (Direction, Far, Far) {
        let (client, client_wire) = Far::new(1024 * 1024, true);
        let (backend, backend_wire) = Far::new(pipe, false);
        let direction = Direction {
            pump: Pump::new(Role::Client, RsvBits::None),
            client: Leg::new(client_wire, Instant::now()),
            backend: Leg::new(backend_wire, Instant::now()),
            limits: Builder::default().limits,
        };
        (direction, client, backend)
    }

    /// Does all that can be done now; returns the room that is held then.
    async fn room(&mut self) -> usize {
        // With a fresh budget: nothing may wait because of what was done before.
        yield_now().await;
        poll_fn(|cx| {
            let now = Instant::now();
            let _ = self
                .pump
                .poll(cx, &mut self.client, &mut self.backend, &self.limits, now);
            Poll::Ready(())
        })
        .await;
        self.pump.room()
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_holds_no_more_than_it_is_long() {
    let (mut direction, mut client, mut backend) = Direction::new(1024);
    assert_eq!(direction.room().await, 0);
    let ping = client.frame(PING_FRAME, &[1; 125]);
    for (i, byte) in ping.iter().enumerate() {
        client.send(&[*byte]).await;
        let held = if i + 1 < ping.len() { i + 1 } else { 0 };
        assert_eq!(direction.room().await, held);
    }
    backend.expect(&ping).await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_direction_holds_one_read_and_gives_it_back() {
    let (mut direction, mut client, mut backend) = Direction::new(1024);
    let frames = client.frame(BINARY, &[1; 1000]).repeat(500);
    client.send(&frames).await;
    let mut got = 0;
    while got < frames.len() {
        assert!(direction.room().await <= READ_BUF_LEN);
        let next = frames.len().min(got + 1024);
        backend.expect(&frames[got..next]).await;
        got = next;
    }
    assert_eq!(direction.room().await, 0);
    sleep(secs(1)).await;
    assert_eq!(direction.room().await, 0);
}

#[test]
fn the_future_of_an_idle_session_is_small() {
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }
    let plain = size::<
        SpliceLegs<Socket, Socket>,
        watch::Receiver<SessionLimits>,
        SessionHandle,
        Arc<SessionMetrics>,
        _,
    >(run);
    let tls = size::<SpliceLegs<Box<ServerStream<Socket>>, Socket>, _, _, _, _>(run);
    println!("the future of run: {plain} bytes over Socket, {tls} over TLS");
    assert!(plain <= 1536 && tls <= 1536, "{plain} and {tls} bytes");
}
