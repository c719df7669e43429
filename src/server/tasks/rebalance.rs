//! Rebalancing: after a pool has gained a backend or one has recovered, the excess sessions of the other backends are
//! closed as by a drain, so that the reconnecting clients spread over all backends.
//!
//! Each pool with rebalancing has a task that polls the load once per second. The excess is computed once after each
//! growth: clients that were closed and have not reconnected yet would otherwise make every share look smaller than it
//! is.

use crate::{
    http::context::Context,
    registry::{SessionRef, SessionTarget},
    server::drain::{DrainPacing, Drains},
    upstream::{fair_share::LoadShare, pool::Pool},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::DropGuard;
use tracing::info;

/// The rebalancing tasks, one for each pool of the current gateway with rebalancing.
#[derive(Debug)]
pub(crate) struct Rebalancer {
    context: Arc<Context>,
    drains: Drains,
    /// By pool name and gap; a task ends when its guard is dropped.
    tasks: HashMap<(Arc<str>, Duration), DropGuard>,
}

/// The rebalancing task of one pool.
struct RebalanceTask {
    context: Arc<Context>,
    drains: Drains,
    pool: Arc<str>,
    /// Time between two closes.
    gap: Duration,
}

/// Detects that a pool has gained a backend that can accept sessions, and that the pool has been stable since.
#[derive(Debug, Default)]
struct GrowthDetector {
    /// Backends with the number of their slow start: a backend that was absent between two observations counts as new.
    seen: HashSet<(Arc<str>, u64)>,
    /// If rebalancing is due: the start of the settling time.
    stable_since: Option<Instant>,
}

/// The excess sessions of a pool's backends, from their load shares at one moment.
#[derive(Debug, Clone)]
struct ExcessSessions(Arc<HashMap<Arc<str>, LoadShare>>);

// === impl Rebalancer ===

impl Rebalancer {
    pub(crate) fn new(context: Arc<Context>, drains: Drains) -> Self {
        Rebalancer {
            context,
            drains,
            tasks: HashMap::new(),
        }
    }

    /// Starts a task for each pool of the current gateway with rebalancing, and ends the tasks of all other pools.
    pub(crate) fn refresh(&mut self) {
        let gateway = self.context.live.snapshot();
        let enabled = |pool: &Arc<Pool>| Some((pool.name().clone(), pool.rebalance()?));
        let enabled: HashSet<_> = gateway.pools().filter_map(enabled).collect();
        self.tasks.retain(|key, _| enabled.contains(key));
        for (pool, gap) in enabled {
            let task = RebalanceTask {
                context: self.context.clone(),
                drains: self.drains.clone(),
                pool: pool.clone(),
                gap,
            };
            let running = self.tasks.entry((pool, gap));
            running.or_insert_with(|| task.start());
        }
    }

    /// Ends all tasks.
    pub(crate) fn stop(&mut self) {
        self.tasks.clear();
    }
}

// === impl RebalanceTask ===

impl RebalanceTask {
    fn start(self) -> DropGuard {
        let tasks = self.context.tasks.clone();
        let stop = tasks.stop_token();
        let task = Arc::new(self);
        tasks.spawn_loop("rebalance", stop.clone(), move || task.clone().run());
        stop.drop_guard()
    }

    async fn run(self: Arc<Self>) {
        let mut growth = GrowthDetector::default();
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let shares = self.load_shares();
            growth.observe(&shares, now);
            if !growth.take_settled(now) {
                continue;
            }
            let excess = ExcessSessions::new(shares);
            let mut closing = pin!(self.close(&excess));
            loop {
                tokio::select! {
                    () = &mut closing => break,
                    now = ticks.tick() => {
                        let shares = self.load_shares();
                        growth.observe(&shares, now);
                        if !excess.is_current(&shares) {
                            growth.schedule(now);
                            break;
                        }
                    }
                }
            }
            growth.reset(Instant::now());
        }
    }

    /// Returns the load shares of the pool; empty if a reload has removed its rebalancing, which also ends this task.
    fn load_shares(&self) -> Vec<LoadShare> {
        let gateway = self.context.live.snapshot();
        let pool = gateway.rebalancing_pool(&self.pool);
        pool.map_or_else(Vec::new, |pool| pool.load_shares(Instant::now()))
    }

    /// Closes the excess sessions one by one. Completes when the last one has its close order.
    fn close(&self, excess: &ExcessSessions) -> impl Future<Output = ()> + use<> {
        let gateway = self.context.live.snapshot();
        let candidates = gateway.rebalancing_pool(&self.pool).map(|pool| {
            self.context.sessions.matching(|session| {
                excess.has_excess(&session.backend) && gateway.uses_pool(pool, session)
            })
        });
        let leaving = excess.select(candidates.unwrap_or_default());
        if !leaving.is_empty() {
            info!(pool = %self.pool, closing = leaving.len(), from = %counts_by_backend(&leaving), "closing sessions to rebalance the pool");
        }
        let pacing = DrainPacing {
            window: Duration::ZERO,
            gap: self.gap,
            code: gateway.drain.code,
        };
        let (context, pool, excess) = (self.context.clone(), self.pool.clone(), excess.clone());
        let must_close = move |session: &SessionTarget| {
            let gateway = context.live.snapshot();
            gateway.rebalancing_pool(&pool).is_some_and(|pool| {
                let now = pool.load_shares(Instant::now());
                gateway.uses_pool(pool, session)
                    && excess.is_current(&now)
                    && excess.still_has_excess(&session.backend, &now)
            })
        };
        self.drains.closing(leaving, pacing, must_close)
    }
}

