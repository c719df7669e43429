//! One direction: the backend sends as fast as its client reads, and the clients check the messages.

use crate::{
    arguments::Arguments,
    control::{print_line, wait_for_line},
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
    print_line("ready")?;
    wait_for_line().await?;
    let began = Instant::now();
    for session in &mut sessions {
        session.start_push().await?;
    }
    let mut all = JoinSet::new();
    for session in sessions {
        all.spawn(receive(session, began + arguments.seconds));
    }
    let mut report = Report::default();
    for part in all.join_all().await {
        report.add(part);
    }
    print_line(&report.json(began.elapsed()))
}

/// Counts messages only; the latency of one depends on the messages queued before it.
async fn receive(mut session: Session, end: Instant) -> Report {
    let mut report = Report::default();
    let received = async {
        loop {
            if let Err(error) = session.receive_pushed().await {
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
