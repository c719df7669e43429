//! Sessions that send a message and wait for its echo. The next message follows at once, or on a schedule.

use crate::{
    arguments::Arguments,
    control::{print_line, wait_for_line},
    crowd,
    pace::pace,
    report::Report,
    session::{SESSION_TIMEOUT, Session},
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let sessions = crowd::open(arguments, "/").await?;
    let (sessions, warm) = round(sessions, arguments.warm, 0).await?;
    print_line("ready")?;
    wait_for_line().await?;
    let began = Instant::now();
    let (_, mut report) = round(sessions, arguments.seconds, arguments.rate).await?;
    let seconds = began.elapsed();
    report.add_failures(warm);
    print_line(&report.json(seconds))
}

/// Runs one round. Returns the sessions that did not fail.
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
                // The round has one deadline; one for each message would distort the measurement.
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
    let joined = async {
        while let Some(result) = all.join_next().await {
            let (session, part) = result.map_err(io::Error::other)?;
            left.extend(session);
            report.add(part);
        }
        Ok(())
    };
    match timeout(time + SESSION_TIMEOUT, joined).await {
        Ok(result) => result.map(|()| (left, report)),
        Err(_) => Err(io::Error::other("no echo in time")),
    }
}
