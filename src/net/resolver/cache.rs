//! Addresses of names, kept for their TTL.
//!
//! A name that is in use is queried again in the background before its answer expires, so that a connection does not
//! wait for DNS. An expired answer is served if the new one is late or the query fails, within the bounds of RFC 8767;
//! a negative answer of a server replaces it. A name that was not used since its last query is not queried again.

use crate::{
    lifecycle::tasks::Tasks,
    net::resolver::{
        error::QueryError,
        exchange::DnsClient,
        search::{HostAnswer, RESOLUTION_DELAY},
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// The cache.
#[derive(Debug)]
pub(crate) struct NameCache {
    tasks: Tasks,
    names: Mutex<CachedNames>,
}

#[derive(Debug, Default)]
struct CachedNames {
    /// The client whose answers these are: other servers may have other answers.
    client: Option<Arc<DnsClient>>,
    by_name: HashMap<Box<str>, Arc<CachedName>>,
}

/// One name. At most one task queries it.
#[derive(Debug)]
struct CachedName {
    name: Box<str>,
    state: watch::Sender<NameState>,
    /// Wakes the task before its next query is due.
    due: Notify,
}

#[derive(Debug)]
struct NameState {
    answer: Option<CachedAnswer>,
    /// The error of the last query, if it failed, and when it was received.
    error: Option<(QueryError, Instant)>,
    /// Number of finished queries.
    queries: u64,
    /// Consecutive failed queries.
    failures: u32,
    /// Whether the task is running.
    is_running: bool,
    /// Whether the task has sent a query, rather than waiting until the next one is due.
    is_querying: bool,
    /// Whether the name was looked up since the last query began.
    is_used: bool,
    last_use: Instant,
    /// Whether the name has been removed from the cache.
    is_removed: bool,
}

#[derive(Debug)]
struct CachedAnswer {
    ips: Vec<IpAddr>,
    received: Instant,
    expires: Instant,
}

/// What a lookup does.
enum Step {
    Return(Result<Vec<IpAddr>, QueryError>),
    /// Waits for the running query, and serves the expired addresses if it takes longer.
    WaitUntil(Instant, Vec<IpAddr>),
    Wait,
    /// Queries by itself, because no further task may start.
    Query,
}

/// Marks the task of a name as ended if it is dropped before its end, and wakes the lookups that wait for it.
struct RunningGuard<'a>(Option<&'a CachedName>);

// === impl NameCache ===

impl NameCache {
    /// Creates an empty cache whose queries run as `tasks`.
    pub(crate) fn new(tasks: Tasks) -> Self {
        NameCache {
            tasks,
            names: Mutex::default(),
        }
    }

    /// Returns the addresses of `name`, at least one. Lookups of one name share a query.
    pub(crate) async fn lookup(
        &self,
        client: &Arc<DnsClient>,
        name: &str,
    ) -> Result<Vec<IpAddr>, QueryError> {
        let stop = self.tasks.stop_token();
        let cached = self.cached(client, name);
        let mut changes = cached.state.subscribe();
        let (step, queries, starts) = cached.begin_lookup(stop.is_cancelled());
        if starts {
            let (cached, client) = (cached.clone(), client.clone());
            let query = async move { cached.query_while_used(&client).await };
            self.tasks.spawn_until(stop, query);
        }
        let (end, expired) = match step {
            Step::Return(result) => return result,
            Step::WaitUntil(end, expired) => (end, Some(expired)),
            Step::Wait => (Instant::now(), None),
            Step::Query => return query_once(client, name).await,
        };
        let mut end = pin!(sleep_until(end));
        loop {
            tokio::select! {
                () = &mut end, if expired.is_some() => return Ok(expired.unwrap_or_default()),
                // The sender lives as long as `cached`.
                _ = changes.changed() => {
                    let state = changes.borrow_and_update();
                    if state.queries > queries {
                        return state.result();
                    }
                    if state.is_running {
                        continue;
                    }
                }
            }
            // The task has ended without a result, at shutdown.
            return query_once(client, name).await;
        }
    }

    /// Regards the answer for `name` as expired, because none of its addresses accepts a connection: the name may have
    /// moved. Has no effect on an answer that has just been received.
    pub(crate) fn expire(&self, name: &str) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = names.by_name.get(name) {
            cached.expire();
        }
    }

    /// Returns the entry of a name, which is created if it is missing.
    fn cached(&self, client: &Arc<DnsClient>, name: &str) -> Arc<CachedName> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !(names.client.as_ref()).is_some_and(|known| Arc::ptr_eq(known, client)) {
            names.client = Some(client.clone());
            names
                .by_name
                .drain()
                .for_each(|(_, cached)| cached.remove());
        }
        if let Some(cached) = names.by_name.get(name) {
            return cached.clone();
        }
        if names.by_name.len() >= MAX_NAMES {
            let oldest = names
                .by_name
                .iter()
                .min_by_key(|(_, cached)| cached.state.borrow().last_use);
            let oldest = oldest.map(|(name, _)| name.clone());
            if let Some(cached) = oldest.and_then(|name| names.by_name.remove(&name)) {
                cached.remove();
            }
        }
        let cached = Arc::new(CachedName::new(name));
        names.by_name.insert(name.into(), cached.clone());
        cached
    }
}

