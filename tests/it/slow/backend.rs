//! What is behind Lockgate while it is attacked: it answers a handshake, waits for a body, or sends without end.

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

pub(super) struct Slow {
    pub(super) address: SocketAddr,
    /// Every answer that was given up.
    pub(super) given_up: mpsc::UnboundedReceiver<GivenUp>,
}

/// An answer that was not taken to its end.
pub(super) struct GivenUp {
    /// From its beginning.
    pub(super) after: Duration,
    /// The longest time in which nothing of it was taken: a kernel takes a little now and then, even for one who reads
    /// nothing, and that is no silence.
    pub(super) silent: Duration,
}

// === impl Slow ===

impl Slow {
    pub(super) async fn listen() -> Slow {
        let socket = TcpSocket::new_v4().expect("a descriptor is left");
        // As in the attackers: what is on its way is not what is tested. Accepted sockets inherit it.
        socket.set_send_buffer_size(16 * 1024).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a free port");
        let listener = socket.listen(4096).expect("bound");
        let address = listener.local_addr().expect("bound");
        let (sender, given_up) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(given_up) = answer(stream).await {
                        let _ = sender.send(given_up);
                    }
                });
            }
        });
        Slow { address, given_up }
    }
}

async fn answer(mut stream: TcpStream) -> Option<GivenUp> {
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

/// Sends for as long as anything is taken, and then until it is hung up on.
async fn flood(stream: TcpStream) -> Option<GivenUp> {
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .ok()?;
    let started = Instant::now();
    let (mut taken, mut silent) = (started, Duration::ZERO);
    let send = async {
        while let Ok(1..) = writer.write(&[b'x'; 4096]).await {
            // Some more may go in the very moment in which it is given up.
            silent = silent.max(taken.elapsed());
            taken = Instant::now();
        }
    };
    tokio::select! {
        () = send => {}
        _ = reader.read_u8() => {}
    }
    Some(GivenUp {
        after: started.elapsed(),
        silent: silent.max(taken.elapsed()),
    })
}
