//! DNS queries for the names in pools. A name is queried as long as the current configuration contains it.

use crate::{
    config::DnsName,
    http::context::Context,
    lifecycle::command::NameStatus,
    net::{
        dns::DnsAnswer,
        resolver::{ResolveError, Resolver, search::RESOLUTION_DELAY},
    },
    observe::logging::ErrorChain,
    registry::SessionTarget,
    server::{
        drain::{DrainPacing, Drains},
        tasks::health::HealthTasks,
    },
    upstream::backend::Backend,
};
use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

/// The queried names with their last answers.
#[derive(Debug)]
pub(crate) struct DnsTasks {
    context: Arc<Context>,
    drains: Drains,
    names: BTreeMap<DnsName, TrackedName>,
    /// Cloned for the task of each name.
    sender: mpsc::Sender<DnsUpdate>,
    receiver: mpsc::Receiver<DnsUpdate>,
}

#[derive(Debug)]
struct TrackedName {
    /// The maximum interval between queries; dropping it ends the queries.
    max_interval: watch::Sender<Duration>,
    /// The answer of the last successful query.
    answer: Option<DnsAnswer>,
    /// Why the last query failed or its answer is incomplete.
    error: Option<String>,
}

/// The result of one query: the answer for a name, or the error.
#[derive(Debug)]
pub(crate) struct DnsUpdate {
    name: DnsName,
    result: Result<DnsAnswer, QueryError>,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("no answer within {QUERY_TIMEOUT:?}")]
    Timeout,
}

// === impl DnsTasks ===

impl DnsTasks {
    /// Creates the tasks; none runs before the first refresh.
    pub(crate) fn new(context: Arc<Context>, drains: Drains) -> Self {
        let (sender, receiver) = mpsc::channel(UPDATE_QUEUE_LEN);
        DnsTasks {
            context,
            drains,
            names: BTreeMap::new(),
            sender,
            receiver,
        }
    }

    /// Waits for the next result. Cancel-safe.
    pub(crate) async fn next_update(&mut self) -> DnsUpdate {
        let update = self.receiver.recv().await;
        update.expect("`self` holds a sender")
    }

    /// Returns the status of each name.
    pub(crate) fn status(&self) -> Vec<NameStatus> {
        let status = |(name, tracked): (&DnsName, &TrackedName)| NameStatus {
            name: name.to_string(),
            error: tracked.error.clone(),
        };
        self.names.iter().map(status).collect()
    }

    /// Starts and ends tasks so that each name of the current gateway is queried. The last result of a name that stays
    /// is applied at once, for pools that contain the name since this reload.
    pub(crate) fn refresh(&mut self) {
        let gateway = self.context.live.snapshot();
        let mut names = gateway.dns_names();
        self.names.retain(|name, tracked| {
            let Some(max_interval) = names.remove(name) else {
                return false;
            };
            tracked.max_interval.send_replace(max_interval);
            if tracked.answer.is_some() || tracked.error.is_some() {
                gateway.apply_dns_answer(name, tracked.answer.as_ref());
            }
            true
        });
        for (name, max_interval) in names {
            let (interval_sender, max_interval) = watch::channel(max_interval);
            let (resolver, sender) = (self.context.resolver.clone(), self.sender.clone());
            let (queried, tasks) = (name.clone(), &self.context.tasks);
            tasks.spawn_loop("dns", tasks.stop_token(), move || {
                let (queried, max_interval) = (queried.clone(), max_interval.clone());
                let (resolver, sender) = (resolver.clone(), sender.clone());
                async move { query_periodically(queried, max_interval, &resolver, sender).await }
            });
            let tracked = TrackedName {
                max_interval: interval_sender,
                answer: None,
                error: None,
            };
            self.names.insert(name, tracked);
        }
    }

