//! A clock that is months off, and is set right while Lockgate runs.

use super::fixture::{Rig, issued, until};
use crate::harness::Lockgate;
use std::fs;

async fn wrong_by(offset: &str, words: &str) {
    let rig = Rig::new().await;
    rig.prepare(&["a.test"]).await;
    let clock = rig.folder.path().join("clock");
    fs::write(&clock, offset).expect("writable");
    let library = fs::read_dir("/usr/lib")
        .expect("Linux")
        .filter_map(Result::ok);
    let library = library.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = library.into_iter().find(|library| library.exists());
    let library =
        library.expect("libfaketime is missing: run tests/run once, or apt-get install faketime");

    let setup = Lockgate::with_file(&rig.config(&["a.test", "b.test"], ""))
        .env("LD_PRELOAD", library.to_str().expect("UTF-8"))
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("UTF-8"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let lockgate = setup.start().await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        rig.leaf(host).await.expect("served throughout");
    }
    let row = until(&lockgate, "a.test", |row| row["error"].is_string()).await;
    assert!(
        row["error"]
            .as_str()
            .is_some_and(|error| error.contains(words)),
        "{row:#}"
    );
    assert!(lockgate.stderr().contains(words));
    assert_eq!(rig.pebble.orders(), 2);

    // `a.test` was not due, and is not now.
    fs::write(&clock, "+0").expect("writable");
    rig.pebble.set_ipv4("c.test", "127.0.0.1").await;
    for host in ["a.test", "b.test"] {
        rig.leaf(host).await.expect("served throughout");
    }
    assert_eq!(rig.pebble.orders(), 2);
}

#[tokio::test]
async fn eighty_days_ahead() {
    wrong_by("+80d", "clock is 80 days ahead of the CA's").await;
}

#[tokio::test]
async fn eighty_days_behind() {
    wrong_by("-80d", "clock is 80 days behind the CA's").await;
}
