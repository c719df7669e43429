//! The load generator of the field benchmark: WebSockets over TLS 1.3 (AES-128-GCM, X25519) through a proxy. It has the
//! clients, the backend and a minimal proxy.
//!
//! `handshake`, `echo`, `push` and `idle` are clients. They prepare, print `ready` and wait for a line, so that the
//! parent process can read the proxy's CPU time. Then they run, print their results as one line of JSON, and end. With
//! `--streams N` their sessions are WebSockets over HTTP/2 (RFC 8441), N on one connection.
//! `backend` is the WebSocket server behind the proxy, in cleartext. `forward` is a minimal proxy that terminates TLS
//! and copies bytes without parsing them. Both print their port and run until they are killed.

mod arguments;
mod backend;
mod control;
mod crowd;
mod echo;
mod forward;
mod frame;
mod handshake;
mod http2;
mod idle;
mod pace;
mod push;
mod report;
mod session;
mod tls;
mod wire;

use arguments::Arguments;
use std::{io, process::ExitCode};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockgate-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let (mode, arguments) = Arguments::from_command_line()?;
    arguments::raise_descriptor_limit();
    // One thread costs least with the many small sessions of the generator. The forwarder uses tokio's default runtime.
    let runtime = match mode.as_str() {
        "forward" => Builder::new_multi_thread().enable_all().build()?,
        _ => Builder::new_current_thread().enable_all().build()?,
    };
    let result = runtime.block_on(async {
        match mode.as_str() {
            "backend" => backend::run(&arguments).await,
            "forward" => forward::run(&arguments).await,
            "handshake" => handshake::run(&arguments).await,
            "echo" => echo::run(&arguments).await,
            "push" => push::run(&arguments).await,
            "idle" => idle::run(&arguments).await,
            _ => Err(io::Error::other(format!("no such mode: {mode}"))),
        }
    });
    // A pending read of standard input would block a normal shutdown.
    runtime.shutdown_background();
    result
}
