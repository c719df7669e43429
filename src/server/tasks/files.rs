//! Watches files for changes: those of the configuration, and those of the current certificates.

use crate::{
    config::{OpenFiles, Watch, WatchedPath},
    http::context::Context,
    lifecycle::tasks::Tasks,
    tls::certs,
};
use std::sync::{Arc, OnceLock};
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
    /// The files may have changed since they were read: the watch has started, or a file was written and has the
    /// content that was reported last.
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
        let metrics = self.context.metrics.clone();
        let watch = move || certs::watch_files(certificates.clone(), metrics.clone());
        let stop = self.context.tasks.stop_token();
        let tasks = &self.context.tasks;
        tasks.spawn_loop("certificate-files", stop.clone(), watch);
        self.running = Some(stop.drop_guard());
    }
}

/// The watch over the files of the configuration; its task ends when this is dropped.
pub(crate) struct ConfigWatch {
    events: mpsc::Receiver<ConfigEvent>,
    /// Set once the watch has started.
    open_files: Arc<OnceLock<OpenFiles>>,
}

// === impl ConfigWatch ===

impl ConfigWatch {
    /// Spawns a task that reports changes of these files. A separate task, because the `select!` of the receiver
    /// cancels its wait often.
    pub(crate) fn start(files: Vec<WatchedPath>, tasks: &Tasks) -> ConfigWatch {
        let (sender, events) = mpsc::channel(1);
        let open_files = Arc::new(OnceLock::new());
        let config_watch = ConfigWatch {
            events,
            open_files: open_files.clone(),
        };
        if files.is_empty() {
            return config_watch;
        }
        tasks.spawn_loop("configuration-files", tasks.stop_token(), move || {
            report_changes(files.clone(), open_files.clone(), sender.clone())
        });
        config_watch
    }

    /// Waits for the next event; `None` if there are no files. Cancel-safe.
    pub(crate) async fn event(&mut self) -> Option<ConfigEvent> {
        self.events.recv().await
    }

    /// Records that a build reads the files, possibly another content than the watch has reported.
    pub(crate) fn note_read(&self) {
        if let Some(open_files) = self.open_files.get() {
            open_files.note_read();
        }
    }

    /// Returns whether a program is writing one of the files.
    pub(crate) fn is_being_written(&self) -> bool {
        let open_files = self.open_files.get();
        open_files.is_some_and(OpenFiles::is_being_written)
    }
}

/// Reports changes of these files until the receiver is dropped.
async fn report_changes(
    files: Vec<WatchedPath>,
    open_files: Arc<OnceLock<OpenFiles>>,
    sender: mpsc::Sender<ConfigEvent>,
) {
    let watch = tokio::select! {
        watch = Watch::open(files) => watch,
        () = sender.closed() => return,
    };
    let Some(mut watch) = watch else { return };
    let _ = open_files.set(watch.open_files());
    // A program may be writing the files, and the first part of them would be read.
    tokio::select! {
        () = watch.settle() => {}
        () = sender.closed() => return,
    }
    let _ = sender.try_send(ConfigEvent::Watching);
    loop {
        let changed = tokio::select! {
            changed = watch.changed() => changed,
            () = sender.closed() => return,
        };
        let event = if changed.is_empty() {
            ConfigEvent::Watching
        } else {
            ConfigEvent::Changed
        };
        // If the queue is full, a notification is already pending.
        let _ = sender.try_send(event);
    }
}
