//! Each state that a backend can be in, as metrics, status and the log tell it.

use super::*;

fn is(backend: impl Display, state: &str) -> String {
    format!("lockgate_backend_state{{pool=\"a\",backend=\"ws://{backend}\",state=\"{state}\"}}")
}

#[tokio::test]
async fn up_down_warming_and_draining_are_told_everywhere() {
    let (mut one, other) = (Switch::off().await, Switch::on().await);
    let address = one.address;
    let more = "slow_start = \"2s\"\nhealth = { check = \"tcp\", interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 1 }";
    let lockgate = start(&pool("a", &[&address, &other.address], more)).await;
    let seen = async |word: &str| {
        until(&lockgate, &is(address, word), 1.0).await;
        let page = [
            is(address, "up"),
            is(address, "warming"),
            is(address, "draining"),
            is(address, "down"),
            is(address, "ejected"),
        ];
        let mut sum = 0.0;
        for series in page {
            sum += lockgate.metric(&series).await;
        }
        // It may have changed between the two, but never is it in none.
        assert!(sum > 0.0, "{word}");
    };
    seen("down").await;
    assert_eq!(state(&lockgate, "a").await.0, "down");
    one.turn_on().await;
    seen("warming").await;
    seen("up").await;
    let backend = format!("ws://{}", address);
    let drain = ["drain", "--backend", &backend];
    assert!(lockgate.tell(&drain).await.0);
    seen("draining").await;
    assert_eq!(state(&lockgate, "a").await.0, "draining");
    // A backend that was down for an hour is as empty as a new one.
    assert!(lockgate.tell(&[&drain[..], &["--undo"]].concat()).await.0);
    seen("warming").await;
    seen("up").await;
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