    /// Applies the result of a query to the pools, and closes the sessions that may not stay on a removed backend.
    /// `health_tasks` then check the added backends.
    pub(crate) fn apply(&mut self, update: DnsUpdate, health_tasks: &mut HealthTasks) {
        let DnsUpdate { name, result } = update;
        let Some(tracked) = self.names.get_mut(&name) else {
            return;
        };
        let outcome = if result.is_ok() { "answered" } else { "failed" };
        self.context.metrics.count_dns_answer(outcome);
        let (answer, error) = match result {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(ErrorChain(&error).to_string())),
        };
        let error = error.or_else(|| incompleteness(answer.as_ref()?));
        match (&error, &tracked.error) {
            (Some(error), None) => {
                warn!(%name, %error, "DNS lookup failed or incomplete; keeping current backends");
            }
            (None, Some(_)) => info!(%name, "DNS lookup has recovered"),
            _ => {}
        }
        tracked.error = error;
        if answer.is_some() {
            tracked.answer.clone_from(&answer);
        }
        let gateway = self.context.live.snapshot();
        let change = gateway.apply_dns_answer(&name, answer.as_ref());
        if !change.added.is_empty() || !change.removed.is_empty() {
            let (added, removed) = (backend_names(&change.added), backend_names(&change.removed));
            info!(%name, %added, %removed, "DNS has changed the backends of a name");
            health_tasks.refresh();
        } else if !change.first {
            return;
        }
        let leaving = self.context.sessions.matching(|session| {
            let mut removed = change.removed.iter();
            let is_affected =
                change.first || removed.any(|backend| *backend.name() == session.backend);
            is_affected && !gateway.may_keep(session)
        });
        let context = self.context.clone();
        let must_close = move |session: &SessionTarget| !context.live.snapshot().may_keep(session);
        let pacing = DrainPacing::of(&gateway.drain);
        self.drains
            .close(leaving, pacing, must_close, &self.context.tasks);
    }
}

/// Queries until either channel is closed: again when the answer has expired, and at least every `max_interval`.
async fn query_periodically(
    name: DnsName,
    mut max_interval: watch::Receiver<Duration>,
    resolver: &Resolver,
    sender: mpsc::Sender<DnsUpdate>,
) {
    let mut failures = 0;
    // Clients may wait for the first answer. A later one can wait for its second family, so that it is complete.
    let mut delay = RESOLUTION_DELAY;
    loop {
        let query = resolver.discover((&name).into(), delay);
        let result = match timeout(QUERY_TIMEOUT, query).await {
            Ok(result) => result.map_err(QueryError::from),
            Err(_) => Err(QueryError::Timeout),
        };
        failures = if result.is_ok() { 0 } else { failures + 1 };
        let valid_for = match &result {
            Ok(answer) if !answer.complete && delay == RESOLUTION_DELAY => MIN_QUERY_INTERVAL,
            Ok(answer) => answer.ttl.unwrap_or(Duration::MAX).max(MIN_QUERY_INTERVAL),
            Err(_) => MIN_QUERY_INTERVAL * 2_u32.pow(failures.min(10) - 1),
        };
        if result.is_ok() {
            delay = FAMILY_DELAY;
        }
        let now = Instant::now();
        let update = DnsUpdate {
            name: name.clone(),
            result,
        };
        if sender.send(update).await.is_err() {
            return;
        }
        loop {
            let delay = valid_for.min(max_interval.borrow_and_update().max(MIN_QUERY_INTERVAL));
            let mut delay = pin!(sleep_until(now + delay));
            tokio::select! {
                () = &mut delay => break,
                changed = max_interval.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Returns why an answer is incomplete, if it is.
fn incompleteness(answer: &DnsAnswer) -> Option<String> {
    match (answer.complete, answer.truncated) {
        (false, _) if answer.silent.is_some() => {
            Some("one IP version was not answered: no backend of it is removed".into())
        }
        (false, _) => Some("a part of the answer failed: no backend is removed".into()),
        (true, 0) => None,
        (true, excess) => Some(format!("{excess} backends beyond the limit are left out")),
    }
}

fn backend_names(backends: &[Arc<Backend>]) -> String {
    let names: Vec<&str> = backends.iter().map(|backend| &**backend.name()).collect();
    names.join(", ")
}

/// Results that are queued for the server.
const UPDATE_QUEUE_LEN: usize = 16;

/// The timeout of one query, including the retries and servers of `/etc/resolv.conf`.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an answer waits for its second family of addresses. Less than [`QUERY_TIMEOUT`].
const FAMILY_DELAY: Duration = Duration::from_secs(5);

/// The minimum interval between two queries, even if answers expire earlier. Doubles with each failure.
const MIN_QUERY_INTERVAL: Duration = Duration::from_secs(1);
