//! A clock that is wrong by months and is corrected while Lockgate runs.

use super::fixture::{AcmeFixture, issued, until};
use crate::harness::Lockgate;
use std::fs;

async fn wrong_by(offset: &str, error: &str) {
    let fixture = AcmeFixture::new().await;
    fixture.prepare(&["a.test"]).await;
    let clock = fixture.folder.path().join("clock");
    fs::write(&clock, offset).expect("writable");
    let library = fs::read_dir("/usr/lib")
        .expect("Linux")
        .filter_map(Result::ok);
    let library = library.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = library.into_iter().find(|library| library.exists());
    let library =
        library.expect("libfaketime is missing: run tests/run once, or apt-get install faketime");

    let setup = Lockgate::with_file(&fixture.config(&["a.test", "b.test"], ""))
        .env("LD_PRELOAD", library.to_str().expect("UTF-8"))
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("UTF-8"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let lockgate = setup.start().await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        fixture.leaf(host).await.expect("served throughout");
    }
    let row = until(&lockgate, "a.test", |row| row["error"].is_string()).await;
    assert!(
        row["error"]
            .as_str()
            .is_some_and(|text| text.contains(error)),
        "{row:#}"
    );
    lockgate.until_logged(error).await;
    assert_eq!(fixture.pebble.orders(), 2);

    // `a.test` was not renewed because of the wrong clock.
    fs::write(&clock, "+0").expect("writable");
    fixture.pebble.set_ipv4("c.test", "127.0.0.1").await;
    for host in ["a.test", "b.test"] {
        fixture.leaf(host).await.expect("served throughout");
    }
    assert_eq!(fixture.pebble.orders(), 2);
}

#[tokio::test]
async fn clock_80_days_ahead_orders_no_renewal() {
    wrong_by("+80d", "clock is 80 days ahead of the CA's").await;
}

#[tokio::test]
async fn clock_80_days_behind_orders_no_renewal() {
    wrong_by("-80d", "clock is 80 days behind the CA's").await;
}
