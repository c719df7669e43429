//! Memory held by a session: little, and none while it is idle.

use crate::{
    net::{socket::Socket, tls_stream::ServerStream},
    observe::metrics::families::SessionMetrics,
    proto::frame_tracker::{Role, RsvBits},
    registry::SessionHandle,
    splice::{
        leg::Leg,
        limits::SessionLimits,
        outcome::Outcome,
        pump::{Pump, READ_BUF_LEN},
        run,
        session::SpliceLegs,
        tests::harness::*,
    },
};
use std::{future::poll_fn, mem::size_of, sync::Arc, task::Poll};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep},
};

/// A single pump with its two legs.
struct Direction {
    pump: Pump,
    client: Leg<Wire>,
    backend: Leg<Wire>,
    limits: SessionLimits,
}

impl Direction {
    /// From a client to a backend whose pipe holds `pipe` bytes.
    fn new(pipe: usize) -> (Direction, TestPeer, TestPeer) {
        let (client, client_wire) = TestPeer::new(1024 * 1024, true);
        let (backend, backend_wire) = TestPeer::new(pipe, false);
        let direction = Direction {
            pump: Pump::new(Role::Client, RsvBits::None),
            client: Leg::new(client_wire, Instant::now()),
            backend: Leg::new(backend_wire, Instant::now()),
            limits: Builder::default().limits,
        };
        (direction, client, backend)
    }

    /// Polls the pump once; returns the capacity of its buffers afterwards.
    async fn poll_capacity(&mut self) -> usize {
        // The yield restores the task's budget.
        yield_now().await;
        poll_fn(|cx| {
            let now = Instant::now();
            let _ = self
                .pump
                .poll(cx, &mut self.client, &mut self.backend, &self.limits, now);
            Poll::Ready(())
        })
        .await;
        self.pump.buffered_capacity()
    }
}

#[tokio::test(start_paused = true)]
async fn partial_frame_holds_only_its_own_bytes() {
    let (mut direction, mut client, mut backend) = Direction::new(1024);
    assert_eq!(direction.poll_capacity().await, 0);
    let ping = client.frame(PING_FRAME, &[1; 125]);
    for (i, byte) in ping.iter().enumerate() {
        client.send(&[*byte]).await;
        let held = if i + 1 < ping.len() { i + 1 } else { 0 };
        assert_eq!(direction.poll_capacity().await, held);
    }
    backend.expect(&ping).await;
}

#[tokio::test(start_paused = true)]
async fn blocked_direction_holds_one_read_and_releases_it() {
    let (mut direction, mut client, mut backend) = Direction::new(1024);
    let frames = client.frame(BINARY, &[1; 1000]).repeat(500);
    client.send(&frames).await;
    let mut got = 0;
    while got < frames.len() {
        assert!(direction.poll_capacity().await <= READ_BUF_LEN);
        let next = frames.len().min(got + 1024);
        backend.expect(&frames[got..next]).await;
        got = next;
    }
    assert_eq!(direction.poll_capacity().await, 0);
    sleep(secs(1)).await;
    assert_eq!(direction.poll_capacity().await, 0);
}

#[test]
fn session_future_is_small() {
    fn size<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }
    let plain = size::<
        SpliceLegs<Socket, Socket>,
        watch::Receiver<SessionLimits>,
        SessionHandle,
        Arc<SessionMetrics>,
        fn(&Outcome),
        _,
    >(run);
    let tls = size::<SpliceLegs<Box<ServerStream<Socket>>, Socket>, _, _, _, fn(&Outcome), _>(run);
    println!("the future of run: {plain} bytes over Socket, {tls} over TLS");
    assert!(plain <= 1536 && tls <= 1536, "{plain} and {tls} bytes");
}
