//! Runs hyper on a client's stream, with the deadlines below it and the service above it.

mod h2;

use super::{
    Body, Context, Peer,
    patience::{ConnState, ConnTimeouts, InFlight, StreamParts, TimeoutStream},
    service,
};
use crate::{
    config,
    observe::ErrorChain,
    splice::{Socket, Transport},
    tls,
    wire::ServerStream,
};
use ::http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    any::Any, convert::Infallible, future::poll_fn, net::IpAddr, pin::pin, sync::Arc, task::Poll,
};
use tracing::debug;

/// Serves the requests of one connection, until it ends, becomes a session, or the process stops. `guard` is what the
/// connection holds (its permits); it moves with the stream into a session.
pub async fn serve(
    context: Arc<Context>,
    stream: Box<ServerStream<Socket>>,
    peer: Peer,
    guard: Box<dyn Any + Send + Sync>,
) {
    // ALPN has determined the version.
    let multiplexed = stream.tls_state().alpn_protocol() == Some(tls::H2);
    let parts = StreamParts { io: stream, guard };
    if multiplexed {
        // Boxed: its state is large, and connections of the other version would reserve the space for it.
        return Box::pin(h2::drive(context, parts, peer)).await;
    }
    let client = peer.address;
    let answer = |request, busy| service::answer(context.clone(), peer.clone(), busy, request);
    drive(&context, parts, client, answer).await;
}

/// Runs hyper's HTTP/1.1 over a stream. A head beyond its bounds is answered with 431 or 400 by hyper itself.
pub(super) async fn drive<S, F>(
    context: &Context,
    parts: StreamParts<S>,
    client: IpAddr,
    answer: impl Fn(Request<Incoming>, InFlight) -> F,
) where
    S: Transport + Send + 'static,
    F: Future<Output = Response<Body>>,
{
    let phase = ConnState::new(false);
    let connection = {
        let limits = &context.live.snapshot().limits;
        let patient = TimeoutStream::new(parts, phase.clone(), timeouts(limits));
        let head = usize::try_from(limits.head_size.0).unwrap_or(usize::MAX);
        let phase = phase.clone();
        let service = service_fn(move |request| {
            // Boxed: hyper reserves space for it before there is a request, and the block would hold it twice.
            let answered = Box::pin(answer(request, phase.busy()));
            async { Ok::<_, Infallible>(answered.await) }
        });
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_header_size(head)
            .max_buf_size(head.max(MIN_BUFFER))
            .serve_connection(TokioIo::new(patient), service)
            .with_upgrades()
    };
    let mut connection = pin!(connection);
    let mut going = false;
    let ended = loop {
        tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = connection.as_mut() => break ended,
            // When polled again, the connection checks its deadline.
            _ = phase.notified() => {}
            () = connection_stop(context, &phase), if !going => {
                going = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    tell(client, ended);
}

/// Completes when the connection is to accept no further requests. After a takeover there is time: a client
/// that has just connected still gets its first response here.
async fn connection_stop(context: &Context, phase: &ConnState) {
    context.tasks.stopping().await;
    // Checked again whenever the connection was polled.
    let answered = poll_fn(|_| match phase.is_awaited() {
        true => Poll::Pending,
        false => Poll::Ready(()),
    });
    tokio::select! {
        () = answered => {}
        () = context.sessions.closing() => {}
    }
}

fn timeouts(limits: &config::Limits) -> ConnTimeouts {
    ConnTimeouts {
        request_head: limits.request_head.0,
        idle: limits.idle.0,
        stalled: limits.body_idle.0,
    }
}

fn tell(client: IpAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%client, error = %ErrorChain(&error), "connection ended");
    }
}

/// The limit of `websockets` and of most Python servers.
const MAX_HEADERS: usize = 128;
/// hyper's own lower bound.
const MIN_BUFFER: usize = 8192;
