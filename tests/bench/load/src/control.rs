//! Lines on standard input and output, by which the driver controls the generator.

use std::{
    io::{self, BufRead, Write},
    process, thread,
};

/// Prints a line and flushes it.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits for a line while the sessions continue. The end of input is an error: the driver has ended.
pub(crate) async fn wait_for_line() -> io::Result<()> {
    let read = tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new()));
    match read.await.map_err(io::Error::other)?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Ends the process with its input, so that a mode that runs until it is killed does not outlive the driver.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    });
}