// === impl GrowthDetector ===

impl GrowthDetector {
    /// Records the backends of the pool and schedules rebalancing if one is new. On the first observation every backend
    /// is new, because the pool may already be uneven.
    fn observe(&mut self, shares: &[LoadShare], now: Instant) {
        let names = shares.iter().map(|it| (it.backend.clone(), it.generation));
        let before = std::mem::replace(&mut self.seen, names.collect());
        let has_grown = !self.seen.is_subset(&before);
        // A backend in slow start does not get its full share: closed sessions would return to the backends they came
        // from.
        let is_warming = shares.iter().any(|it| it.warming);
        if has_grown || is_warming && self.stable_since.is_some() {
            self.schedule(now);
        }
    }

    /// Schedules rebalancing and restarts the settling time.
    fn schedule(&mut self, now: Instant) {
        self.stable_since = Some(now);
    }

    /// Returns true once if rebalancing is due and the settling time has passed.
    fn take_settled(&mut self, now: Instant) -> bool {
        let has_settled = |since: &Instant| now.saturating_duration_since(*since) >= SETTLING_TIME;
        self.stable_since
            .take_if(|since| has_settled(since))
            .is_some()
    }

    /// Restarts the settling time, if rebalancing is due.
    fn reset(&mut self, now: Instant) {
        self.stable_since = self.stable_since.map(|_| now);
    }
}

// === impl ExcessSessions ===

impl ExcessSessions {
    fn new(shares: Vec<LoadShare>) -> Self {
        let named = shares.into_iter().map(|it| (it.backend.clone(), it));
        ExcessSessions(Arc::new(named.collect()))
    }

    /// Returns whether this backend had more sessions than its share.
    fn has_excess(&self, backend: &str) -> bool {
        self.0.get(backend).is_some_and(|it| it.surplus() > 0)
    }

    /// Returns the sessions to close: of each backend, the number that exceeds its share.
    fn select(&self, mut sessions: Vec<SessionRef>) -> Vec<SessionRef> {
        let mut remaining: HashMap<&str, u64> =
            self.0.iter().map(|(k, it)| (&**k, it.surplus())).collect();
        sessions.retain(
            |session| match remaining.get_mut(&*session.target().backend) {
                Some(remaining @ 1..) => {
                    *remaining -= 1;
                    true
                }
                _ => false,
            },
        );
        sessions
    }

    /// Returns whether each of the backends still accepts sessions. Otherwise the shares are too small by now.
    fn is_current(&self, now: &[LoadShare]) -> bool {
        let known = now.iter().filter(|it| self.0.contains_key(&it.backend));
        known.count() == self.0.len()
    }

    /// Returns whether this backend still has more sessions than its share. The larger of the two shares counts: the
    /// current one is too small while closed clients reconnect, the earlier one is too small if sessions have been
    /// added.
    fn still_has_excess(&self, backend: &str, now: &[LoadShare]) -> bool {
        let then = self.0.get(backend);
        let now = now.iter().find(|it| *it.backend == *backend);
        then.zip(now)
            .is_some_and(|(then, now)| now.leases > then.share.max(now.share))
    }
}

/// Formats the number of sessions per backend as a log field.
fn counts_by_backend(sessions: &[SessionRef]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for session in sessions {
        *counts.entry(&session.target().backend).or_default() += 1;
    }
    let entries = counts
        .iter()
        .map(|(backend, count)| format!("{backend}: {count}"));
    entries.collect::<Vec<_>>().join(", ")
}

