//! Watches files for changes: those of the configuration, and those of the current certificates.

use super::Server;
use crate::{config::Watch, tls};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

// === impl Server ===

impl Server {
    /// Spawns a task that reports changes of these files. A separate task, because the receiver's `select!` cancels its wait
    /// often.
    pub(super) fn watch_config(&self, files: &[PathBuf]) -> mpsc::Receiver<()> {
        let (sender, changes) = mpsc::channel(1);
        let mut watch = Watch::new(files.to_vec());
        let tasks = self.context.tasks.clone();
        self.context.tasks.spawn(async move {
            loop {
                tokio::select! {
                    _ = watch.changed() => {}
                    () = sender.closed() => return,
                    () = tasks.stopping() => return,
                }
                // If the queue is full, a notification is already pending.
                let _ = sender.try_send(());
            }
        });
        changes
    }

    /// Spawns a task that reads the files of the current certificates again when they change. It replaces the previous task.
    pub(super) fn watch_certificates(&mut self) {
        self.certificate_watch.cancel();
        self.certificate_watch = CancellationToken::new();
        let certificates = self.context.live.snapshot().certificates.clone();
        let watch = tls::watch_files(certificates, self.context.metrics.clone());
        let (cancelled, tasks) = (self.certificate_watch.clone(), self.context.tasks.clone());
        self.context.tasks.spawn(async move {
            tokio::select! {
                () = watch => {}
                () = cancelled.cancelled() => {}
                () = tasks.stopping() => {}
            }
        });
    }
}
