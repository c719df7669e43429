//! The load generator of the field bench: WebSockets over TLS 1.3 (AES-128-GCM, X25519) through a proxy, and what stands
//! at both of its ends.
//!
//! `handshake`, `echo`, `push` and `idle` are clients. They get ready, say `ready` and wait for a line, so that the process that
//! started them can read the proxy's CPU time; then they run, print their figures as one line of JSON, and end.
//! With `--streams N` their sessions are WebSockets over HTTP/2 (RFC 8441), N on one connection.
//! `backend` is the WebSocket server behind the proxy, in clear text; `forward` is the least that a proxy can be:
//! TLS taken off and bytes copied, with no look at them. Both print their port and run until they are killed.

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
    // The generator's sessions are many and small: one thread is the cheapest. The forwarder is built as anybody would.
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
    // What waits for a line on standard input would hold it up.
    runtime.shutdown_background();
    result
}
