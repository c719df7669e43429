//! The health of a backend, from health checks and from sessions.
//!
//! This module holds the state of one backend, shared by all pools that use it. It has no clock: callers pass the time.
//! Scheduling is in `health/watch.rs`, the check itself in `health/check.rs`.

pub(crate) mod check;
pub(crate) mod checker;
pub(crate) mod state;

use crate::{
    config::{self, BackendAddress, Check, Health},
    net::{
        dial::{DialError, DialedStream},
        resolver::Resolver,
        subnet::SubnetKey,
    },
    upstream::{
        backend::{Backend, BackendState},
        health::state::{Condition, HealthState},
        member::Member,
    },
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::Instant,
};

/// A backend's health: written by health checks and failed handshakes, read by every pick.
#[derive(Debug)]
pub struct BackendHealth {
    /// The condition as a pick reads it, without a lock.
    up: AtomicBool,
    /// Whether something has failed since the last success; only then does a success take the lock.
    has_failures: AtomicBool,
    record: Mutex<HealthRecord>,
    /// Wakes the watch task: a change must be logged, or an ejection has begun; also for changes of the other states.
    changed: Notify,
}

#[derive(Debug, Default)]
struct HealthRecord {
    state: HealthState,
    /// Changes that have not been logged yet.
    pending: Vec<HealthChange>,
}

/// A change of a backend's condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthChange {
    to: Condition,
    /// The last failure.
    why: Option<String>,
}

// === impl BackendHealth ===

impl BackendHealth {
    /// Creates the health of a backend without results: it counts as up.
    pub(crate) fn new() -> Self {
        BackendHealth {
            up: AtomicBool::new(true),
            has_failures: AtomicBool::new(false),
            record: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Returns whether it is neither down nor ejected.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns its condition, and the last failure unless there was a success since.
    pub fn condition(&self) -> (Condition, Option<String>) {
        let record = self.lock();
        (record.state.condition(), record.state.why().cloned())
    }

    /// Returns for how much longer it is ejected; `None` if it is not, or health checks have marked it down.
    pub fn ejected_for(&self, now: Instant) -> Option<Duration> {
        let record = self.lock();
        let ejected = record.state.condition() == Condition::Ejected;
        let until = record.state.ejected_until().filter(|_| ejected)?;
        Some(until.saturating_duration_since(now))
    }

    /// Records that a session or request has reached it.
    pub(crate) fn answered(&self) {
        if self.has_failures.load(Ordering::Relaxed) {
            self.change(HealthState::answered);
        }
    }

    /// Records that a session or request has not reached it, or that `client` has disconnected before the answer.
    pub(crate) fn failed(
        &self,
        now: Instant,
        settings: &config::Passive,
        why: String,
        client: Option<SubnetKey>,
    ) {
        self.change(|state| state.failed(now, settings, why, client));
    }

    /// Records the result of a health check.
    fn checked(&self, found: Result<(), String>, settings: &config::Health) {
        self.change(|state| state.checked(found, settings.rise, settings.fall));
    }

    /// Records that it is not health-checked any longer.
    fn unchecked(&self) {
        self.change(HealthState::unchecked);
    }

    /// Ends an ejection whose time has passed.
    fn expire_ejection(&self, now: Instant) {
        self.change(|state| state.expire_ejection(now));
    }

    /// Returns when [`BackendHealth::expire_ejection`] will change the condition.
    fn ejection_ends(&self) -> Option<Instant> {
        self.lock().state.ejected_until()
    }

    /// Notifies the watch task that another state it logs has changed.
    pub(crate) fn notify(&self) {
        self.changed.notify_one();
    }

    fn take_changes(&self) -> Vec<HealthChange> {
        std::mem::take(&mut self.lock().pending)
    }

    fn change(&self, act: impl FnOnce(&mut HealthState)) {
        let mut record = self.lock();
        let before = record.state.condition();
        act(&mut record.state);
        let to = record.state.condition();
        self.up.store(to == Condition::Up, Ordering::Relaxed);
        let has_failures = record.state.why().is_some();
        self.has_failures.store(has_failures, Ordering::Relaxed);
        if to == before {
            return;
        }
        let why = record.state.why().cloned();
        // Bounded, because in a gateway that is not active no task takes them.
        if record.pending.len() == MAX_PENDING_CHANGES {
            record.pending.remove(0);
        }
        record.pending.push(HealthChange { to, why });
        self.changed.notify_one();
    }

    // No panic can occur while the record is only partly updated.
    fn lock(&self) -> MutexGuard<'_, HealthRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Far more than occur before the watch task runs.
const MAX_PENDING_CHANGES: usize = 16;

// What a health check sends and how it connects: a backend as a member of a pool in the active configuration.

/// The health check of one backend: configured by its pool, over connections like those of sessions.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    pool: Arc<str>,
    member: Arc<Member>,
    pub(crate) settings: Health,
    pub(crate) slow_start: Duration,
}

/// The stream of a health check.
pub(crate) trait HealthStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> HealthStream for S {}

// === impl HealthCheck ===

impl HealthCheck {
    pub(crate) fn new(
        pool: &Arc<str>,
        member: &Arc<Member>,
        settings: &Health,
        slow_start: Duration,
    ) -> Self {
        HealthCheck {
            pool: pool.clone(),
            member: member.clone(),
            settings: settings.clone(),
            slow_start,
        }
    }

    /// Returns the pool that configures the check; other pools may share the backend.
    pub fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// Returns the checked backend.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.member.backend
    }

    /// Returns its state in that pool.
    pub fn state(&self, now: Instant) -> BackendState {
        self.backend().state(now, self.slow_start)
    }

    /// Returns when its slow start ends, if it is in slow start.
    pub(crate) fn slow_start_ends(&self) -> Option<Instant> {
        self.backend().slow_start_ends(self.slow_start)
    }

    /// Returns whether the pool has health checks turned off.
    pub fn is_off(&self) -> bool {
        self.settings.check == Check::Off
    }

    /// Returns the value of `Host`: the backend's authority, or its DNS name, because many servers accept no other.
    pub(crate) fn host(&self) -> String {
        match (self.member.config.dns(), self.backend().address()) {
            (Some((name, _)), BackendAddress::Tcp { port, .. }) => {
                format!("{}:{port}", name.host())
            }
            (_, BackendAddress::Tcp { .. }) => {
                let name = self.backend().name();
                let authority = name.split_once("://").map(|(_, authority)| authority);
                authority.unwrap_or(name).to_owned()
            }
            // A Unix socket has no authority.
            (_, BackendAddress::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// Connects, without TLS. The caller sets the deadline.
    pub(crate) async fn dial(&self, resolver: &Resolver) -> Result<DialedStream, DialError> {
        self.member.dial(resolver, None).await
    }

    /// Performs the TLS handshake on `connection` if TLS is used.
    pub(crate) async fn secure(
        &self,
        connection: DialedStream,
    ) -> Result<Box<dyn HealthStream>, DialError> {
        Ok(match (connection, self.member.tls()) {
            (DialedStream::Unix(unix), _) => Box::new(unix),
            (DialedStream::Tcp(tcp), None) => Box::new(tcp),
            (DialedStream::Tcp(tcp), Some(tls)) => Box::new(tls.connect_tls(tcp).await?),
        })
    }
}
