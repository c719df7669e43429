//! Connections to backends that belong to one connection of a client, because the backend authenticates connections
//! ([`connection_auth`](crate::http::connection_auth)). They never enter the common pool, and close with the client's
//! connection.

use crate::http::pooled::BackendConnection;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};

/// The backend connections of one client connection; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct BoundConnections(Arc<Mutex<Vec<Binding>>>);

/// What a connection is bound for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindingTarget {
    /// The pool, because pools may differ in their TLS settings for one backend.
    pub(crate) pool: Arc<str>,
    pub(crate) backend: Arc<str>,
    /// The client, because a trusted proxy may send requests of several clients on one connection.
    pub(crate) client: IpAddr,
}

#[derive(Debug)]
struct Binding {
    target: BindingTarget,
    /// The `id_hash` of the backend's member.
    id_hash: u64,
    /// The last one was used last.
    slots: Vec<Arc<Slot>>,
}

/// The place of a connection, which carries one request at a time.
#[derive(Debug, Default)]
struct Slot {
    connection: Arc<AsyncMutex<Option<BackendConnection>>>,
    /// Whether the last response was a challenge for credentials: the next message of the handshake must follow on this
    /// connection.
    in_handshake: AtomicBool,
}

/// The use of a bound connection by one request, until its response is complete.
#[derive(Debug)]
pub(crate) struct BoundUse {
    /// `None` until a connection has been opened, and after one that must not be reused.
    pub(crate) connection: OwnedMutexGuard<Option<BackendConnection>>,
    slot: Arc<Slot>,
}

// === impl BoundConnections ===

impl BoundConnections {
    /// Returns whether requests to `target` use a connection of their own.
    pub(crate) fn is_bound(&self, target: &BindingTarget) -> bool {
        self.lock().iter().any(|binding| binding.target == *target)
    }

    /// Returns the `id_hash` of the backend in `pool` that last authenticated a connection for `client`.
    pub(crate) fn backend(&self, pool: &str, client: IpAddr) -> Option<u64> {
        let bindings = self.lock();
        let mut latest = bindings.iter().rev();
        let binding = latest.find(|one| *one.target.pool == *pool && one.target.client == client);
        binding.map(|binding| binding.id_hash)
    }

    /// Makes further requests to `target` use a connection of their own.
    pub(crate) fn bind(&self, target: &BindingTarget, id_hash: u64) {
        self.with_binding(target, id_hash, |_| ());
    }

    /// Binds a connection that was in common use until now.
    pub(crate) fn adopt(
        &self,
        target: &BindingTarget,
        id_hash: u64,
        connection: BackendConnection,
    ) -> BoundUse {
        let mut bound = self.with_binding(target, id_hash, Binding::new_use);
        *bound.connection = Some(connection);
        bound
    }

    /// Returns the use of a connection for a request, which waits at most [`HANDSHAKE_WAIT`] if it has `credentials`
    /// and the connection of their handshake is not free yet. A client with `several` concurrent requests may send one
    /// without credentials in the middle of a handshake, which must not use that connection.
    pub(crate) async fn acquire(
        &self,
        target: &BindingTarget,
        id_hash: u64,
        credentials: bool,
        several: bool,
    ) -> BoundUse {
        let found = self.with_binding(target, id_hash, |binding| {
            binding.find(credentials, several)
        });
        match found {
            Ok(bound) => bound,
            Err(slot) => {
                let lock = slot.connection.clone().lock_owned();
                match timeout(HANDSHAKE_WAIT, lock).await {
                    Ok(connection) => BoundUse { connection, slot },
                    Err(_) => self.with_binding(target, id_hash, Binding::new_use),
                }
            }
        }
    }

    fn with_binding<T>(
        &self,
        target: &BindingTarget,
        id_hash: u64,
        use_it: impl FnOnce(&mut Binding) -> T,
    ) -> T {
        let mut bindings = self.lock();
        let found = bindings.iter().position(|one| one.target == *target);
        let mut binding = match found {
            Some(at) => bindings.remove(at),
            None => Binding {
                target: target.clone(),
                id_hash,
                slots: Vec::new(),
            },
        };
        let used = use_it(&mut binding);
        if bindings.len() >= MAX_BINDINGS {
            bindings.remove(0);
        }
        bindings.push(binding);
        used
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Binding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Binding ===

impl Binding {
    /// Returns the use of a free or new slot, or the slot that must become free first.
    fn find(&mut self, credentials: bool, several: bool) -> Result<BoundUse, Arc<Slot>> {
        let of_handshake = self.slots.iter().rposition(|slot| slot.is_in_handshake());
        if let Some(at) = of_handshake.filter(|_| credentials) {
            let slot = self.slots.remove(at);
            self.slots.push(slot.clone());
            return slot.try_use().ok_or(slot);
        }
        for at in (0..self.slots.len()).rev() {
            let Some(slot) = self.slots.get(at) else {
                continue;
            };
            if !(several && slot.is_in_handshake())
                && let Some(bound) = slot.try_use()
            {
                let slot = self.slots.remove(at);
                self.slots.push(slot);
                return Ok(bound);
            }
        }
        Ok(self.new_use())
    }

    /// Returns the use of a new slot, in place of the one that was not used for the longest time if there are too many.
    fn new_use(&mut self) -> BoundUse {
        if self.slots.len() >= MAX_SLOTS {
            self.slots.remove(0);
        }
        let slot = Arc::new(Slot::default());
        self.slots.push(slot.clone());
        slot.try_use().expect("no other request knows the new slot")
    }
}

// === impl Slot ===

impl Slot {
    fn is_in_handshake(&self) -> bool {
        self.in_handshake.load(Ordering::Relaxed)
    }

    fn try_use(self: &Arc<Self>) -> Option<BoundUse> {
        let connection = self.connection.clone().try_lock_owned().ok()?;
        Some(BoundUse {
            connection,
            slot: self.clone(),
        })
    }
}

// === impl BoundUse ===

impl BoundUse {
    /// Records whether the response to a request with credentials requests the next message of the handshake.
    pub(crate) fn record_challenge(&self, in_handshake: bool) {
        self.slot
            .in_handshake
            .store(in_handshake, Ordering::Relaxed);
    }
}

/// The time in which the response before the next message of a handshake must have been read.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(1);

/// Backends per connection of a client. Beyond it the binding that was not used for the longest time is removed, with
/// its connections: its user authenticates again.
const MAX_BINDINGS: usize = 32;

/// Connections per backend that a client connection keeps. Requests beyond it are sent on connections that close after
/// them.
const MAX_SLOTS: usize = 8;