/// How often the load of a pool is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Enough for a first health check and for handshakes in progress.
const SETTLING_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{SessionHandle, SessionRegistry};

    fn shares(names: &str, warming: bool) -> Vec<LoadShare> {
        let share = |name: char| LoadShare {
            backend: name.to_string().into(),
            generation: 0,
            leases: 0,
            share: 0,
            warming,
        };
        names.chars().map(share).collect()
    }

    /// Observes one entry per second and returns the seconds at which the pool had settled. A capital letter: the pool
    /// is in slow start.
    fn settled(observations: &[&str]) -> Vec<usize> {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let mut settled = vec![];
        for (second, names) in observations.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            let warming = names.chars().any(char::is_uppercase);
            growth.observe(&shares(&names.to_lowercase(), warming), now);
            if growth.take_settled(now) {
                settled.push(second);
            }
        }
        settled
    }

    #[test]
    fn pool_settles_two_seconds_after_each_growth() {
        assert_eq!(settled(&["a", "a", "a", "a", "a", "a"]), [2]);
        assert_eq!(settled(&["a", "a", "a", "ab", "ab", "ab", "ab"]), [2, 5]);
        // Losing a backend is no growth; its return is.
        let observations = ["ab", "ab", "ab", "a", "a", "a", "ab", "ab", "ab", "ab"];
        assert_eq!(settled(&observations), [2, 8]);
        // One backend replaces another.
        assert_eq!(settled(&["a", "a", "a", "b", "b", "b", "b"]), [2, 5]);
        assert_eq!(settled(&["a", "ab", "abc", "abc", "abc", "abc"]), [4]);
        assert_eq!(settled(&["", "", "", ""]), Vec::<usize>::new());
    }

    #[test]
    fn backend_with_a_new_slow_start_counts_as_growth() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let mut both = shares("ab", false);
        growth.observe(&both, at(0));
        assert!(growth.take_settled(at(2)));
        both[1].generation = 1;
        growth.observe(&both, at(3));
        assert!(!growth.take_settled(at(4)) && growth.take_settled(at(5)));
    }

    #[test]
    fn slow_start_delays_settling() {
        let observations = ["a", "a", "a", "AB", "AB", "AB", "AB", "ab", "ab", "ab"];
        assert_eq!(settled(&observations), [2, 8]);
        // Slow start without growth schedules no rebalancing.
        assert_eq!(settled(&["a", "a", "a", "A", "A", "A", "a", "a", "a"]), [2]);
    }

    #[test]
    fn growth_during_rebalancing_settles_afterwards() {
        let (mut growth, start) = (GrowthDetector::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        growth.observe(&shares("a", false), at(0));
        assert!(growth.take_settled(at(2)));
        growth.reset(at(3));
        assert!(!growth.take_settled(at(9)));
        growth.observe(&shares("ab", false), at(10));
        growth.reset(at(15));
        assert!(!growth.take_settled(at(16)));
        assert!(growth.take_settled(at(17)));
    }

    fn share(backend: &str, leases: u64, share: u64) -> LoadShare {
        LoadShare {
            backend: backend.into(),
            generation: 0,
            leases,
            share,
            warming: false,
        }
    }

    #[test]
    fn select_returns_each_backends_excess() {
        let sessions = Arc::new(SessionRegistry::default());
        let open = |backend: &str| {
            sessions.open(SessionTarget {
                route: "r".into(),
                backend: backend.into(),
                pool_entry: backend.into(),
            })
        };
        let _open: Vec<SessionHandle> = [("a", 100), ("b", 80), ("c", 5), ("d", 3)]
            .into_iter()
            .flat_map(|(backend, count)| (0..count).map(move |_| backend))
            .map(open)
            .collect();
        // The other leases of "d" are requests.
        let excess = ExcessSessions::new(vec![
            share("a", 100, 47),
            share("b", 50, 47),
            share("c", 0, 47),
            share("d", 60, 47),
        ]);
        assert!(excess.has_excess("a") && !excess.has_excess("b") && !excess.has_excess("e"));
        let selected = excess.select(sessions.matching(|_| true));
        assert_eq!(counts_by_backend(&selected), "a: 53, d: 3");
    }

    #[test]
    fn excess_ends_at_the_share_and_is_not_current_without_a_backend() {
        let excess = ExcessSessions::new(vec![share("a", 100, 50), share("b", 0, 50)]);
        let now = |a: (u64, u64), b: (u64, u64)| [share("a", a.0, a.1), share("b", b.0, b.1)];
        // No closed client has reconnected.
        assert!(excess.still_has_excess("a", &now((51, 26), (0, 26))));
        assert!(!excess.still_has_excess("a", &now((50, 25), (0, 25))));
        // Other clients have connected.
        assert!(!excess.still_has_excess("a", &now((60, 80), (100, 80))));
        assert!(excess.is_current(&now((1, 1), (1, 1))));
        assert!(!excess.is_current(&[share("a", 100, 100), share("c", 1, 1)]));
        assert!(!excess.still_has_excess("b", &[share("a", 100, 100)]));
    }
}
