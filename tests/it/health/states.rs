//! The states of a backend in metrics, status and log.

use super::*;

fn state_series(backend: impl Display, state: &str) -> String {
    format!("lockgate_backend_state{{pool=\"a\",backend=\"ws://{backend}\",state=\"{state}\"}}")
}

#[tokio::test]
async fn states_are_reported_in_metrics_status_and_log() {
    let (mut one, other) = (Switch::off().await, Switch::on().await);
    let address = one.address;
    let more = "slow_start = \"2s\"\nhealth = { check = \"tcp\", interval = \"100ms\", timeout = \"5s\", rise = 1, fall = 1 }";
    let lockgate = start(&pool("a", &[&address, &other.address], more)).await;
    let seen = async |word: &str| {
        until(&lockgate, &state_series(address, word), 1.0).await;
        let page = [
            state_series(address, "up"),
            state_series(address, "warming"),
            state_series(address, "draining"),
            state_series(address, "down"),
            state_series(address, "ejected"),
        ];
        let mut sum = 0.0;
        for series in page {
            sum += lockgate.metric(&series).await;
        }
        // The state may change in between, but one of the series is always 1.
        assert!(sum > 0.0, "{word}");
    };
    seen("down").await;
    assert_eq!(state(&lockgate, "a").await.0, "down");
    one.turn_on().await;
    seen("warming").await;
    seen("up").await;
    let backend = format!("ws://{}", address);
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.command(&drain).await.0);
    seen("draining").await;
    assert_eq!(state(&lockgate, "a").await.0, "draining");
    // After the end of a drain the backend is in slow start.
    assert!(
        lockgate
            .command(&[&drain[..], &["--undo"]].concat())
            .await
            .0
    );
    seen("warming").await;
    seen("up").await;
    eventually("the end of the second slow start in the log", async || {
        observe(lockgate.stderr(), |log| {
            log.matches("slow start ended").count() == 2
        })
    })
    .await;
    let log = lockgate.stderr();
    for (line, times) in [
        ("backend is down", 1),
        ("backend is up", 1),
        ("slow start began", 2),
        ("slow start ended", 2),
        ("drained by order", 1),
        ("drain undone by order", 1),
    ] {
        let lines = log.lines().filter(|it| it.contains(line));
        let about = lines.filter(|it| it.contains(&backend)).count();
        assert_eq!(about, times, "{line}: {log}");
    }
}
