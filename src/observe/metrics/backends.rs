//! Series of the config's backends, which come and go with it.

use super::{
    Metrics,
    labels::{BackendLabels, BackendStateLabels, TransitionLabels},
};

// === impl Metrics ===

impl Metrics {
    /// The config names this backend, and nothing has happened to it.
    pub fn backend(&self, pool: &str, backend: &str, up: bool, state: &'static str) {
        self.set_up(pool, backend, up);
        self.backend_state(pool, backend, state);
        for to in CONDITIONS {
            drop(
                self.transitions
                    .get_or_create(&transition(pool, backend, to)),
            );
        }
    }

    /// It has become "up", "down" or "ejected".
    pub fn backend_changed(&self, pool: &str, backend: &str, to: &'static str) {
        self.set_up(pool, backend, to == UP);
        self.transitions
            .get_or_create(&transition(pool, backend, to))
            .inc();
    }

    /// It is in this state, and in no other: one of `STATES`.
    pub fn backend_state(&self, pool: &str, backend: &str, state: &'static str) {
        for each in STATES {
            let is = i64::from(each == state);
            let stand = backend_state_labels(pool, backend, each);
            self.states.get_or_create(&stand).set(is);
        }
    }

    /// The config names it no more.
    pub fn remove_backend(&self, pool: &str, backend: &str) {
        self.backends.remove(&label(pool, backend));
        for to in CONDITIONS {
            self.transitions.remove(&transition(pool, backend, to));
        }
        for state in STATES {
            self.states
                .remove(&backend_state_labels(pool, backend, state));
        }
    }

    fn set_up(&self, pool: &str, backend: &str, up: bool) {
        let up = i64::from(up);
        self.backends.get_or_create(&label(pool, backend)).set(up);
    }
}

fn label(pool: &str, backend: &str) -> BackendLabels {
    BackendLabels {
        pool: pool.into(),
        backend: backend.into(),
    }
}

fn transition(pool: &str, backend: &str, to: &'static str) -> TransitionLabels {
    TransitionLabels {
        pool: pool.into(),
        backend: backend.into(),
        to,
    }
}

fn backend_state_labels(pool: &str, backend: &str, state: &'static str) -> BackendStateLabels {
    BackendStateLabels {
        pool: pool.into(),
        backend: backend.into(),
        state,
    }
}

const UP: &str = "up";
/// Those of a backend that the config names; who has vanished from DNS has no series.
const STATES: [&str; 5] = [UP, "warming", "draining", "down", "ejected"];
const CONDITIONS: [&str; 3] = [UP, "down", "ejected"];
