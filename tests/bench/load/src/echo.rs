//! Sessions that send a message and wait for its echo: the next at once, or when its time has come.

use crate::{
    arguments::Arguments,
    control::{say, told},
    crowd,
    pace::pace,
    report::Report,
    session::{PATIENCE, Session},
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let sessions = crowd::open(arguments, "/").await?;
    let (sessions, warm) = round(sessions, arguments.warm, 0).await?;
    say("ready")?;
    told().await?;
    let began = Instant::now();
    let (_, mut report) = round(sessions, arguments.seconds, arguments.rate).await?;
    let seconds = began.elapsed();
    report.add_failures(warm);
    say(&report.json(seconds))
}

/// Gives back the sessions that did not fail.
async fn round(
    sessions: Vec<Session>,
    time: Duration,
    rate: u32,
) -> io::Result<(Vec<Session>, Report)> {
    let end = Instant::now() + time;
    let turns = (rate > 0).then(|| pace(rate, sessions.len(), end));
    let mut turns = turns.into_iter().flatten();
    let mut all = JoinSet::new();
    for mut session in sessions {
        let mut turns = turns.next();
        all.spawn(async move {
            let mut report = Report::default();
            loop {
                let began = match &mut turns {
                    None if Instant::now() >= end => break,
                    None => Instant::now(),
                    Some(turns) => match turns.recv().await {
                        Some(due) => due,
                        None => break,
                    },
                };
                if turns.is_some() {
                    report.late(began.elapsed());
                }
                // A deadline for each would cost more than it tells; the round has one.
                if let Err(error) = session.echo().await {
                    report.failed(error);
                    return (None, report);
                }
                report.done(began.elapsed());
            }
            (Some(session), report)
        });
    }
    let mut report = Report::default();
    let mut left = Vec::new();
    let whole = async {
        while let Some(one) = all.join_next().await {
            let (session, one) = one.map_err(io::Error::other)?;
            left.extend(session);
            report.add(one);
        }
        Ok(())
    };
    match timeout(time + PATIENCE, whole).await {
        Ok(result) => result.map(|()| (left, report)),
        Err(_) => Err(io::Error::other("an echo did not come in time")),
    }
}