// === impl CachedName ===

impl CachedName {
    fn new(name: &str) -> Self {
        let state = NameState {
            answer: None,
            error: None,
            queries: 0,
            failures: 0,
            is_running: false,
            is_querying: false,
            is_used: false,
            last_use: Instant::now(),
            is_removed: false,
        };
        CachedName {
            name: name.into(),
            state: watch::Sender::new(state),
            due: Notify::new(),
        }
    }

    /// Changes the state without waking the lookups that wait.
    fn update<T>(&self, change: impl FnOnce(&mut NameState) -> T) -> T {
        let mut result = None;
        self.state.send_if_modified(|state| {
            result = Some(change(state));
            false
        });
        result.expect("the closure is called")
    }

    /// Marks the name as used. Returns what the lookup does, the number of finished queries, and whether it starts the
    /// task.
    fn begin_lookup(&self, is_stopping: bool) -> (Step, u64, bool) {
        let now = Instant::now();
        self.update(|state| {
            state.is_used = true;
            state.last_use = now;
            let step = state.step(now);
            if state.is_fresh(now) || matches!(step, Step::Return(Err(_))) {
                return (step, state.queries, false);
            }
            let starts = !state.is_running && !is_stopping;
            state.is_running |= starts;
            if !state.is_running && matches!(step, Step::Wait) {
                return (Step::Query, state.queries, false);
            }
            if !starts && !state.is_querying && state.failures == 0 {
                // The answer has expired earlier than the task expects.
                self.due.notify_one();
            }
            (step, state.queries, starts)
        })
    }

    /// Queries the name, and again when its answer expires, as long as it is used.
    async fn query_while_used(&self, client: &Arc<DnsClient>) {
        let mut running = RunningGuard(Some(self));
        loop {
            self.update(|state| (state.is_used, state.is_querying) = (false, true));
            let result = HostAnswer::query(client, &self.name, RESOLUTION_DELAY).await;
            let delay = self.publish(client, &result);
            let mut answer = result.ok();
            let begun = Instant::now();
            while let Some(left) = delay {
                let completed = async {
                    match &mut answer {
                        Some(answer) => answer.completed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = sleep_until(begun + left) => break,
                    () = self.due.notified() => break,
                    () = completed => {}
                }
                if let Some(answer) = &answer {
                    self.replace(client, answer);
                }
            }
            if delay.is_none() || self.ends() {
                running.0 = None;
                return;
            }
        }
    }

    /// Records the result of a query and wakes the lookups that wait for it. Returns the time until the next query;
    /// `None`: the name is queried when it is looked up again.
    fn publish(
        &self,
        client: &DnsClient,
        result: &Result<HostAnswer, QueryError>,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut delay = None;
        self.state.send_modify(|state| {
            state.queries += 1;
            state.is_querying = false;
            match result {
                Ok(answer) => {
                    let ttl = cached_ttl(client, answer.ttl());
                    state.answer = Some(CachedAnswer {
                        ips: answer.ips(),
                        received: now,
                        expires: now + ttl,
                    });
                    (state.error, state.failures) = (None, 0);
                    delay = Some((ttl - ttl / 10).max(MIN_QUERY_INTERVAL));
                }
                Err(error) => {
                    if error.is_negative() {
                        state.answer = None;
                    }
                    state.error = Some((error.clone(), now));
                    state.failures = state.failures.saturating_add(1);
                    if state.expired_ips(now).is_some() {
                        let backoff = 2_u32.saturating_pow(state.failures.min(10) - 1);
                        delay = Some(RETRY_DELAY.min(MIN_QUERY_INTERVAL * backoff));
                    }
                }
            }
            if delay.is_none() {
                state.is_running = false;
            }
        });
        delay
    }

    /// Adds the addresses of the family that was late.
    fn replace(&self, client: &DnsClient, answer: &HostAnswer) {
        self.update(|state| {
            if let Some(cached) = &mut state.answer {
                cached.ips = answer.ips();
                let ttl = cached_ttl(client, answer.ttl());
                cached.expires = cached.expires.min(cached.received + ttl);
            }
        });
    }

    /// Returns whether the task ends, because the name was not used since its last query or is no longer in the cache.
    fn ends(&self) -> bool {
        self.update(|state| {
            let ends = !state.is_used || state.is_removed;
            state.is_running &= !ends;
            ends
        })
    }

    fn expire(&self) {
        let now = Instant::now();
        self.update(|state| {
            if let Some(answer) = &mut state.answer
                && now >= answer.received + MIN_QUERY_INTERVAL
            {
                answer.expires = answer.expires.min(now);
            }
        });
    }

    fn remove(&self) {
        self.update(|state| state.is_removed = true);
        self.due.notify_one();
    }
}

// === impl NameState ===

impl NameState {
    fn step(&self, now: Instant) -> Step {
        if let Some(answer) = &self.answer
            && self.is_fresh(now)
        {
            return Step::Return(Ok(answer.ips.clone()));
        }
        if let Some(ips) = self.expired_ips(now) {
            // The servers are known to fail: RFC 8767 §5, failure recheck timer.
            let has_failed = self.error.as_ref();
            if has_failed.is_some_and(|(_, at)| now < *at + RETRY_DELAY) {
                return Step::Return(Ok(ips));
            }
            return Step::WaitUntil(now + STALE_DELAY, ips);
        }
        match &self.error {
            Some((error, at)) if now < *at + negative_ttl(error) => {
                Step::Return(Err(error.clone()))
            }
            _ => Step::Wait,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| now < answer.expires)
    }

