//! One way: the backend sends as fast as it is taken, the clients check what comes.

use crate::{
    arguments::Arguments,
    control::{say, told},
    crowd,
    report::Report,
    session::Session,
};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout_at};

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let mut sessions = crowd::open(arguments, &format!("/push/{}", arguments.size)).await?;
    say("ready")?;
    told().await?;
    let began = Instant::now();
    for session in &mut sessions {
        session.ask().await?;
    }
    let mut all = JoinSet::new();
    for session in sessions {
        all.spawn(receive(session, began + arguments.seconds));
    }
    let mut report = Report::default();
    for one in all.join_all().await {
        report.add(one);
    }
    say(&report.json(began.elapsed()))
}

/// Counts messages only; how long one is under way depends on how many wait before it.
async fn receive(mut session: Session, end: Instant) -> Report {
    let mut report = Report::default();
    let received = async {
        loop {
            if let Err(error) = session.pushed().await {
                return error;
            }
            report.done(Duration::ZERO);
        }
    };
    if let Ok(error) = timeout_at(end.into(), received).await {
        report.failed(error);
    }
    report
}
