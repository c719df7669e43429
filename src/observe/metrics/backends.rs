//! Series of configured backends, created and removed with the configuration.

use super::{
    Metrics,
    labels::{BackendLabels, BackendStateLabels, TransitionLabels},
};

// === impl Metrics ===

impl Metrics {
    /// Creates the series of a configured backend, with no transition counted.
    pub fn backend(&self, pool: &str, backend: &str, up: bool, state: &'static str) {
        self.set_up(pool, backend, up);
        self.backend_state(pool, backend, state);
        for to in TRANSITIONS {
            drop(
                self.backend_transitions
                    .get_or_create(&transition_labels(pool, backend, to)),
            );
        }
    }

    /// Counts a change of a backend to "up", "down" or "ejected".
    pub fn backend_changed(&self, pool: &str, backend: &str, to: &'static str) {
        self.set_up(pool, backend, to == UP);
        self.backend_transitions
            .get_or_create(&transition_labels(pool, backend, to))
            .inc();
    }

    /// Sets the state of a backend, one of [`STATES`], and clears the others.
    pub fn backend_state(&self, pool: &str, backend: &str, state: &'static str) {
        for each in STATES {
            let labels = backend_state_labels(pool, backend, each);
            let value = i64::from(each == state);
            self.backend_states.get_or_create(&labels).set(value);
        }
    }

    /// Removes the series of a backend that is no longer configured.
    pub fn remove_backend(&self, pool: &str, backend: &str) {
        self.backend_up.remove(&backend_labels(pool, backend));
        for to in TRANSITIONS {
            self.backend_transitions
                .remove(&transition_labels(pool, backend, to));
        }
        for state in STATES {
            self.backend_states
                .remove(&backend_state_labels(pool, backend, state));
        }
    }

    fn set_up(&self, pool: &str, backend: &str, up: bool) {
        let labels = backend_labels(pool, backend);
        self.backend_up.get_or_create(&labels).set(i64::from(up));
    }
}

fn backend_labels(pool: &str, backend: &str) -> BackendLabels {
    BackendLabels {
        pool: pool.into(),
        backend: backend.into(),
    }
}

fn transition_labels(pool: &str, backend: &str, to: &'static str) -> TransitionLabels {
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
/// The states of a configured backend. One that has vanished from DNS has no series.
const STATES: [&str; 5] = [UP, "warming", "draining", "down", "ejected"];
const TRANSITIONS: [&str; 3] = [UP, "down", "ejected"];
