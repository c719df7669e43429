//! The idle connections that any client's next request may use, by backend and source addresses.

use crate::{http::pooled::BackendConnection, lifecycle::tasks::Tasks, upstream::lease::ReuseKey};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Idle connections by [`ReuseKey`]; the one that was used last is taken first.
#[derive(Debug)]
pub(crate) struct IdlePool {
    idle: Mutex<IdleConnections>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct IdleConnections {
    by_key: HashMap<ReuseKey, Vec<IdleConnection>>,
    /// Whether a task closes expired connections.
    is_swept: bool,
}

#[derive(Debug)]
struct IdleConnection {
    connection: BackendConnection,
    since: Instant,
}

// === impl IdlePool ===

impl IdlePool {
    pub(crate) fn new(tasks: Tasks) -> Arc<Self> {
        Arc::new(IdlePool {
            idle: Mutex::default(),
            tasks,
        })
    }

    /// Returns an idle connection that is still open.
    pub(crate) fn take(&self, key: &ReuseKey) -> Option<BackendConnection> {
        let mut idle = self.lock();
        let connections = idle.by_key.get_mut(key)?;
        let now = Instant::now();
        while let Some(last) = connections.pop() {
            if !last.is_expired(now) && last.connection.is_ready() {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, once its response has been read.
    pub(crate) fn put_when_ready(
        self: &Arc<Self>,
        key: ReuseKey,
        mut connection: BackendConnection,
    ) {
        if connection.is_ready() {
            return self.put(key, connection);
        }
        let pool = self.clone();
        self.tasks.spawn(async move {
            if connection.ready().await {
                pool.put(key, connection);
            }
        });
    }

    fn put(self: &Arc<Self>, key: ReuseKey, connection: BackendConnection) {
        let mut idle = self.lock();
        let connections = idle.by_key.entry(key).or_default();
        if connections.len() >= MAX_IDLE_PER_KEY {
            connections.remove(0);
        }
        connections.push(IdleConnection {
            connection,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut idle.is_swept, true) {
            let pool = self.clone();
            self.tasks.spawn(async move { pool.sweep().await });
        }
    }

    /// Closes expired connections until none is left, and all on shutdown.
    async fn sweep(&self) {
        loop {
            let is_stopping = tokio::select! {
                () = sleep(IDLE_TIMEOUT) => false,
                () = self.tasks.stopping() => true,
            };
            let mut idle = self.lock();
            let now = Instant::now();
            idle.by_key.retain(|_, connections| {
                connections.retain(|one| {
                    !is_stopping && !one.is_expired(now) && one.connection.is_ready()
                });
                !connections.is_empty()
            });
            if idle.by_key.is_empty() {
                idle.is_swept = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl IdleConnection ===

impl IdleConnection {
    fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= IDLE_TIMEOUT
    }
}

/// Less than the idle limits of Python servers (gunicorn's threads 2 s, uvicorn 5 s): a pooled connection that is just
/// being closed costs a retry, which a request with a body cannot have.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Idle connections kept for each backend and list of source addresses.
const MAX_IDLE_PER_KEY: usize = 32;
