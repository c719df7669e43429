//! TCP, TLS, the upgrade, one echo and the close, again and again.

use crate::{
    arguments::Arguments,
    control::{say, told},
    report::Report,
    session::Session,
    tls,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_rustls::rustls::ClientConfig;

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    // With tickets each client has its own, and gets the first ones while it warms up.
    let clients: Vec<_> = (0..arguments.sessions)
        .map(|_| tls::client(&arguments.cert, arguments.resume))
        .collect::<io::Result<_>>()?;
    round(&clients, arguments, arguments.warm, false).await;
    say("ready")?;
    told().await?;
    let began = Instant::now();
    let report = round(&clients, arguments, arguments.seconds, arguments.resume).await;
    say(&report.json(began.elapsed()))
}

async fn round(
    clients: &[Arc<ClientConfig>],
    arguments: &Arguments,
    time: Duration,
    resumed: bool,
) -> Report {
    let end = Instant::now() + time;
    let mut all = JoinSet::new();
    for tls in clients {
        let (tls, arguments) = (tls.clone(), arguments.clone());
        all.spawn(async move {
            let mut report = Report::default();
            while Instant::now() < end {
                let began = Instant::now();
                match once(tls.clone(), &arguments, resumed).await {
                    Ok(()) => report.done(began.elapsed()),
                    Err(error) => report.failed(error),
                }
            }
            report
        });
    }
    let mut report = Report::default();
    for one in all.join_all().await {
        report.add(one);
    }
    report
}

async fn once(tls: Arc<ClientConfig>, arguments: &Arguments, resumed: bool) -> io::Result<()> {
    let mut session = Session::open(tls, arguments, "/").await?;
    if resumed && !session.resumed() {
        return Err(io::Error::other("not resumed"));
    }
    session.echo().await?;
    session.close().await
}
