//! A bounded queue in front of a slow writer: whoever writes a line never waits, and lines that find the queue full
//! are counted and told of.

use super::seldom::LogThrottle;
use std::{
    io::{self, BufWriter, Write},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};
use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Writes out what is still queued when it is dropped (in at most two seconds): keep it until the end of `main`.
#[derive(Debug)]
#[must_use = "dropped at once, it ends the log"]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
}

/// The worker's end of the queue.
struct WriterWorker<W: Write> {
    out: BufWriter<W>,
    name: &'static str,
    lost: Arc<OnceLock<ErrorCounter>>,
    told: usize,
    losses: LogThrottle,
    faults: LogThrottle,
}

/// Puts a queue of `lines` lines in front of `writer`; `name` stands in the warnings about it.
pub(super) fn spawn_writer(
    writer: impl Write + Send + 'static,
    name: &'static str,
    lines: usize,
) -> (NonBlocking, LogGuard) {
    let lost = Arc::new(OnceLock::new());
    let tail = WriterWorker {
        out: BufWriter::new(writer),
        name,
        lost: lost.clone(),
        told: 0,
        losses: LogThrottle::new(),
        faults: LogThrottle::new(),
    };
    let (head, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines)
        .thread_name(name)
        .finish(tail);
    // The counter exists only once the worker does; nobody else sets the cell.
    let _ = lost.set(head.error_counter());
    let guard = LogGuard {
        worker: Some(worker),
    };
    (head, guard)
}

// === impl LogGuard ===

impl LogGuard {
    /// For a log that writes nothing.
    pub(super) fn idle() -> Self {
        LogGuard { worker: None }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let (end, ended) = mpsc::channel::<()>();
        // The worker's own guard waits with deadlines, but when it gives up it says so on stdout: if that is what is
        // stuck, for ever. Such a thread ends with the process.
        let flush = move || {
            drop(worker);
            drop(end);
        };
        if thread::Builder::new().spawn(flush).is_ok() {
            let _ = ended.recv_timeout(FLUSH);
        }
    }
}

// === impl WriterWorker ===

impl<W: Write> WriterWorker<W> {
    /// Also about the log itself: the line that made room has just been written.
    fn report_lost_lines(&mut self) {
        let Some(lost) = self.lost.get().map(ErrorCounter::dropped_lines) else {
            return;
        };
        if lost > self.told && self.losses.allow().is_some() {
            let (log, newly) = (self.name, lost - self.told);
            warn!(
                log,
                lost = newly,
                "lines were lost: the disk, or whoever reads this output, is too slow"
            );
            self.told = lost;
        }
    }

    fn report_error(&self, done: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &done
            && let Some(suppressed) = self.faults.allow()
        {
            warn!(log = self.name, %error, suppressed, "lines cannot be written");
        }
        done
    }
}

impl<W: Write> Write for WriterWorker<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    // The worker calls this once per line.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let done = self.out.write_all(line);
        self.report_lost_lines();
        self.report_error(done)
    }

    // The worker calls this when the queue is empty. What comes in the next moment waits for that moment to pass: to wake a
    // thread for each of a thousand lines a second costs more than all else about them.
    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        thread::sleep(PAUSE);
        self.report_error(done)
    }
}

/// A second's worth for a busy proxy, and at a few hundred bytes a line a few MiB at most.
pub(super) const QUEUE_CAPACITY: usize = 8192;

/// Between two batches of lines; the first after a silence is written at once.
const PAUSE: Duration = Duration::from_millis(10);

/// More than the worker's guard takes (0.1 s and 1 s) when nothing is stuck.
const FLUSH: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::{super::testing::Memory, *};
    use std::{env, process, time::Instant};

    /// Holds every write until the gate's sender is gone.
    struct Gated(std::sync::mpsc::Receiver<()>, Memory);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_writer_loses_lines_but_never_blocks_and_the_loss_is_counted() {
        let (gate, closed) = std::sync::mpsc::channel();
        let memory = Memory::default();
        let (mut head, guard) = spawn_writer(Gated(closed, memory.clone()), "test", 4);
        for _ in 0..100 {
            head.write_all(b"line\n").unwrap();
        }
        let lost = head.error_counter().dropped_lines();
        assert!(lost > 0, "a queue of four held a hundred lines");
        drop(gate);
        drop(guard);
        assert_eq!(memory.text().lines().count(), 100 - lost);
    }

    #[test]
    fn a_stuck_stdout_does_not_hold_the_exit() {
        const CHILD: &str = "LOCKGATE_TEST_STUCK_STDOUT";
        if env::var_os(CHILD).is_some() {
            let (mut head, guard) = spawn_writer(io::stdout(), "test", 4);
            // More than a pipe holds: the worker is stuck in the first. Then the queue is kept full.
            let line = vec![b'x'; 1 << 20];
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(200) {
                head.write_all(&line).unwrap();
            }
            assert!(head.error_counter().dropped_lines() > 0);
            drop(guard);
            process::exit(7);
        }
        let mut child = process::Command::new(env::current_exe().unwrap())
            .args([
                "observe::queue::tests::a_stuck_stdout_does_not_hold_the_exit",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let _unread = child.stdout.take();
        let started = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > 5 * FLUSH => break None,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        child.kill().unwrap();
        let status = status.expect("the child ends although nobody reads what it writes");
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn losses_are_told_once_with_their_number() {
        let log = Memory::default();
        let (own, own_guard) = spawn_writer(log.clone(), "log", QUEUE_CAPACITY);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(own)
            .finish();
        // No place, and nobody who takes anything out any more: every line is lost.
        let (full, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(0)
            .finish(io::sink());
        drop(worker);
        for _ in 0..3 {
            full.clone().write_all(b"line\n").unwrap();
        }
        let mut tail = WriterWorker {
            out: BufWriter::new(io::sink()),
            name: "access",
            lost: Arc::new(OnceLock::from(full.error_counter())),
            told: 0,
            losses: LogThrottle::new(),
            faults: LogThrottle::new(),
        };
        tracing::subscriber::with_default(subscriber, || {
            tail.write_all(b"line\n").unwrap();
            tail.write_all(b"line\n").unwrap();
        });
        drop(own_guard);
        let text = log.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("log=\"access\" lost=3\n"), "{text}");
    }

    #[test]
    fn a_writer_that_fails_is_told_of() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Memory::default();
        let (own, own_guard) = spawn_writer(log.clone(), "log", QUEUE_CAPACITY);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(own)
            .finish();
        let mut tail = WriterWorker {
            out: BufWriter::new(Full),
            name: "access",
            lost: Arc::default(),
            told: 0,
            losses: LogThrottle::new(),
            faults: LogThrottle::new(),
        };
        tracing::subscriber::with_default(subscriber, || {
            tail.write_all(b"line\n").unwrap();
            tail.flush().unwrap_err();
        });
        drop(own_guard);
        let text = log.text();
        assert!(
            text.contains("log=\"access\" error=no storage space"),
            "{text}"
        );
    }
}
