//! The backend of the attacked Lockgate: it answers a handshake, waits for a body, or sends without end.

use crate::harness::{Head, switching_protocols};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

pub(super) struct SlowBackend {
    pub(super) address: SocketAddr,
    /// For each aborted response, the time since its beginning.
    pub(super) aborted: mpsc::UnboundedReceiver<Duration>,
}

// === impl Slow ===

impl SlowBackend {
    pub(super) async fn listen() -> SlowBackend {
        let socket = TcpSocket::new_v4().expect("a descriptor is left");
        // Small kernel buffers, as in the attackers. Accepted sockets inherit them.
        socket.set_send_buffer_size(16 * 1024).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a free port");
        let listener = socket.listen(4096).expect("bound");
        let address = listener.local_addr().expect("bound");
        let (sender, aborted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(time) = answer(stream).await {
                        let _ = sender.send(time);
                    }
                });
            }
        });
        SlowBackend { address, aborted }
    }
}

async fn answer(mut stream: TcpStream) -> Option<Duration> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return None;
        }
    }
    let body = head.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = Head::parse(&head[..body]);
    if head.get("upgrade").is_some() {
        let answer = switching_protocols(&head, "");
        stream.write_all(answer.as_bytes()).await.ok()?;
    } else if head.start.starts_with("GET") {
        return flood(stream).await;
    }
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    None
}

/// Sends without end until Lockgate closes the connection; returns the time since the beginning.
async fn flood(stream: TcpStream) -> Option<Duration> {
    let started = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .ok()?;
    let send = async { while let Ok(1..) = writer.write(&[b'x'; 4096]).await {} };
    tokio::select! {
        () = send => {}
        _ = reader.read_u8() => {}
    }
    Some(started.elapsed())
}
