//! Watches files for changes: those of the configuration, and those of the current certificates.

use crate::{
    config::{Watch, WatchedPath},
    http::context::Context,
    lifecycle::tasks::Tasks,
    tls::certs,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

/// The task that reads the files of the current certificates again when they change.
#[derive(Debug)]
pub(crate) struct CertificateWatch {
    context: Arc<Context>,
    /// Ends the task on drop.
    running: Option<DropGuard>,
}

/// An event of the watch over the files of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigEvent {
    /// The watch has started. The files may have changed since they were read.
    Watching,
    /// A file has changed.
    Changed,
}

// === impl CertificateWatch ===

impl CertificateWatch {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        CertificateWatch {
            context,
            running: None,
        }
    }

    /// Starts the task for the certificates of the current gateway. It replaces the previous task.
    pub(crate) fn refresh(&mut self) {
        self.running = None;
        let certificates = self.context.live.snapshot().certificates.clone();
        let watch = certs::watch_files(certificates, self.context.metrics.clone());
        let stop = self.context.tasks.stop_token();
        self.context.tasks.spawn_until(stop.clone(), watch);
        self.running = Some(stop.drop_guard());
    }
}

/// Spawns a task that reports changes of these files until the receiver is dropped. A separate task, because the
/// receiver's `select!` cancels its wait often.
pub(crate) fn watch_config(files: Vec<WatchedPath>, tasks: &Tasks) -> mpsc::Receiver<ConfigEvent> {
    let (sender, events) = mpsc::channel(1);
    if files.is_empty() {
        return events;
    }
    tasks.spawn_until(tasks.stop_token(), async move {
        let watch = tokio::select! {
            watch = Watch::open(files) => watch,
            () = sender.closed() => return,
        };
        let Some(mut watch) = watch else { return };
        // A program may be writing the files, and the first part of them would be read.
        tokio::select! {
            () = watch.settle() => {}
            () = sender.closed() => return,
        }
        let _ = sender.try_send(ConfigEvent::Watching);
        loop {
            tokio::select! {
                _ = watch.changed() => {}
                () = sender.closed() => return,
            }
            // If the queue is full, a notification is already pending.
            let _ = sender.try_send(ConfigEvent::Changed);
        }
    });
    events
}
