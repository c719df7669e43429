//! The deadline of commands that read the files of a configuration.

use crate::{cli::progress::ProgressDisplay, fs::deadline};
use std::time::Duration;

/// Runs `work`, which reads files, and returns its result.
///
/// # Errors
/// Fails if a file cannot be read within the deadline, for example on a mount whose server does not answer.
pub(crate) fn read_files<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let _progress = ProgressDisplay::start("reading files");
    Ok(deadline::within(READ_TIMEOUT, work)?)
}

/// Longer than the deadline of a reload, because nothing waits for a start.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
