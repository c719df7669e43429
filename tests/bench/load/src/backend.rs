//! The WebSocket server behind the proxies, in cleartext: `/` echoes; `/push/SIZE` sends without end after a first
//! message.

use crate::{
    arguments::Arguments,
    control::{end_with_input, print_line},
    frame::{self, BINARY, CLOSE, PING, PONG},
    session::head,
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, BytesMut};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The minimum length of the read buffer; it grows for longer messages.
const READ_BUF_LEN: usize = 512;

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", arguments.listen)).await?;
    print_line(&listener.local_addr()?.port().to_string())?;
    end_with_input();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that disconnects is not an error of the backend.
            let _ = serve(stream).await;
        });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = BytesMut::with_capacity(READ_BUF_LEN);
    let request = head(&mut stream, &mut received).await?;
    let request = String::from_utf8_lossy(&request);
    if value(&request, "upgrade").is_none() {
        return stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
    // Envoy sends no key if the client's HTTP/2 request had none.
    let accept = accept(value(&request, "sec-websocket-key").unwrap_or_default());
    let pushes = request
        .strip_prefix("GET /push/")
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    loop {
        match frame::first(&received)? {
            Ok(frame) if pushes.is_some() && frame.opcode == BINARY => {
                return push(&mut stream, pushes.unwrap_or_default()).await;
            }
            Ok(frame) => {
                answer_to(&mut stream, &mut received, &frame).await?;
                received.advance(frame.end);
                if frame.opcode == CLOSE {
                    return Ok(());
                }
            }
            Err(needed) => {
                received.reserve((needed - received.len()).max(READ_BUF_LEN));
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Returns the `Sec-WebSocket-Accept` for a key (RFC 6455, section 4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

fn value<'a>(request: &'a str, header: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(header).then(|| value.trim())
    })
}

/// Sends the frame back without its mask. The new header is written directly before the payload, over the old header
/// and mask, so that one write suffices.
async fn answer_to(
    stream: &mut TcpStream,
    received: &mut BytesMut,
    frame: &frame::Frame,
) -> io::Result<()> {
    let Some(key) = frame.mask else {
        return Err(io::Error::other("not masked"));
    };
    let opcode = match frame.opcode {
        PING => PONG,
        PONG => return Ok(()),
        other => other,
    };
    frame::apply(&mut received[frame.header..frame.end], key);
    let (bytes, used) = frame::header(opcode, frame.end - frame.header);
    let start = frame.header - used;
    received[start..frame.header].copy_from_slice(&bytes[..used]);
    stream.write_all(&received[start..frame.end]).await
}

/// Sends numbered messages, one write each, until the client disconnects.
async fn push(stream: &mut TcpStream, size: usize) -> io::Result<()> {
    let size = size.clamp(8, 1 << 20);
    let (bytes, used) = frame::header(BINARY, size);
    let mut message: Vec<u8> = bytes[..used].to_vec();
    message.extend((0..size).map(|at| (at % 251) as u8));
    let mut number = 0_u64;
    loop {
        number += 1;
        message[used..used + 8].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&message).await?;
    }
}
