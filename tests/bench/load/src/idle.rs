//! Sessions that do nothing once each had its echo: held while the proxy's memory is read, then closed.

use crate::{
    arguments::Arguments,
    control::{say, told},
    crowd::{self, FEW},
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
const HELD: Duration = Duration::from_secs(600);

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let began = Instant::now();
    let (tell, over) = watch::channel(());
    let few = Arc::new(Semaphore::new(FEW));
    let mut all = JoinSet::new();
    for mut session in crowd::open(arguments, "/").await? {
        session.echo().await?;
        let (mut over, few) = (over.clone(), few.clone());
        all.spawn(async move {
            tokio::select! {
                ended = session.rest() => return ended.err(),
                _ = over.changed() => {}
            }
            let _turn = few.acquire().await;
            session.close().await.err()
        });
    }
    say("ready")?;
    tokio::time::timeout(HELD, told()).await??;
    tell.send_replace(());
    let mut report = Report::default();
    while let Some(one) = all.join_next().await {
        match one.map_err(io::Error::other)? {
            None => report.done(Duration::ZERO),
            Some(error) => report.failed(error),
        }
    }
    say(&report.json(began.elapsed()))
}
