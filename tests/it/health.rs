//! Backend health: checks, ejection after failed handshakes, and the effect on sessions.

mod checks;
mod client_faults;
mod flapping;
mod passive;
mod python;
mod reloads;
mod states;
mod switch;

use crate::harness::{Lockgate, Wire, eventually, handshake, observe};
use std::{fmt::Display, time::Duration};
use switch::Switch;
use tokio::time::sleep;

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"1s\"\n";

/// A pool called `name`, and a route of the host `name`.test to it.
fn pool(name: &str, backends: &[&dyn Display], more: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|it| format!("\"ws://{it}\"")).collect();
    let backends = backends.join(", ");
    format!(
        "[pools.{name}]\nbackends = [{backends}]\n{more}\n\
         [[routes]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\npool = \"{name}\"\norigins = [\"*\"]\n"
    )
}

async fn start(pools: &str) -> Lockgate {
    Lockgate::with_file(&format!("{HEAD}{pools}")).start().await
}

fn up(pool: &str, backend: impl Display) -> String {
    format!("lockgate_backend_up{{pool=\"{pool}\",backend=\"ws://{backend}\"}}")
}

fn transitions(pool: &str, backend: impl Display, to: &str) -> String {
    format!(
        "lockgate_backend_transitions_total{{pool=\"{pool}\",backend=\"ws://{backend}\",to=\"{to}\"}}"
    )
}

/// Waits until the series has this value.
#[track_caller]
fn until(lockgate: &Lockgate, series: &str, value: f64) -> impl Future<Output = ()> {
    eventually(format!("{series} {value}"), async move || {
        observe(lockgate.metric_or_zero(series).await, |it| *it == value).map(drop)
    })
}

/// Sends a handshake; returns the connection and the status of the response.
async fn try_session(lockgate: &Lockgate, host: &'static str) -> (Wire, u16) {
    let mut wire = lockgate.connect_as(host).await;
    let request = handshake("/", "").replace("Host: a.test", &format!("Host: {host}"));
    wire.send(request).await;
    let status = wire.head().await.status();
    (wire, status)
}

async fn session(lockgate: &Lockgate, host: &'static str) -> Wire {
    let (wire, status) = try_session(lockgate, host).await;
    assert_eq!(status, 101);
    wire
}

/// Returns the state of a pool's first backend from `lockgate status`, and the reason.
async fn state(lockgate: &Lockgate, pool: &str) -> (String, Option<String>) {
    let status = lockgate.status().await;
    let backends = status["backends"].as_array().expect("a list");
    let one = backends.iter().find(|one| one["pool"] == pool);
    let one = one.unwrap_or_else(|| panic!("no {pool}: {status:#}"));
    let text = |key: &str| one[key].as_str().map(str::to_owned);
    (text("state").expect("a word"), text("why"))
}
