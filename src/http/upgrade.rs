//! Shaking both hands: the handshake with the backend first, its 101 checked, then ours with the client; then a session.
//!
//! Until the backend's 101 is known to be right, not one byte that the client sent behind its request goes anywhere.

use super::{
    Body, Context,
    asked::{Asked, Trail},
    body,
    outbound::Outbound,
    patience::{ClientStream, StreamParts},
    reject::{Refusal, blame},
    shake::{Hands, HandshakeError, shake},
};
use crate::{
    gateway::Route,
    observe::{SessionEnd, SessionRecord},
    proto::handshake::Offer,
    splice::{self, LegIo, Legs, Outcome, Socket},
    upstream::Lease,
};
use ::http::{Extensions, Response};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{any::Any, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::server::TlsStream;

/// A handshake that passed the gate and the guards.
pub(super) struct Wish {
    pub(super) offer: Offer,
    pub(super) host: Box<str>,
    pub(super) path: Box<str>,
    pub(super) outbound: Outbound,
    pub(super) answer_idle: Duration,
}

/// Opens a session on a backend of `route`, or brings back why not: the backend's own answer, or a refusal of ours.
pub(super) async fn open(
    context: &Arc<Context>,
    route: &Route,
    asked: Asked,
    wish: Wish,
    mut extensions: Extensions,
    trail: &mut Trail,
) -> Result<Response<Body>, Refusal> {
    let place = context.places.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Refusal::unavailable(
            "sessions-full",
            "no place for another session, try again later",
        )
    })?;
    let lease = route
        .pool
        .acquire()
        .ok_or_else(|| Refusal::unavailable("no-backend", "no backend is available"))?;
    trail.backend = Some(lease.backend().name().clone());
    let client = extensions.remove::<OnUpgrade>();
    let deadline = asked.started + route.handshake_timeout;
    let hands = shake(context, &lease, wish.outbound, extensions, &wish.offer);
    let shaken = tokio::select! {
        shaken = timeout_at(deadline, hands) => shaken,
        // A session that opened now would be closed at once: better told now, so that the client goes elsewhere.
        () = context.tasks.stopping() => {
            return Err(Refusal::unavailable("stopping", "this server is stopping, try again"));
        }
    };
    let shaken = match shaken {
        Ok(shaken) => shaken,
        Err(_) => Err(HandshakeError::Timeout(route.handshake_timeout)),
    };
    let (agreed, backend, response) = match shaken {
        Ok(Hands::Shaken {
            agreed,
            backend,
            response,
        }) => (agreed, backend, response),
        Ok(Hands::Refused(response)) => {
            let guard = (asked.busy, lease);
            return Ok(response.map(|body| body::answered(body, wish.answer_idle, guard)));
        }
        Err(error) => {
            blame(route, &lease, &error, "handshake with a backend failed");
            return Err(error.refusal());
        }
    };
    context.metrics.handshake(asked.started.elapsed());
    let reserved = agreed.reserved;
    let opening = Opening {
        record: SessionRecord {
            id: 0,
            client: asked.client,
            http: "1.1",
            host: wish.host,
            path: wish.path,
            route: route.name.clone(),
            backend: lease.backend().name().clone(),
            subprotocol: agreed.subprotocol,
            extensions: agreed.extensions,
        },
        lease,
        place,
    };
    let limits = route.limits.subscribe();
    let context = context.clone();
    // A task for the moment until the client has its 101; the session gets one of its own, as small as can be.
    context.tasks.clone().spawn(async move {
        let (backend, backend_early) = backend;
        match client_leg(client).await {
            Some((client, guard, client_early)) => {
                let legs = Legs {
                    client,
                    client_early,
                    backend,
                    backend_early,
                    reserved,
                };
                let session = session(context.clone(), legs, limits, opening, guard);
                context.tasks.spawn(session);
            }
            None => {
                // It left before it had its 101: to the backend, a session whose client is gone.
                let legs = Legs {
                    client: tokio::io::empty(),
                    client_early: Bytes::new(),
                    backend,
                    backend_early,
                    reserved,
                };
                let session = session(context.clone(), legs, limits, opening, Box::new(()));
                context.tasks.spawn(session);
            }
        }
    });
    Ok(response)
}

/// What a session holds besides its legs.
struct Opening {
    record: SessionRecord,
    lease: Lease,
    place: OwnedSemaphorePermit,
}

/// A session from its first record to its last.
fn session<C: LegIo + Send>(
    context: Arc<Context>,
    legs: Legs<C, Socket>,
    limits: watch::Receiver<splice::Limits>,
    opening: Opening,
    guard: Box<dyn Any + Send + Sync>,
) -> impl Future<Output = ()> + Send {
    let Opening {
        mut record,
        lease,
        place,
    } = opening;
    let handle = context.sessions.open();
    record.id = handle.id();
    let opened = Instant::now();
    let held = (context.metrics.session(), lease, place, guard);
    context.access.opened(&record);
    // Boxed, or the future would hold it twice: as it was captured, and as it is awaited.
    let spliced = Box::pin(splice::run(legs, limits, handle));
    async move {
        let end = end(&spliced.await, opened);
        context.metrics.session_closed(&end);
        context.access.closed(&record, &end);
        drop(held);
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

/// The client's stream, once it has our 101. `None`: it left before.
async fn client_leg(client: Option<OnUpgrade>) -> Option<ClientLeg> {
    let upgraded = timeout(CLIENT_TAKES_101, client?).await.ok()?.ok()?;
    let raw = upgraded.downcast::<TokioIo<ClientStream>>().ok()?;
    let StreamParts { io, guard } = raw.io.into_inner().parts;
    Some((io, guard, raw.read_buf))
}

/// A client's stream, what it holds, and what was read beyond the request.
type ClientLeg = (Box<TlsStream<Socket>>, Box<dyn Any + Send + Sync>, Bytes);

/// A client that has not taken some two hundred bytes by then will not take more.
const CLIENT_TAKES_101: Duration = Duration::from_secs(10);
