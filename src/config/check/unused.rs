//! Warns of named things that nothing uses: pools without a route, and settings whose counterpart is missing.

use crate::config::{
    check::{CheckContext, guard::lists, path},
    schema::{route::ClientCert, tls::Challenge},
    values::{address::AdminAddress, pattern::HostPattern},
};
use std::collections::HashSet;

/// Adds a warning for each thing that is not used.
pub(crate) fn unused(context: &mut CheckContext<'_>) {
    let config = context.config;
    let named = config.routes.iter().filter_map(|route| route.pool.as_ref());
    let named: HashSet<&str> = named.map(|name| name.as_str()).collect();
    for (name, pool) in &config.pools {
        if !named.contains(name.as_str()) {
            context.add(
                pool.at,
                format!("no route uses the pool `{name}`"),
                format!("write pool = \"{name}\" in a route, or remove [pools.{name}]"),
            );
        }
        path::health(name, pool, context);
    }
    for (name, guard) in &config.guards {
        if !config.routes.iter().any(|route| lists(route, name)) {
            context.add(
                guard.at,
                format!("no route lists the guard `{name}`"),
                format!("write guards = [\"{name}\"] in a route, or remove [guards.{name}]"),
            );
        }
    }
    let asks = |cert: ClientCert| cert != ClientCert::Off;
    if config.tls.client_ca.is_some() && !config.routes.iter().any(|route| asks(route.client_cert))
    {
        context.add(
            context.in_section("tls", "client_ca"),
            "tls.client_ca is not used: no route requests client certificates",
            "write client_cert = \"require\" in a route, or remove client_ca",
        );
    }
    if !config.server.admin_token.expose().is_empty()
        && config.server.admin.value == AdminAddress::Off
    {
        context.add(
            context.in_section("server", "admin_token"),
            "server.admin_token is not used: there is no admin listener",
            "write admin = \"127.0.0.1:9180\", or remove admin_token",
        );
    }
    if let Some(acme) = &config.acme
        && acme.dns.is_some()
        && acme.challenge != Challenge::Dns01
        && !config.routes.iter().any(|route| {
            let is_wildcard = |host: &HostPattern| matches!(host, HostPattern::Under(_));
            route.acme && route.hosts.iter().any(is_wildcard)
        })
    {
        context.add(
            context.in_section("acme", "dns"),
            "acme.dns is not used: no host is a wildcard, and the challenge is another one",
            "write challenge = \"dns-01\", or remove dns",
        );
    }
}
