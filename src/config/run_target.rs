//! The configuration without a file that `lockgate run --to` creates.

use crate::config::{
    diagnostic::{Diagnostics, Located, Severity},
    schema::{
        Config, Drain,
        route::{
            ClientCert, Framework, HandshakeRules, Only, PathEncoding, Route, Token, UNNAMED,
            all_networks, every_path, same_host,
        },
        server::{Limits, Server},
        session::{Session, SessionOverrides},
        tls::{Acme, Tls},
    },
    values::{
        address::BackendSource,
        network::ListenAddress,
        pattern::{HostPattern, OriginPattern},
    },
};
use std::{collections::BTreeMap, net::Ipv6Addr};

/// The flags of `lockgate run --to`; an empty one takes its default.
#[derive(Debug, Clone)]
pub struct RunTarget {
    /// The backend that receives all requests.
    pub to: BackendSource,
    /// The hosts; if empty, any host.
    pub hosts: Vec<HostPattern>,
    /// The listen addresses; if empty, `[::]:8443`, a port that needs no privilege.
    pub listen: Vec<ListenAddress>,
    /// The allowed origins; if empty, pages of the same host.
    pub origins: Vec<OriginPattern>,
    /// ACME instead of the development CA. If `listen` is empty, the listeners are those that the CA contacts:
    /// `[::]:443` and `[::]:80`.
    pub acme: Option<Acme>,
}

impl Config {
    /// Returns the configuration: one route to one backend, with certificates from the development CA or by ACME.
    pub fn for_target(to: RunTarget) -> Config {
        let or = |given: Vec<HostPattern>| {
            if given.is_empty() {
                vec![HostPattern::Any]
            } else {
                given
            }
        };
        let everywhere = |port: u16| ListenAddress((Ipv6Addr::UNSPECIFIED, port).into());
        let (listen, http) = match (to.listen.is_empty(), &to.acme) {
            (true, Some(_)) => (
                vec![everywhere(443)],
                vec![Located::nowhere(everywhere(80))],
            ),
            (true, None) => (vec![everywhere(8443)], Vec::new()),
            (false, _) => (to.listen, Vec::new()),
        };
        let route = Route {
            name: Located::nowhere(UNNAMED.to_owned()),
            hosts: or(to.hosts),
            path: every_path(),
            subprotocols: Vec::new(),
            headers: BTreeMap::new(),
            only: Only::Any,
            pool: None,
            to: Some(Located::nowhere(to.to)),
            guards: Vec::new(),
            strip_prefix: None,
            framework: Framework::None,
            origins: if to.origins.is_empty() {
                same_host()
            } else {
                to.origins
            },
            allow: all_networks(),
            deny: Vec::new(),
            client_cert: ClientCert::Off,
            handshake: HandshakeRules::Strict,
            host: None,
            path_encoding: PathEncoding::Normal,
            tap: false,
            acme: true,
            token: Token::default(),
            session: SessionOverrides::default(),
        };
        Config {
            server: Server {
                https: listen.into_iter().map(Located::nowhere).collect(),
                http,
                ..Server::default()
            },
            limits: Limits::default(),
            drain: Drain::default(),
            tls: Tls {
                dev_ca: to.acme.is_none(),
                ..Tls::default()
            },
            acme: to.acme,
            session: Session::default(),
            pools: BTreeMap::new(),
            guards: BTreeMap::new(),
            routes: vec![Located::nowhere(route)],
            sources: [].into(),
            watched: Vec::new(),
            warnings: Diagnostics::none(Severity::Warning),
            sections: BTreeMap::new(),
        }
    }
}
