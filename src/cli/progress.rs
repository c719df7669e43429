//! Progress of commands that take longer than a second: one line on stderr with the current step and the time so far.
//! It is shown on a terminal only, and is removed before the result is printed.

use rustix::termios::tcgetwinsize;
use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The progress of a command, shown until it is dropped. A thread draws it, because a step may block.
pub(crate) struct ProgressDisplay {
    step: Arc<Mutex<String>>,
    drawing: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

// === impl ProgressDisplay ===

impl ProgressDisplay {
    /// Starts with this step, such as "connecting to 127.0.0.1:8765".
    pub(crate) fn start(step: impl Into<String>) -> ProgressDisplay {
        let step = Arc::new(Mutex::new(step.into()));
        let drawing = is_shown().then(|| {
            let (sender, receiver) = mpsc::channel();
            let step = step.clone();
            (sender, thread::spawn(move || draw(&step, &receiver)))
        });
        ProgressDisplay { step, drawing }
    }

    /// Replaces the step.
    pub(crate) fn step(&self, step: impl Into<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step.into();
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Some((sender, drawing)) = self.drawing.take() {
            drop(sender);
            // The line is removed before anything else is printed.
            let _ = drawing.join();
        }
    }
}

/// Draws until the sender of `end` is dropped.
fn draw(step: &Mutex<String>, end: &mpsc::Receiver<()>) {
    let started = Instant::now();
    let mut wait = DELAY;
    while end.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        wait = INTERVAL;
        let seconds = started.elapsed().as_secs();
        let step = step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = format!("{step}, {seconds} s");
        let _ = write!(io::stderr(), "{CLEAR}{}", visible(&text, width()));
    }
    if wait == INTERVAL {
        let _ = write!(io::stderr(), "{CLEAR}");
    }
}

/// Returns whether stderr is a terminal that can clear a line.
fn is_shown() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Returns the number of columns of the terminal.
fn width() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    match columns {
        0 => DEFAULT_WIDTH,
        columns => columns.into(),
    }
}

/// Returns the text without control characters, in one line of the terminal.
fn visible(text: &str, width: usize) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    // A character in the last column would move the cursor to the next line.
    printable.take(width.saturating_sub(1)).collect()
}

/// Moves the cursor to the first column, and clears the line (ECMA-48).
const CLEAR: &str = "\r\u{1b}[K";

/// The time before the first line.
const DELAY: Duration = Duration::from_secs(1);

const INTERVAL: Duration = Duration::from_millis(250);

const DEFAULT_WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_fits_the_terminal_and_has_no_control_characters() {
        assert_eq!(visible("backend \u{1b}[2Jx\n", 80), "backend [2Jx");
        assert_eq!(visible("0123456789", 5), "0123");
        assert_eq!(visible("é", 0), "");
    }
}
