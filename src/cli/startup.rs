//! The start of a process that serves: the signal handlers are installed before anything else, because a signal without
//! a handler ends the process, or is lost if it is the first one of a container.

use crate::{
    fs::deadline::BlockingWork,
    lifecycle::{inherited::Inherited, process::Signals},
};
use anyhow::{Context, bail};
use std::{panic, time::Duration};
use tokio::runtime::{self, Runtime};

/// The signals, and what was inherited, while the configuration is read.
pub(crate) struct Startup {
    pub(crate) inherited: Inherited,
    signals: Signals,
    /// Receives the signals until the runtime of the server does; that one depends on the configuration.
    runtime: EarlyRuntime,
}

/// A runtime whose threads are not awaited on drop, because they may hang in a file.
struct EarlyRuntime(Option<Runtime>);

// === impl Startup ===

impl Startup {
    /// Installs the signal handlers.
    pub(crate) fn begin() -> anyhow::Result<Startup> {
        // This comes first: it changes the environment, which is safe only while there is a single thread.
        let inherited = Inherited::from_systemd().context("LISTEN_FDS")?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let entered = runtime.enter();
        let signals = Signals::install().context("cannot listen for signals")?;
        drop(entered);
        Ok(Startup {
            inherited,
            signals,
            runtime: EarlyRuntime(Some(runtime)),
        })
    }

    /// Runs `work`, which reads files, on another thread, and returns its result.
    ///
    /// # Errors
    /// Fails at a stop signal, or if a file cannot be read within the deadline.
    pub(crate) fn read<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let signals = &mut self.signals;
        let runtime = self.runtime.0.as_ref().expect("it ends with this value");
        runtime.block_on(async {
            let mut work = BlockingWork::start(READ_TIMEOUT, work);
            let result = tokio::select! {
                biased;
                () = signals.stop() => bail!(STOPPED),
                result = work.finished() => result?,
            };
            Ok(result.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())))
        })
    }

    /// Returns the signals and what was inherited. The runtime of the server receives the signals from then on.
    pub(crate) fn finish(self) -> (Signals, Inherited) {
        let Startup {
            inherited,
            signals,
            runtime,
        } = self;
        drop(runtime);
        (signals, inherited)
    }
}

impl Drop for EarlyRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The error of a process that a stop signal ends before it serves.
pub(crate) const STOPPED: &str = "stopped by a signal before serving began";

/// Longer than the deadline of a reload, because nothing waits for a start.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
