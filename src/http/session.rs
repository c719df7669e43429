//! From a handshake that the backend has taken to the session's last record.

use super::{
    Context,
    patience::{ClientStream, InFlight, StreamParts},
    tunnel::H2Stream,
};
use crate::{
    observe::{SessionEnd, SessionRecord, SessionTarget},
    proto::{deflate::DeflateParams, track::RsvBits},
    splice::{self, BackendStream, DeflateStream, Outcome, Socket, SpliceLegs, Transport},
    upstream::Lease,
    wire::ServerStream,
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{any::Any, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout},
};

/// A session whose client has yet to take our answer.
pub(super) struct PendingSession {
    pub(super) record: SessionRecord,
    pub(super) lease: Lease,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) limits: watch::Receiver<splice::SessionLimits>,
    /// The backend's leg, and what came right behind its 101.
    pub(super) backend: (BackendStream, Bytes),
    pub(super) reserved: RsvBits,
    /// Compression between the client and us.
    pub(super) agreement: Option<DeflateParams>,
}

/// A client's end of a session, once it has our answer.
enum ClientLeg {
    /// All of its connection, what that holds, and what was read beyond the request.
    Connection(Box<ServerStream<Socket>>, Guard, Bytes),
    /// A stream of an HTTP/2 connection.
    Stream(H2Stream),
    /// It left before.
    Gone,
}

/// What is held as long as a session lasts.
type Guard = Box<dyn Any + Send + Sync>;

// === impl PendingSession ===

impl PendingSession {
    /// Waits until the client has our answer. That is a task for a moment; the session gets one of its own, as small as
    /// can be.
    pub(super) async fn start(
        self,
        context: Arc<Context>,
        client: Option<OnUpgrade>,
        busy: InFlight,
    ) {
        let tasks = context.tasks.clone();
        match client_leg(client).await {
            ClientLeg::Connection(client, guard, early) => {
                match self.agreement {
                    None => tasks.spawn(self.session(context, client, early, guard)),
                    Some(agreement) => {
                        let client = DeflateStream::new(client, agreement, &early);
                        tasks.spawn(self.session(context, client, Bytes::new(), guard))
                    }
                };
            }
            ClientLeg::Stream(client) => {
                // While it lasts, its connection is not idle.
                let guard = Box::new(busy);
                match self.agreement {
                    None => tasks.spawn(self.session(context, client, Bytes::new(), guard)),
                    Some(agreement) => {
                        let client = DeflateStream::new(client, agreement, &Bytes::new());
                        tasks.spawn(self.session(context, client, Bytes::new(), guard))
                    }
                };
            }
            ClientLeg::Gone => {
                // To the backend, a session whose client is gone.
                let client = tokio::io::empty();
                tasks.spawn(self.session(context, client, Bytes::new(), Box::new(())));
            }
        }
    }

    /// The session from its first record to its last.
    fn session<C: Transport + Send>(
        self,
        context: Arc<Context>,
        client: C,
        client_early: Bytes,
        guard: Guard,
    ) -> impl Future<Output = ()> + Send {
        let belonging = SessionTarget {
            route: self.record.route.clone(),
            backend: self.record.backend.clone(),
            pool_entry: self.lease.written().clone(),
        };
        let handle = context.sessions.register(belonging.clone(), self.record);
        // The configuration may have changed during the handshake; who opens from here on is seen by whoever changes it.
        let gateway = context.live.snapshot();
        if !gateway.may_keep(&belonging) {
            handle.close(gateway.drain.code);
        }
        drop(gateway);
        let opened = Instant::now();
        let held = (context.metrics.session(), self.lease, self.place, guard);
        let record = handle.record().clone();
        context.access.opened(&record);
        let flow = context.metrics.flow().clone();
        let (backend, backend_early) = self.backend;
        let legs = SpliceLegs {
            client,
            client_early,
            backend,
            backend_early,
            reserved: self.reserved,
        };
        // Boxed, or the future would hold it twice: as it was captured, and as it is awaited.
        let spliced = Box::pin(splice::run(legs, self.limits, handle, flow));
        async move {
            let end = end(&spliced.await, opened);
            context.metrics.session_closed(&end);
            context.access.closed(&record, &end);
            drop(held);
        }
    }
}

async fn client_leg(client: Option<OnUpgrade>) -> ClientLeg {
    let Some(client) = client else {
        return ClientLeg::Gone;
    };
    let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, client).await else {
        return ClientLeg::Gone;
    };
    match upgraded.downcast::<TokioIo<ClientStream>>() {
        Ok(raw) => {
            let StreamParts { io, guard } = raw.io.into_inner().parts;
            ClientLeg::Connection(io, guard, raw.read_buf)
        }
        Err(stream) => ClientLeg::Stream(H2Stream::new(stream)),
    }
}

fn end(outcome: &Outcome, opened: Instant) -> SessionEnd {
    SessionEnd {
        duration: outcome.ended - opened,
        from_client: outcome.from_client,
        from_backend: outcome.from_backend,
        code: outcome.code,
        by: outcome.by.as_str(),
        why: outcome.why.as_str(),
    }
}

/// A client that has not taken some two hundred bytes by then will not take more.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
