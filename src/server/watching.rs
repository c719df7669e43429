//! Files that are looked at while it runs: the configuration's, and those of the certificates in force.

use super::Server;
use crate::{config::Watch, tls};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

// === impl Server ===

impl Server {
    /// Reports changes of these files. Runs in a separate task because the receiver's `select!` often drops its wait.
    pub(super) fn watch_config(&self, files: &[PathBuf]) -> mpsc::Receiver<()> {
        let (tell, changes) = mpsc::channel(1);
        let mut watch = Watch::new(files.to_vec());
        let tasks = self.context.tasks.clone();
        self.context.tasks.spawn(async move {
            loop {
                tokio::select! {
                    _ = watch.changed() => {}
                    () = tell.closed() => return,
                    () = tasks.stopping() => return,
                }
                // A notification is already pending.
                let _ = tell.try_send(());
            }
        });
        changes
    }

    /// Reads the files of the certificates in force again when they change, instead of those watched before.
    pub(super) fn watch_certificates(&mut self) {
        self.certificates.cancel();
        self.certificates = CancellationToken::new();
        let certificates = self.context.live.snapshot().certificates.clone();
        let watch = tls::watch_files(certificates, self.context.metrics.clone());
        let (gone, tasks) = (self.certificates.clone(), self.context.tasks.clone());
        self.context.tasks.spawn(async move {
            tokio::select! {
                () = watch => {}
                () = gone.cancelled() => {}
                () = tasks.stopping() => {}
            }
        });
    }
}
