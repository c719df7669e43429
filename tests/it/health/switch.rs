//! A backend that can be switched off and on.

use crate::harness::Backend;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{net::TcpListener, task::JoinHandle};

/// An echo server that can stop listening while its sessions stay open, and listen again on the same port.
pub(super) struct Switch {
    pub(super) address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

// === impl Switch ===

impl Switch {
    pub(super) async fn on() -> Switch {
        // An address that only this process uses, so that the port stays available while it is unbound.
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let own = Ipv4Addr::new(127, 77, high, low.clamp(1, 254));
        let mut switch = Switch {
            address: (own, 0).into(),
            accepting: None,
        };
        switch.turn_on().await;
        switch
    }

    /// Returns a switch whose port refuses connections.
    pub(super) async fn off() -> Switch {
        let mut switch = Switch::on().await;
        switch.turn_off().await;
        switch
    }

    pub(super) async fn turn_on(&mut self) {
        if self.accepting.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.address).await.expect("its own port");
        self.address = listener.local_addr().expect("bound");
        self.accepting = Some(tokio::spawn(Backend::echo_on(listener)));
    }

    /// Stops listening: connections are refused.
    pub(super) async fn turn_off(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
    }
}
