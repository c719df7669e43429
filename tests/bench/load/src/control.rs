//! The line that the driver gives, and the ones it gets.

use std::{
    io::{self, BufRead, Write},
    process, thread,
};

/// Prints a line and flushes it.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits for a line, while the sessions live on. The end of input is an error: the driver is gone.
pub(crate) async fn told() -> io::Result<()> {
    let read = tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new()));
    match read.await.map_err(io::Error::other)?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// For what runs until it is killed: nor does it outlive a driver that was.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    });
}
