//! `lockgate demo`: a chat, and Lockgate in front of it, in one process.

mod chat;

use super::{args::DemoArgs, eprint, run};
use crate::{
    config::{Config, HostPattern, ListenAddress, RunTarget},
    lifecycle::Tasks,
};
use anyhow::Context;
use std::{
    net::{self, Ipv4Addr},
    process::ExitCode,
};
use tokio::net::TcpListener;

/// Serves `https://localhost:8443` until it receives a stop signal.
pub(super) fn demo(arguments: DemoArgs) -> anyhow::Result<ExitCode> {
    let backend = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .context("cannot listen on 127.0.0.1 for the backend of the demo")?;
    let address = backend
        .local_addr()
        .context("the backend of the demo has no address")?;
    let to = format!("ws://{address}").parse();
    let mut config = Config::for_target(RunTarget {
        acme: None,
        to: to.expect("an address and a port are a backend's address"),
        hosts: vec![HostPattern::Exact("localhost".into())],
        listen: match arguments.listen {
            Some(address) => vec![address],
            // Loopback only: the demo is not meant for other machines.
            None => vec![ListenAddress((Ipv4Addr::LOCALHOST, PORT).into())],
        },
        origins: Vec::new(),
    });
    arguments.overrides.apply(&mut config.server);
    run::serve(
        config,
        None,
        arguments.data.data.as_deref(),
        false,
        |server| {
            let backend = TcpListener::from_std(backend)?;
            let tasks = Tasks::default();
            tasks.spawn(chat::serve(backend, tasks.clone()));
            let port = run::https_port(server);
            eprint(format_args!(
                "  the demo is a chat: open https://localhost:{port} in two browser tabs"
            ));
            Ok(())
        },
    )
}

const PORT: u16 = 8443;
