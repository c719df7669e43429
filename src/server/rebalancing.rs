//! Sessions of backends that have more than their share, once others are there or back: they are closed, as by a drain,
//! so that their clients, who connect again, come to those that have fewer.
//!
//! A pool that wants it has a task of its own, which looks once a second. What is surplus is computed once after each
//! growth: clients that were closed and are not back yet would else make every share look smaller than it is.

mod growth;
mod surplus;

use super::{
    Server,
    drains::{DrainPacing, Drains},
};
use crate::{
    http::Context,
    observe::SessionTarget,
    upstream::{LoadShare, Pool},
};
use growth::GrowthDetector;
use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use surplus::{ExcessSessions, in_words};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

/// The tasks, by their pools' names and rates; each ends when its guard is dropped.
#[derive(Debug, Default)]
pub(super) struct Rebalancer(HashMap<(Arc<str>, Duration), DropGuard>);

/// What one of them works with.
struct RebalanceTask {
    context: Arc<Context>,
    drains: Drains,
    pool: Arc<str>,
    /// From one close to the next.
    gap: Duration,
}

// === impl Server ===

impl Server {
    /// Has a task for each pool of the gateway in force that wants one. What others had begun is left off.
    pub(super) fn rebalance_pools(&mut self) {
        let gateway = self.context.live.snapshot();
        let wanted = |pool: &Arc<Pool>| Some((pool.name().clone(), pool.rebalance()?));
        let wanted: HashSet<_> = gateway.pools().filter_map(wanted).collect();
        let tasks = &mut self.rebalancing.0;
        tasks.retain(|one, _| wanted.contains(one));
        for (pool, gap) in wanted {
            let task = RebalanceTask {
                context: self.context.clone(),
                drains: self.drains.clone(),
                pool: pool.clone(),
                gap,
            };
            tasks.entry((pool, gap)).or_insert_with(|| task.start());
        }
    }
}

// === impl RebalanceTask ===

impl RebalanceTask {
    fn start(self) -> DropGuard {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        let context = self.context.clone();
        self.context.tasks.clone().spawn(async move {
            tokio::select! {
                () = self.run() => {}
                () = over.cancelled() => {}
                () = context.tasks.stopping() => {}
            }
        });
        guard
    }

    async fn run(self) {
        let mut growth = GrowthDetector::default();
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let standings = self.standings();
            growth.observe(&standings, now);
            if !growth.is_settled(now) {
                continue;
            }
            let surplus = ExcessSessions::of(standings);
            let mut closing = pin!(self.close(&surplus));
            loop {
                tokio::select! {
                    () = &mut closing => break,
                    now = ticks.tick() => {
                        let standings = self.standings();
                        growth.observe(&standings, now);
                        if !surplus.holds(&standings) {
                            growth.begin(now);
                            break;
                        }
                    }
                }
            }
            growth.reset(Instant::now());
        }
    }

    /// None where the pool does not want it any more: then this task is about to end.
    fn standings(&self) -> Vec<LoadShare> {
        let gateway = self.context.live.snapshot();
        let pool = gateway.rebalancing_pool(&self.pool);
        pool.map_or_else(Vec::new, |pool| pool.load_shares(Instant::now()))
    }

    /// Ends when all that are too many were told.
    fn close(&self, surplus: &ExcessSessions) -> impl Future<Output = ()> + use<> {
        let gateway = self.context.live.snapshot();
        let too_many = gateway.rebalancing_pool(&self.pool).map(|pool| {
            self.context.sessions.matching(|session| {
                surplus.is_on(&session.backend) && gateway.uses_pool(pool, session)
            })
        });
        let leaving = surplus.taken_from(too_many.unwrap_or_default());
        if !leaving.is_empty() {
            info!(pool = %self.pool, closing = leaving.len(), from = %in_words(&leaving), "sessions are closed, for other backends have fewer");
        }
        let spread = DrainPacing {
            window: Duration::ZERO,
            gap: self.gap,
            code: gateway.drain.code,
        };
        let (context, pool, surplus) = (self.context.clone(), self.pool.clone(), surplus.clone());
        let must_go = move |session: &SessionTarget| {
            let gateway = context.live.snapshot();
            gateway.rebalancing_pool(&pool).is_some_and(|pool| {
                let now = pool.load_shares(Instant::now());
                gateway.uses_pool(pool, session)
                    && surplus.holds(&now)
                    && surplus.is_still_on(&session.backend, &now)
            })
        };
        self.drains.closing(leaving, spread, must_go)
    }
}

/// From one look to the next.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
