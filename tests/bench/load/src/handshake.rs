//! Repeats TCP, TLS, the upgrade, one echo and the close; over HTTP/2 an extended CONNECT replaces the first three.

use crate::{
    arguments::Arguments,
    control::{print_line, wait_for_line},
    crowd,
    report::Report,
    session::{SESSION_TIMEOUT, Session},
    wire::Way,
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    // Each client gets its first tickets in the warm-up.
    let clients = crowd::ways(arguments).await?;
    round(&clients, arguments, arguments.warm, false).await;
    print_line("ready")?;
    wait_for_line().await?;
    let began = Instant::now();
    let report = round(&clients, arguments, arguments.seconds, arguments.resume).await;
    print_line(&report.json(began.elapsed()))
}

async fn round(clients: &[Way], arguments: &Arguments, time: Duration, resumed: bool) -> Report {
    let end = Instant::now() + time;
    let mut all = JoinSet::new();
    for way in clients {
        let (way, arguments) = (way.clone(), arguments.clone());
        all.spawn(async move {
            let mut report = Report::default();
            while Instant::now() < end {
                let began = Instant::now();
                match timeout(SESSION_TIMEOUT, once(&way, &arguments, resumed)).await {
                    Ok(Ok(())) => report.done(began.elapsed()),
                    Ok(Err(error)) => report.failed(error),
                    Err(_) => report.failed("timeout"),
                }
            }
            report
        });
    }
    let mut report = Report::default();
    for part in all.join_all().await {
        report.add(part);
    }
    report
}

async fn once(way: &Way, arguments: &Arguments, resumed: bool) -> io::Result<()> {
    let mut session = Session::open(way, arguments, "/").await?;
    if resumed && !session.resumed() {
        return Err(io::Error::other("not resumed"));
    }
    session.echo().await?;
    session.close().await
}
