//! Sessions that are idle after one echo: held while the memory of the proxy is measured, then closed.

use crate::{
    arguments::Arguments,
    control::{print_line, wait_for_line},
    crowd::{self, MAX_CONCURRENT},
    report::Report,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// The maximum time that sessions are held.
const MAX_HOLD: Duration = Duration::from_secs(600);

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let began = Instant::now();
    let (stop, stopped) = watch::channel(());
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut all = JoinSet::new();
    for mut session in crowd::open(arguments, "/").await? {
        session.echo().await?;
        let (mut stopped, permits) = (stopped.clone(), permits.clone());
        all.spawn(async move {
            tokio::select! {
                ended = session.answer_pings() => return ended.err(),
                _ = stopped.changed() => {}
            }
            let _permit = permits.acquire().await;
            session.close().await.err()
        });
    }
    print_line("ready")?;
    tokio::time::timeout(MAX_HOLD, wait_for_line()).await??;
    stop.send_replace(());
    let mut report = Report::default();
    while let Some(result) = all.join_next().await {
        match result.map_err(io::Error::other)? {
            None => report.done(Duration::ZERO),
            Some(error) => report.failed(error),
        }
    }
    print_line(&report.json(began.elapsed()))
}
