//! From a handshake that the backend has accepted to the session's last record.

use crate::{
    guard::recheck::SessionRecheck,
    http::{
        client_table::ClientPermit,
        conn_state::InFlight,
        context::Context,
        h2::H2Stream,
        timeouts::{ClientStream, ConnectionGuard, StreamParts, TimeoutStream},
    },
    net::{
        socket::{BackendStream, Socket},
        tls_stream::ServerStream,
    },
    observe::access::record::{SessionEnd, SessionRecord},
    proto::{deflate::DeflateParams, frame_tracker::RsvBits},
    registry::{SessionTarget, identity::SessionIdentity},
    splice::{
        self, deflate::DeflateStream, leg::LegIo, limits::SessionLimits, outcome::Outcome,
        session::SpliceLegs,
    },
    upstream::lease::Lease,
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout},
};

/// A session whose client has not received the response yet.
pub(crate) struct PendingSession {
    pub(crate) record: SessionRecord,
    pub(crate) identity: Option<Box<SessionIdentity>>,
    pub(crate) recheck: Option<Box<SessionRecheck>>,
    pub(crate) lease: Lease,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) client_permit: Option<ClientPermit>,
    /// The permit of a session in an HTTP/2 connection.
    pub(crate) connection_permit: Option<OwnedSemaphorePermit>,
    pub(crate) limits: watch::Receiver<SessionLimits>,
    /// The backend's leg, and the bytes received directly after its 101.
    pub(crate) backend: (BackendStream, Bytes),
    pub(crate) reserved: RsvBits,
    /// Whether the route is draining.
    pub(crate) draining: Arc<AtomicBool>,
    /// Compression between the client and Lockgate.
    pub(crate) agreement: Option<DeflateParams>,
}

/// The client's leg of a session, after the response has been sent.
enum ClientLeg {
    /// The whole connection: its stream, its permits, and the bytes read after the request.
    Connection(Box<ServerStream<Socket>>, ConnectionGuard, Bytes),
    /// The same, in clear text from a trusted proxy.
    Cleartext(Socket, ConnectionGuard, Bytes),
    /// A stream of an HTTP/2 connection.
    Stream(H2Stream),
    /// The client has disconnected, or has not accepted the response in time.
    Gone,
}

// === impl PendingSession ===

impl PendingSession {
    /// Waits until the response has been sent, then spawns the session as a separate task, so that the future of that
    /// long-lived task stays small.
    pub(crate) async fn start(
        mut self,
        context: Arc<Context>,
        client: Option<OnUpgrade>,
        in_flight: Option<InFlight>,
    ) {
        let client = client_leg(client).await;
        let connection_permit = self.connection_permit.take();
        match client {
            ClientLeg::Connection(client, guard, early) => {
                self.spawn(context, client, early, guard);
            }
            ClientLeg::Cleartext(client, guard, early) => {
                self.spawn(context, client, early, guard);
            }
            ClientLeg::Stream(client) => {
                // While the session lasts, its connection is not idle, and it counts in it.
                let guard = Box::new((in_flight, connection_permit));
                self.spawn(context, client, Bytes::new(), guard);
            }
            ClientLeg::Gone => {
                // The backend sees a session whose client has disconnected.
                let (tasks, client) = (context.tasks.clone(), tokio::io::empty());
                let guard = Box::new(connection_permit);
                tasks.spawn(self.session(context, client, Bytes::new(), guard));
            }
        }
    }

    /// Spawns the session with a connected client, with compression if it was agreed.
    fn spawn<C: LegIo + Send + 'static>(
        self,
        context: Arc<Context>,
        client: C,
        early: Bytes,
        guard: ConnectionGuard,
    ) {
        let tasks = context.tasks.clone();
        match self.agreement {
            None => tasks.spawn(self.session(context, client, early, guard)),
            Some(agreement) => {
                let client = DeflateStream::new(client, agreement, &early);
                tasks.spawn(self.session(context, client, Bytes::new(), guard));
            }
        }
    }

    /// Registers and logs the session. The returned future relays it and logs its end.
    fn session<C: LegIo + Send>(
        self,
        context: Arc<Context>,
        client: C,
        client_early: Bytes,
        guard: ConnectionGuard,
    ) -> impl Future<Output = ()> + Send {
        let target = SessionTarget {
            route: self.record.route.clone(),
            backend: self.record.backend.clone(),
            pool_entry: self.lease.pool_entry().clone(),
        };
        let registry = &context.sessions;
        let handle = registry.register(target.clone(), self.record, self.identity);
        // The configuration may have changed during the handshake; later reloads find this session in the registry.
        let gateway = context.live.snapshot();
        // The same holds for a drain that was ordered during the handshake; later orders find it there, too.
        let draining = self.draining.load(Ordering::Relaxed) || self.lease.backend().is_draining();
        if draining || !gateway.may_keep(&target) {
            handle.close(gateway.drain.code);
        }
        drop(gateway);
        let guard = match self.recheck {
            None => guard,
            // The checks end with the session.
            Some(recheck) => {
                let checks = recheck.start(handle.reference(), &context.tasks, &context.resolver);
                Box::new((checks, guard))
            }
        };
        let opened = Instant::now();
        let guards = (
            context.metrics.session_gauge(),
            self.lease,
            (self.permit, self.client_permit),
            guard,
        );
        let session = handle.reference();
        context.access.opened(session.facts());
        let flow = context.metrics.live_sessions().clone();
        let (backend, backend_early) = self.backend;
        let legs = SpliceLegs {
            client,
            client_early,
            backend,
            backend_early,
            reserved: self.reserved,
        };
        // Boxed because the future would otherwise hold it twice: as captured, and as awaited.
        let report = move |outcome: &Outcome| {
            let end = session_end(outcome, opened);
            context.metrics.record_session_end(&end);
            context.access.closed(session.facts(), &end);
        };
        let relay = Box::pin(splice::run(legs, self.limits, handle, flow, report));
        async move {
            relay.await;
            drop(guards);
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
    let upgraded = match upgraded.downcast::<TokioIo<ClientStream>>() {
        Ok(raw) => {
            let StreamParts { io, guard } = raw.io.into_inner().parts;
            return ClientLeg::Connection(io, guard, raw.read_buf);
        }
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TimeoutStream<Socket>>>() {
        Ok(raw) => {
            let StreamParts { io, guard } = raw.io.into_inner().parts;
            ClientLeg::Cleartext(io, guard, raw.read_buf)
        }
        Err(stream) => ClientLeg::Stream(H2Stream::new(stream)),
    }
}

fn session_end(outcome: &Outcome, opened: Instant) -> SessionEnd {
    SessionEnd {
        duration: outcome.ended - opened,
        from_client: outcome.from_client,
        from_backend: outcome.from_backend,
        code: outcome.code,
        by: outcome.by.as_str(),
        why: outcome.why.as_str(),
        hint: outcome.hint,
    }
}

/// The time in which a client must accept the response, some 200 bytes.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
