//! A removed route with many sessions: their closes are spread over the window, and no frame is truncated.
//!
//! `LOCKGATE_SESSIONS` sets the number of sessions (1000). The figures are printed.

use super::{HEAD, route, session, spread};
use crate::harness::{Backend, Frame, Lockgate, Wire, raise_descriptor_limit};
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// `drain.window` of the configuration.
const WINDOW: Duration = Duration::from_secs(6);

/// Checks every echo until the Close; returns the time of the Close.
async fn until_closed(mut wire: Wire, messages: Option<Vec<Frame>>, started: Instant) -> Duration {
    let mut frames = messages.into_iter().flatten().cycle();
    loop {
        let expected = frames.next();
        if let Some(frame) = &expected {
            wire.send_frame(frame.clone()).await;
        }
        let received = wire.frame().await;
        if received.is_close() {
            assert_eq!(received.closes_with().0, 1012);
            let at = started.elapsed();
            wire.send_frame(Frame::close(1012, "")).await;
            return at;
        }
        assert!(
            expected.is_some_and(|it| it == received),
            "a frame that was never sent"
        );
    }
}

/// A fragmented message and a large one; the first session's is larger.
fn large_messages(n: usize) -> Vec<Frame> {
    let large = if n == 0 { 16 << 20 } else { 4 << 20 };
    let mut first = Frame::binary(&vec![n as u8; 70_000]);
    first.fin = false;
    let last = Frame::new(0, &[1, 2, 3]);
    vec![first, last, Frame::binary(&vec![n as u8; large])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_route_spreads_its_closes_over_the_window() {
    let sessions = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions = sessions.map_or(1000, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    let backend = Backend::echo().await;
    // A session without messages expects no frame but the Close.
    let head = HEAD
        .replace("2s", "6s")
        .replace("[tls]", "[session]\nping = { legs = \"off\" }\n[tls]");
    let (stays, goes) = (
        route("a", "a.test", backend, ""),
        route("b", "b.test", backend, ""),
    );
    let lockgate = Lockgate::with_file(&format!("{head}{stays}{goes}"))
        .start()
        .await;
    let mut others = vec![];
    for _ in 0..20 {
        others.push(session(&lockgate, "a.test").await);
    }
    let mut removed = vec![];
    for _ in 0..sessions {
        removed.push(session(&lockgate, "b.test").await);
    }

    let started = Instant::now();
    lockgate.write_config(&format!("{head}{stays}"));
    let mut closing = JoinSet::new();
    for (n, wire) in removed.into_iter().enumerate() {
        let messages = (n % 100 == 0).then(|| large_messages(n / 100));
        closing.spawn(until_closed(wire, messages, started));
    }
    let mut times = vec![];
    while let Some(at) = closing.join_next().await {
        times.push(at.expect("a whole Close behind whole frames"));
    }
    let first = times.iter().min().copied().unwrap_or_default();
    let (last, peak) = spread(times);
    let mean = sessions as f64 / (last - first).as_secs_f64();
    println!(
        "{sessions} sessions closed over {:.1?}: {peak} in the busiest second, {mean:.0} in the mean one",
        last - first
    );
    assert!(last - first <= WINDOW * 3, "{last:?}");
    // The target is 1.3; a loaded machine may receive several Closes at once. The unit tests of `server::drains` check
    // the spacing without a clock.
    assert!(peak as f64 <= 3.0 * mean, "{peak} against {mean}");
    for wire in &mut others {
        wire.echoes().await;
    }
}
