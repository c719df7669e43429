//! A backend that alternates between on and off every second.
//!
//! `LOCKGATE_SECONDS` sets the duration (6). The figures are printed.

use super::*;
use tokio::time::Instant;

/// Duration of each on and off phase.
const PHASE: Duration = Duration::from_secs(1);
const SESSIONS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flapping_backend_closes_no_session() {
    let seconds = std::env::var("LOCKGATE_SECONDS").ok();
    let seconds = seconds.map_or(6, |it| it.parse().expect("a number"));
    let mut flapping = Switch::on().await;
    let stable = Switch::on().await;
    let both: [&dyn Display; 2] = [&flapping.address, &stable.address];
    // The short interval detects every phase; the long one never gets three equal results in a row.
    let quick =
        "health = { check = \"websocket\", interval = \"100ms\" }\nbalance = \"round-robin\"";
    let slow = "health = { check = \"websocket\", interval = \"5s\" }";
    let lockgate = start(&pool("a", &both, quick)).await;
    let other = start(&pool("a", &both, slow)).await;
    let mut sessions = vec![];
    for _ in 0..SESSIONS {
        sessions.push(session(&lockgate, "a.test").await);
    }
    let started = Instant::now();
    let mut phases = 0_u32;
    while started.elapsed() < Duration::from_secs(seconds) {
        match phases % 2 {
            0 => flapping.turn_off().await,
            _ => flapping.turn_on().await,
        }
        phases += 1;
        // The test needs phases of a fixed length; it awaits no event here.
        tokio::time::sleep_until(started + PHASE * phases).await;
        for wire in &mut sessions {
            wire.echoes().await;
        }
    }
    flapping.turn_on().await;
    until(&lockgate, &up("a", flapping.address), 1.0).await;
    for wire in &mut sessions {
        wire.echoes().await;
    }
    let mut counts = vec![];
    for lockgate in [&lockgate, &other] {
        for to in ["down", "up"] {
            let series = transitions("a", flapping.address, to);
            counts.push(lockgate.metric(&series).await);
        }
    }
    let closed = lockgate.records();
    let closed = closed.iter().filter(|it| it["event"] == "close").count();
    println!(
        "{seconds} s, {phases} phases: checked each 100 ms (fall 3, rise 2) {} down, {} up; each 5 s {} down, {} up; \
         {SESSIONS} sessions, {closed} closed",
        counts[0], counts[1], counts[2], counts[3]
    );
    let off_phases = f64::from(phases.div_ceil(2));
    assert!(counts[0] >= 1.0 && counts[0] <= off_phases, "{counts:?}");
    assert_eq!(counts[0], counts[1]);
    // The first check may fail at once; each later transition takes two checks at least.
    let max_transitions = 1.0 + seconds as f64 / 9.0;
    assert!(counts[2] + counts[3] <= max_transitions, "{counts:?}");
    assert_eq!(closed, 0);
}
