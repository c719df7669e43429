//! Upgrades a request: performs the handshake with the backend, verifies its 101, completes the handshake with the
//! client, and starts the session.
//!
//! Until the backend's 101 has been verified, no byte that the client sent after its request is forwarded.

use crate::{
    http::{
        admitted::AdmittedRequest,
        backend_handshake::{AbandonGuard, HandshakeError, HandshakeOutcome, backend_handshake},
        body::{self, Body},
        context::Context,
        refusal::{Refusal, RefusalReason, warn_backend_failure, warn_exhaustion},
        request::{RequestContext, version_str},
        retry::{Attempt, AttemptOutcome, AttemptTime, Attempts, FailureKind},
        rewrite,
        session::PendingSession,
    },
    net::{descriptors::DescriptorUse, subnet::SubnetKey},
    observe::access::record::SessionRecord,
    proto::handshake::Offer,
    upstream::{connect::ConnectLimits, lease::Lease},
};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use std::sync::Arc;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

/// A handshake with one backend.
struct HandshakeAttempt<'a> {
    context: &'a Context,
    request: &'a AdmittedRequest<'a, 'a>,
    offer: &'a Offer,
}

/// Opens a session on a backend of the route, or returns the backend's own response or a refusal.
pub(crate) async fn open(
    context: &Arc<Context>,
    rc: &mut RequestContext<'_>,
    request: &AdmittedRequest<'_, '_>,
    offer: &Offer,
) -> Result<Response<Body>, Refusal> {
    let connection_permit = connection_permit(context, rc).await?;
    let (route, outbound) = (request.route, &request.outbound);
    let key = request.balance_key(rc.client);
    let mut attempts = Attempts::new(&context.metrics, rc, route, key);
    let permit = context.session_permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        Refusal::unavailable(
            RefusalReason::SessionsFull,
            "the limit on sessions is reached, try again later",
        )
    })?;
    let mut attempt = HandshakeAttempt {
        context,
        request,
        offer,
    };
    let connected = async {
        let lease = attempts.acquire(rc).await?;
        attempts.run(rc, lease, &mut attempt).await
    };
    let (lease, outcome) = tokio::select! {
        connected = connected => connected?,
        // A session that opens now would be closed at once; after a refusal the client can connect to another server.
        () = context.sessions.closing() => return Err(Refusal::stopping()),
    };
    let (mut agreed, backend, mut headers) = match outcome {
        HandshakeOutcome::Upgraded {
            agreed,
            backend,
            headers,
        } => (agreed, backend, headers),
        HandshakeOutcome::Rejected(response) => {
            let (mut response, body) = response.into_parts();
            rewrite::rewrite_response(&mut response, request.parts)?;
            rewrite::set_cookie(&route.pool, attempts.key, &lease, &mut response.headers);
            let idle = rc.gateway.limits.answer_idle.0;
            let guards = (rc.in_flight.take(), rc.client_permit.take(), lease);
            let body = body::response_body(body, idle, None, guards);
            return Ok(Response::from_parts(response, body));
        }
    };
    context.metrics.record_handshake(rc.started.elapsed());
    rc.record.is_session = true;
    outbound.token.select_echo(&mut agreed, &mut headers);
    rewrite::set_cookie(&route.pool, attempts.key, &lease, &mut headers);
    if let Some(agreement) = outbound.agreement {
        let extensions = agreement.to_string();
        if let Ok(value) = HeaderValue::try_from(&extensions) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        agreed.extensions = Some(extensions.into());
    }
    let pending = PendingSession {
        record: SessionRecord {
            id: 0,
            client: rc.client,
            http: version_str(rc.version),
            host: rc.record.host().into(),
            path: request.validated.path.as_str().into(),
            route: route.name.clone(),
            backend: lease.backend().name().clone(),
            subprotocol: agreed.subprotocol,
            extensions: agreed.extensions,
        },
        identity: rc.identity.take(),
        recheck: rc.recheck.take(),
        lease,
        permit,
        client_permit: rc.client_permit.take(),
        connection_permit,
        limits: route.limits.subscribe(),
        backend,
        reserved: agreed.reserved,
        draining: route.draining.clone(),
        agreement: outbound.agreement,
    };
    let starting = pending.start(context.clone(), rc.upgrade.take(), rc.in_flight.take());
    context.tasks.spawn(starting);
    Ok(switching_protocols(rc.version, headers))
}