    /// Returns the addresses, expired or not, unless they are too old to be served.
    fn expired_ips(&self, now: Instant) -> Option<Vec<IpAddr>> {
        let answer = self.answer.as_ref();
        let answer = answer.filter(|answer| now < answer.expires + MAX_STALE)?;
        Some(answer.ips.clone())
    }

    /// Returns the result of the last query, or the addresses of an earlier one if it failed.
    fn result(&self) -> Result<Vec<IpAddr>, QueryError> {
        match (self.expired_ips(Instant::now()), &self.error) {
            (Some(ips), _) => Ok(ips),
            (None, Some((error, _))) => Err(error.clone()),
            (None, None) => Err(QueryError::Timeout),
        }
    }
}

// === impl RunningGuard ===

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        if let Some(cached) = self.0 {
            cached.state.send_modify(|state| state.is_running = false);
        }
    }
}

/// Returns the addresses without the cache.
async fn query_once(client: &Arc<DnsClient>, name: &str) -> Result<Vec<IpAddr>, QueryError> {
    let answer = HostAnswer::query(client, name, RESOLUTION_DELAY).await?;
    Ok(answer.ips())
}

/// Returns how long an answer is valid in the cache.
fn cached_ttl(client: &DnsClient, ttl: Duration) -> Duration {
    let is_docker = client
        .conf()
        .servers
        .iter()
        .all(|server| server.ip() == DOCKER_SERVER);
    ttl.min(if is_docker { MAX_DOCKER_TTL } else { MAX_TTL })
}

fn negative_ttl(error: &QueryError) -> Duration {
    error
        .negative_ttl()
        .unwrap_or_default()
        .min(MAX_NEGATIVE_TTL)
}

/// The maximum time for which an answer is valid, however long its TTL is: addresses of backends move more often than
/// the servers of private networks promise. Kubernetes has this TTL.
const MAX_TTL: Duration = Duration::from_secs(30);

/// The DNS server of Docker. It sends ten minutes for addresses that change with each restart of a container, and
/// another container may receive the address.
const DOCKER_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

const MAX_DOCKER_TTL: Duration = Duration::from_secs(2);

/// The maximum time for which a name is regarded as missing. glibc queries it each time.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(2);

/// How long an expired answer may be served (RFC 8767 §5: one to three days).
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// How long a lookup waits for a new answer before it uses the expired one.
const STALE_DELAY: Duration = Duration::from_millis(50);

/// The minimum interval between two queries in the background. Doubles with each failure.
const MIN_QUERY_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum interval between queries after failures, and the time in which no lookup waits for them (RFC 8767 §5).
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Maximum number of names; the one that was not used for the longest time is removed.
const MAX_NAMES: usize = 1024;
