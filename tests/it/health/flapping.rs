//! A backend that is on for a second and off for a second, again and again.
//!
//! `LOCKGATE_SECONDS` sets how long (6). The figures are printed.

use super::*;
use tokio::time::Instant;

/// How long it is on, and how long off.
const PHASE: Duration = Duration::from_secs(1);
const SESSIONS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_backend_costs_no_session() {
    let seconds = std::env::var("LOCKGATE_SECONDS").ok();
    let seconds = seconds.map_or(6, |it| it.parse().expect("a number"));
    let mut flaps = Switch::on().await;
    let stays = Switch::on().await;
    let both: [&dyn Display; 2] = [&flaps.address, &stays.address];
    // One that sees every phase, and one that never sees three of the same kind.
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
            0 => flaps.turn_off().await,
            _ => flaps.turn_on().await,
        }
        phases += 1;
        // The phases are what is asked for; nothing is awaited here.
        tokio::time::sleep_until(started + PHASE * phases).await;
        for wire in &mut sessions {
            echoes(wire).await;
        }
    }
    flaps.turn_on().await;
    until(&lockgate, &up("a", flaps.address), 1.0).await;
    for wire in &mut sessions {
        echoes(wire).await;
    }
    let mut counts = vec![];
    for lockgate in [&lockgate, &other] {
        for to in ["down", "up"] {
            let series = transitions("a", flaps.address, to);
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
    let offs = f64::from(phases.div_ceil(2));
    assert!(counts[0] >= 1.0 && counts[0] <= offs, "{counts:?}");
    assert_eq!(counts[0], counts[1]);
    // The first failure of all may come at once; from then on a transition takes two checks at least.
    let most = 1.0 + seconds as f64 / 9.0;
    assert!(counts[2] + counts[3] <= most, "{counts:?}");
    assert_eq!(closed, 0);
}
