//! Rebalancing: after a pool has gained a backend or one has recovered, the excess sessions of the other backends are
//! closed as by a drain, so that the reconnecting clients spread over all backends.
//!
//! Each pool with rebalancing has a task that polls the load once per second. The excess is computed once after each
//! growth: clients that were closed and have not reconnected yet would otherwise make every share look smaller than it is.

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
use surplus::{ExcessSessions, counts_by_backend};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

/// The rebalancing tasks by pool name and gap; a task ends when its guard is dropped.
#[derive(Debug, Default)]
pub(super) struct Rebalancer(HashMap<(Arc<str>, Duration), DropGuard>);

/// The rebalancing task of one pool.
struct RebalanceTask {
    context: Arc<Context>,
    drains: Drains,
    pool: Arc<str>,
    /// Time between two closes.
    gap: Duration,
}

// === impl Server ===

impl Server {
    /// Starts a task for each pool of the current gateway with rebalancing, and ends the tasks of all other pools.
    pub(super) fn rebalance_pools(&mut self) {
        let gateway = self.context.live.snapshot();
        let enabled = |pool: &Arc<Pool>| Some((pool.name().clone(), pool.rebalance()?));
        let enabled: HashSet<_> = gateway.pools().filter_map(enabled).collect();
        let tasks = &mut self.rebalancer.0;
        tasks.retain(|key, _| enabled.contains(key));
        for (pool, gap) in enabled {
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
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let context = self.context.clone();
        self.context.tasks.clone().spawn(async move {
            tokio::select! {
                () = self.run() => {}
                () = cancel.cancelled() => {}
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

const POLL_INTERVAL: Duration = Duration::from_secs(1);
