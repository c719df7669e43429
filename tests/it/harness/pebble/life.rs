//! Starting, stopping and freezing Pebble.

use super::{Pebble, programs::acme};
use crate::harness::within;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::time::Duration;
use tokio::{process::Child, time::timeout};

/// Interval between two readiness checks, and the timeout of one.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

impl Pebble {
    /// Kills Pebble: its ports refuse connections, and its state is lost. DNS stays up.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut acme) = self.acme.take() {
            within("the end of Pebble", acme.kill())
                .await
                .expect("it was running");
            self.reserved = self.ports.reserve();
        }
    }

    /// Starts a new Pebble on the same ports, with a new root and without accounts.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.reserved.clear();
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

    /// Resumes after [`Pebble::freeze`]; the state is unchanged.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is ours");
    }

    /// Waits until both programs answer; returns `false` if a port is in use or a program exits.
    pub(super) async fn ready(&mut self) -> bool {
        within("Pebble's start", async {
            loop {
                if self.log.borrow().contains("address already in use") {
                    return false;
                }
                // Another process on the port may never answer.
                if let Ok(true) = timeout(POLL_TIMEOUT, self.answers()).await {
                    return true;
                }
                // No event signals readiness, so that it is polled.
                let child = self.acme.as_mut().expect("just started");
                if timeout(POLL_INTERVAL, child.wait()).await.is_ok() {
                    return false;
                }
            }
        })
        .await
    }

    /// Returns whether both programs answer. The API's certificate proves that it is this Pebble.
    async fn answers(&self) -> bool {
        self.dns_answers().await && self.get(&self.directory()).await.is_ok()
    }

    fn pid(&self) -> Pid {
        let id = self.acme.as_ref().and_then(Child::id).expect("it is up");
        Pid::from_raw(id as i32).expect("a process id is positive")
    }
}
