//! Pebble's start, its death, and its sleep.

use super::{Pebble, programs::acme};
use crate::harness::within;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::time::Duration;
use tokio::{process::Child, time::timeout};

/// Between two questions whether it is there, and how long one may take.
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(1);

impl Pebble {
    /// Kills Pebble: its ports refuse connections, and its state is lost. DNS stays up.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut acme) = self.acme.take() {
            within("its death", acme.kill()).await.expect("it lived");
            self.kept = self.ports.keep();
        }
    }

    /// A new Pebble on the same ports, which knows no account and has another root.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.kept.clear();
        self.acme = Some(
            acme(
                self.folder.path(),
                &self.ports,
                self.nonce_reject,
                &self.log,
            )
            .0,
        );
        assert!(self.ready().await, "it does not start again");
    }

    /// Stops Pebble with SIGSTOP: the kernel still accepts connections, but there is no answer.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it is ours");
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED).expect("it is our child");
    }

    /// Goes on after [`Pebble::freeze`], with what it knew.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is ours");
    }

    /// Waits until both programs answer; `false` if one cannot have its ports, or ends.
    pub(super) async fn ready(&mut self) -> bool {
        within("Pebble's start", async {
            loop {
                if self.log.borrow().contains("address already in use") {
                    return false;
                }
                // Another process that has the port may be silent.
                if let Ok(true) = timeout(PATIENCE, self.answers()).await {
                    return true;
                }
                // There is no event to wait for, so it is asked again and again.
                let child = self.acme.as_mut().expect("just started");
                if timeout(PAUSE, child.wait()).await.is_ok() {
                    return false;
                }
            }
        })
        .await
    }

    /// The API's certificate is of our CA, so it is ours.
    async fn answers(&self) -> bool {
        self.names_answer().await && self.get(&self.directory()).await.is_ok()
    }

    fn pid(&self) -> Pid {
        let id = self.acme.as_ref().and_then(Child::id).expect("it is up");
        Pid::from_raw(id as i32).expect("a process id is positive")
    }
}
