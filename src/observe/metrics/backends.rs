//! Series of the config's backends, which come and go with it.

use super::{
    Metrics,
    labels::{Backend, Transition},
};

// === impl Metrics ===

impl Metrics {
    /// The config names this backend, and nothing has happened to it.
    pub fn backend(&self, pool: &str, backend: &str, up: bool) {
        self.set_up(pool, backend, up);
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

    /// The config names it no more.
    pub fn backend_gone(&self, pool: &str, backend: &str) {
        self.backends.remove(&label(pool, backend));
        for to in CONDITIONS {
            self.transitions.remove(&transition(pool, backend, to));
        }
    }

    fn set_up(&self, pool: &str, backend: &str, up: bool) {
        let up = i64::from(up);
        self.backends.get_or_create(&label(pool, backend)).set(up);
    }
}

fn label(pool: &str, backend: &str) -> Backend {
    Backend {
        pool: pool.into(),
        backend: backend.into(),
    }
}

fn transition(pool: &str, backend: &str, to: &'static str) -> Transition {
    Transition {
        pool: pool.into(),
        backend: backend.into(),
        to,
    }
}

const UP: &str = "up";
const CONDITIONS: [&str; 3] = [UP, "down", "ejected"];