/// Limits the sessions of an HTTP/2 connection, including those whose stream the client has reset.
async fn connection_permit(
    context: &Context,
    rc: &mut RequestContext<'_>,
) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let Some(in_flight) = &rc.in_flight else {
        return Ok(None);
    };
    let begun = Instant::now();
    let permit = tokio::select! {
        permit = in_flight.acquire_session() => permit,
        () = context.sessions.closing() => return Err(Refusal::stopping()),
    };
    rc.waited = begun.elapsed();
    permit.map_err(|_| {
        Refusal::unavailable(
            RefusalReason::StreamsFull,
            "too many WebSockets of this connection are open or closing, try again later",
        )
    })
}

// === impl HandshakeAttempt ===

impl Attempt for HandshakeAttempt<'_> {
    type Response = (Lease, HandshakeOutcome);

    async fn send(
        &mut self,
        rc: &RequestContext<'_>,
        lease: Lease,
        time: AttemptTime,
    ) -> AttemptOutcome<Self::Response> {
        let (client, deadline) = (
            SubnetKey::of(rc.client),
            rc.handshake_deadline(self.request.route),
        );
        let outcome = self.connect_and_open(rc, &lease, time, deadline).await;
        lease.settle();
        match &outcome {
            // The wait in the admission queue used up a part of the time, so the backend is not at fault.
            Err(HandshakeError::Timeout(_)) if time.queued => {}
            // The dial has recorded it.
            Err(error) if error.is_connect() => {}
            Err(error) if error.is_no_response() => lease.record_handshake_failure(error, client),
            Ok(HandshakeOutcome::Rejected(response)) if is_retryable_status(response.status()) => {
                let error = HandshakeError::Status(response.status());
                lease.record_handshake_failure(&error, client);
            }
            Ok(_) => lease.record_response(),
            // The client may have caused an invalid response by its path.
            Err(_) => {}
        }
        match outcome {
            Ok(HandshakeOutcome::Rejected(response)) if is_retryable_status(response.status()) => {
                AttemptOutcome::Failed {
                    kind: FailureKind::Response,
                    result: Ok((lease, HandshakeOutcome::Rejected(response))),
                }
            }
            Ok(outcome) => AttemptOutcome::Final(Ok((lease, outcome))),
            Err(error) => {
                let refusal = error.refusal();
                if error.is_exhaustion() {
                    warn_exhaustion(&error);
                } else {
                    warn_backend_failure(
                        self.request.route,
                        &lease,
                        &error,
                        refusal.why,
                        "handshake with a backend failed",
                    );
                }
                // The lease is released for other requests while this one selects another backend.
                let result = Err(refusal);
                match error.failure() {
                    Some(kind) => AttemptOutcome::Failed { kind, result },
                    None => AttemptOutcome::Final(result),
                }
            }
        }
    }
}

impl HandshakeAttempt<'_> {
    /// Connects to the backend of the lease, and performs the handshake before `deadline`.
    async fn connect_and_open(
        &self,
        rc: &RequestContext<'_>,
        lease: &Lease,
        time: AttemptTime,
        deadline: Instant,
    ) -> Result<HandshakeOutcome, HandshakeError> {
        let (context, begun) = (self.context, Instant::now());
        let limits = ConnectLimits::new(lease.connect_timeout(), deadline, time.retry_until, begun);
        let dialer = lease.dialer(rc.peer.addrs(), limits);
        let (resolver, descriptors) = (&context.resolver, &context.descriptors);
        let connected = dialer.connect(resolver, descriptors, DescriptorUse::Session);
        let stream = connected.await.map_err(|error| {
            if error.is_timeout() && Instant::now() >= deadline {
                HandshakeError::ConnectTimeout
            } else {
                HandshakeError::Connect(error)
            }
        })?;
        let timeout = self.request.route.handshake_timeout;
        let abandon_guard = AbandonGuard::start(lease, SubnetKey::of(rc.client), begun, timeout);
        let handshake = backend_handshake(context, lease, stream, self.request, self.offer);
        let outcome = timeout_at(deadline, handshake).await;
        abandon_guard.disarm();
        outcome.unwrap_or(Err(HandshakeError::Timeout(timeout)))
    }
}

/// Returns whether another backend may respond differently: with this status a backend, or a proxy in front of it,
/// reports that it is unavailable (RFC 9110 §15.6.3 to §15.6.5).
fn is_retryable_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Returns the response to the client: a 101 (RFC 6455 §4.2.2), or a 200 to an extended CONNECT (RFC 8441 §5). Other
/// headers of the backend's 101, Sec-WebSocket-* too, are forwarded.
fn switching_protocols(version: Version, mut headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body::empty());
    if version == Version::HTTP_2 {
        headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    *response.headers_mut() = headers;
    response
}
