//! HTTP/2: many requests and WebSockets in one connection, none of which can stall the others (RFC 9113 §5.2).

mod gather;

use super::{
    super::{
        Context, Peer,
        patience::{ClientStream, ConnState, StreamParts, TimeoutStream},
        service,
    },
    connection_stop, tell, timeouts,
};
use crate::{lifecycle::Tasks, splice::Socket, wire::ServerStream};
use gather::WriteCoalescer;
use hyper::{rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc};

/// Runs hyper's HTTP/2 over a client's stream.
///
/// Every stream may have [`WINDOW`] unread bytes in flight to Lockgate, and the connection's window has room
/// for that many of each: a stream whose reader is stalled uses up its own window, never the connection's. The same
/// holds for h2's overhead for unread small frames, which is limited to half of that window: see [`CONNECTION_WINDOW`].
pub(super) async fn drive(
    context: Arc<Context>,
    parts: StreamParts<Box<ServerStream<Socket>>>,
    peer: Peer,
) {
    let client = peer.address;
    let phase = ConnState::new(true);
    let (gather, connection) = {
        let gateway = context.live.snapshot();
        let limits = &gateway.limits;
        let patient: ClientStream = TimeoutStream::new(parts, phase.clone(), timeouts(limits));
        let head = u32::try_from(limits.head_size.0).unwrap_or(u32::MAX);
        let gather = WriteCoalescer::new(patient);
        let mut builder = http2::Builder::new(TasksExecutor(context.tasks.clone()));
        builder
            .auto_date_header(false)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(
                limits
                    .h2_streams
                    .saturating_mul(WINDOW)
                    .clamp(CONNECTION_WINDOW, MAX_WINDOW),
            )
            .max_concurrent_streams(limits.h2_streams)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(head);
        if gateway.h2_websocket {
            builder.enable_connect_protocol();
        }
        let (context, phase) = (context.clone(), phase.clone());
        let service = service_fn(move |request| {
            let answered = Box::pin(service::answer(
                context.clone(),
                peer.clone(),
                phase.busy(),
                request,
            ));
            async { Ok::<_, Infallible>(answered.await) }
        });
        let io = TokioIo::new(gather.clone());
        (gather, builder.serve_connection(io, service))
    };
    let mut connection = pin!(connection);
    let mut going = false;
    let ended = loop {
        tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = poll_fn(|cx| gather.poll_with(cx, connection.as_mut(), phase.is_shared())) => {
                break ended
            }
            overdue = phase.notified() => {
                if overdue && !going {
                    going = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = connection_stop(&context, &phase), if !going => {
                going = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    tell(client, ended);
}

/// hyper runs each stream in a separate task; these tasks are counted.
#[derive(Clone)]
struct TasksExecutor(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TasksExecutor {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The bytes in flight to Lockgate in one stream: the default of RFC 9113 §6.5.2.
const WINDOW: u32 = 65_535;
/// The maximum of a window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// h2 counts 256 bytes for each unread small frame, and ends the connection when they reach half of its
/// window. One stream has room for 65,535 frames of a byte: several that are paused must not end the others.
const CONNECTION_WINDOW: u32 = 128 * 1024 * 1024;
/// The bytes of one stream's response that are buffered while its client does not read.
const SEND_BUFFER: usize = 64 * 1024;
