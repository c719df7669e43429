//! A bounded queue in front of a slow writer. Writing a line never blocks; lines that find the queue full are dropped,
//! counted and reported.

use crate::observe::log_throttle::LogThrottle;
use std::{
    io::{self, BufWriter, Write},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};
use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Flushes the queue on drop, within [`FLUSH_TIMEOUT`]. Must be kept until the end of `main`.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
}

/// The writer in the worker thread, at the consuming end of the queue.
struct WriterWorker<W: Write> {
    out: BufWriter<W>,
    name: &'static str,
    lost: Arc<OnceLock<ErrorCounter>>,
    reported: usize,
    loss_throttle: LogThrottle,
    error_throttle: LogThrottle,
}

/// Starts a worker thread that writes to `writer`, behind a queue of `capacity` lines. `name` is the name of the
/// thread, and of the log in warnings.
pub(crate) fn spawn_writer(
    writer: impl Write + Send + 'static,
    name: &'static str,
    capacity: usize,
) -> (NonBlocking, LogGuard) {
    let lost = Arc::new(OnceLock::new());
    let writer_worker = WriterWorker {
        out: BufWriter::new(writer),
        name,
        lost: lost.clone(),
        reported: 0,
        loss_throttle: LogThrottle::new(),
        error_throttle: LogThrottle::new(),
    };
    let (sender, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(capacity)
        .thread_name(name)
        .finish(writer_worker);
    // The counter exists only once the worker does. The cell is set only here.
    let _ = lost.set(sender.error_counter());
    let guard = LogGuard {
        worker: Some(worker),
    };
    (sender, guard)
}

// === impl LogGuard ===

impl LogGuard {
    /// Returns the guard of a log that writes nothing.
    pub(crate) fn idle() -> Self {
        LogGuard { worker: None }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let (done, flushed) = mpsc::channel::<()>();
        // The worker's own guard has deadlines, but on a timeout it prints to stdout, which blocks without limit if
        // stdout is blocked. A thread blocked there ends with the process.
        let flush = move || {
            drop(worker);
            drop(done);
        };
        if thread::Builder::new().spawn(flush).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

// === impl WriterWorker ===

impl<W: Write> WriterWorker<W> {
    /// Warns about lines lost since the last report. Also works for the log itself: a line has just left the queue, so
    /// the warning fits into it.
    fn report_lost_lines(&mut self) {
        let Some(lost) = self.lost.get().map(ErrorCounter::dropped_lines) else {
            return;
        };
        if lost > self.reported && self.loss_throttle.allow().is_some() {
            let (log, newly_lost) = (self.name, lost - self.reported);
            warn!(
                log,
                lost = newly_lost,
                "log lines lost; the disk or the reader of this output is too slow"
            );
            self.reported = lost;
        }
    }

    fn report_error(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result
            && let Some(suppressed) = self.error_throttle.allow()
        {
            warn!(log = self.name, %error, suppressed, "log lines cannot be written");
        }
        result
    }
}

impl<W: Write> Write for WriterWorker<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    // The worker calls this once per line.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.out.write_all(line);
        self.report_lost_lines();
        self.report_error(result)
    }

    // The worker calls this when the queue is empty. The pause collects further lines into a batch: at a thousand lines
    // per second, waking the thread for each line would cost more than formatting and writing it.
    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        thread::sleep(BATCH_INTERVAL);
        self.report_error(result)
    }
}

/// In lines: one second of a busy proxy, and at some hundred bytes per line a few MiB.
pub(crate) const QUEUE_CAPACITY: usize = 8192;

/// The time between two batches of lines; the first line after a pause is written at once.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);

/// Longer than the deadlines of the worker's own guard (0.1 s and 1 s).
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::Memory;
    use std::{env, process, time::Instant};

    /// Blocks every write until the sender of the channel is dropped.
    struct BlockedWriter(std::sync::mpsc::Receiver<()>, Memory);

    impl Write for BlockedWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn stuck_writer_drops_and_counts_lines_without_blocking() {
        let (block, unblocked) = std::sync::mpsc::channel();
        let memory = Memory::default();
        let (mut sender, guard) = spawn_writer(BlockedWriter(unblocked, memory.clone()), "test", 4);
        for _ in 0..100 {
            sender.write_all(b"line\n").unwrap();
        }
        let lost = sender.error_counter().dropped_lines();
        assert!(lost > 0, "a queue of four held a hundred lines");
        drop(block);
        drop(guard);
        assert_eq!(memory.text().lines().count(), 100 - lost);
    }

    #[test]
    fn stuck_stdout_does_not_delay_exit() {
        const CHILD: &str = "LOCKGATE_TEST_STUCK_STDOUT";
        if env::var_os(CHILD).is_some() {
            let (mut sender, guard) = spawn_writer(io::stdout(), "test", 4);
            // One line exceeds a pipe's buffer, so the worker blocks in the first one. The loop then keeps the queue
            // full.
            let line = vec![b'x'; 1 << 20];
            let started = Instant::now();
            while sender.error_counter().dropped_lines() == 0 {
                assert!(started.elapsed() < Duration::from_secs(30));
                sender.write_all(&line).unwrap();
            }
            drop(guard);
            process::exit(7);
        }
        let (_, module) = module_path!().split_once("::").expect("a crate name");
        let test = format!("{module}::stuck_stdout_does_not_delay_exit");
        let mut child = process::Command::new(env::current_exe().unwrap())
            .args([&test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let _unread = child.stdout.take();
        let started = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > 30 * FLUSH_TIMEOUT => break None,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        child.kill().unwrap();
        let status = status.expect("the child exits although its stdout is not read");
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn lost_lines_are_reported_once_with_their_count() {
        let log = Memory::default();
        let (own, own_guard) = spawn_writer(log.clone(), "log", QUEUE_CAPACITY);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(own)
            .finish();
        // Capacity 0 and no worker: every line is lost.
        let (full, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(0)
            .finish(io::sink());
        drop(worker);
        for _ in 0..3 {
            full.clone().write_all(b"line\n").unwrap();
        }
        let mut writer = WriterWorker {
            out: BufWriter::new(io::sink()),
            name: "access",
            lost: Arc::new(OnceLock::from(full.error_counter())),
            reported: 0,
            loss_throttle: LogThrottle::new(),
            error_throttle: LogThrottle::new(),
        };
        tracing::subscriber::with_default(subscriber, || {
            writer.write_all(b"line\n").unwrap();
            writer.write_all(b"line\n").unwrap();
        });
        drop(own_guard);
        let text = log.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("log=\"access\" lost=3\n"), "{text}");
    }

    #[test]
    fn write_error_is_reported() {
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
        let mut writer = WriterWorker {
            out: BufWriter::new(Full),
            name: "access",
            lost: Arc::default(),
            reported: 0,
            loss_throttle: LogThrottle::new(),
            error_throttle: LogThrottle::new(),
        };
        tracing::subscriber::with_default(subscriber, || {
            writer.write_all(b"line\n").unwrap();
            writer.flush().unwrap_err();
        });
        drop(own_guard);
        let text = log.text();
        assert!(
            text.contains("log=\"access\" error=no storage space"),
            "{text}"
        );
    }
}
