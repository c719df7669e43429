//! A changed configuration that would close sessions: it waits until its files are stable, because a writer may have
//! finished only the first part of them.

use crate::{config::Source, server::active_config::NamedContents};
use std::{future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The files of a configuration that is not applied yet.
#[derive(Debug)]
pub(crate) struct DeferredReload {
    sources: Arc<[Source]>,
    contents: NamedContents,
    due: Instant,
    /// The time has passed, and the build that shows whether the files are the same has begun.
    is_checked: bool,
}

// === impl DeferredReload ===

impl DeferredReload {
    pub(crate) fn new(sources: Arc<[Source]>, contents: NamedContents) -> DeferredReload {
        DeferredReload {
            sources,
            contents,
            due: Instant::now() + STABLE_TIME,
            is_checked: false,
        }
    }

    /// Starts the time again.
    pub(crate) fn postpone(&mut self) {
        self.due = Instant::now() + STABLE_TIME;
        self.is_checked = false;
    }

    /// Returns whether it has these contents.
    pub(crate) fn is_of(&self, sources: &[Source], contents: &NamedContents) -> bool {
        *self.sources == *sources && self.contents == *contents
    }

    /// Returns whether a build that has ended began after the time, and so the configuration may be applied.
    pub(crate) fn take_is_due(&mut self) -> bool {
        std::mem::take(&mut self.is_checked)
    }
}

/// Completes when the build that checks a deferred configuration must begin, once for each. Cancel-safe.
pub(crate) async fn due(deferred: &mut Option<DeferredReload>) {
    match deferred {
        Some(deferred) if !deferred.is_checked => {
            sleep_until(deferred.due).await;
            deferred.is_checked = true;
        }
        _ => future::pending().await,
    }
}

/// The time without a change after which the files are complete. Programs that write a file in parts pause for less.
const STABLE_TIME: Duration = Duration::from_secs(2);
