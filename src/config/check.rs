//! Finds contradictions between values that are each valid.

mod acme;
mod admin;
mod found;
mod health;
mod pool;
mod route;

use super::{
    AdminAddress, Config, Diagnostic, DurationValue, PingLegs, ProxyProtocol, Session,
    written::SourceMap,
};
use found::CheckContext;
use std::net::{IpAddr, SocketAddr};

/// Returns every contradiction in the whole configuration.
pub(super) fn check(config: &Config, source_map: &SourceMap) -> Vec<Diagnostic> {
    let mut context = CheckContext {
        config,
        source_map,
        diagnostics: Vec::new(),
    };
    listeners(&mut context);
    admin::token(&mut context);
    limits(&mut context);
    drain(&mut context);
    if let Some(acme) = &config.acme {
        acme::check_acme(acme, &mut context);
    }
    session(
        "session",
        &config.session,
        &|context, key| context.in_section("session", key),
        &mut context,
    );
    for (name, pool) in &config.pools {
        pool::pool(name, pool, &mut context);
    }
    if config.routes.is_empty() && !source_map.may_contain(None, &["routes"]) {
        context.add(
            None,
            "no routes: nothing would be served",
            "add [[routes]] with `hosts`, and `to` or `pool`",
        );
    }
    route::names(&mut context);
    for route in &config.routes {
        route::route(&route.value, route.at, &mut context);
    }
    context.diagnostics
}

fn listeners(context: &mut CheckContext<'_>) {
    let server = &context.config.server;
    let section = context.config.sections.get("server").copied();
    if server.https.is_empty()
        && server.http.is_empty()
        && !context.source_map.may_contain(section, &["https", "http"])
    {
        context.add(
            context.in_section("server", "https"),
            "no listeners: no client could connect",
            "give server.https an address, such as \"[::]:443\"",
        );
    }
    let https = server
        .https
        .iter()
        .map(|listen| ("server.https", listen.value.0, listen.at));
    let http = server
        .http
        .iter()
        .map(|listen| ("server.http", listen.value.0, listen.at));
    let admin = match server.admin.value {
        AdminAddress::Tcp(address) => Some(("server.admin", address, server.admin.at)),
        AdminAddress::Off | AdminAddress::Unix(_) => None,
    };
    let metrics = server
        .metrics
        .as_ref()
        .map(|metrics| ("server.metrics", metrics.value, metrics.at));
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, address, at) in https.chain(http).chain(admin).chain(metrics) {
        if let Some((other, its)) = taken.iter().find(|(_, other)| overlap(*other, address)) {
            let taken = match *its == address {
                true => format!("{address} is taken by {other} already"),
                false => format!("{address} is taken by {other}, {its}, already"),
            };
            context.add(at, taken, "give each listener an address of its own");
        }
        taken.push((key, address));
    }
    if server.proxy_protocol == ProxyProtocol::Require && server.trusted_proxies.is_empty() {
        context.add(
            context.in_section("server", "proxy_protocol"),
            "proxy_protocol = \"require\", but no proxy is trusted to send the header",
            "name the load balancer's addresses in server.trusted_proxies",
        );
    }
}

/// Returns whether the kernel would refuse to bind the second address. Port 0 is a different port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()) || wide == narrow
    };
    one.port() == other.port()
        && one.port() != 0
        && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

fn limits(context: &mut CheckContext<'_>) {
    let limits = &context.config.limits;
    for (key, period) in [
        ("tls_handshake", limits.tls_handshake),
        ("request_head", limits.request_head),
        ("body_idle", limits.body_idle),
        ("answer_idle", limits.answer_idle),
        ("idle", limits.idle),
    ] {
        positive(
            &format!("limits.{key}"),
            period,
            context.in_section("limits", key),
            context,
        );
    }
    if !(1024..=1 << 20).contains(&limits.head_size.0) {
        context.add(
            context.in_section("limits", "head_size"),
            format!(
                "limits.head_size = \"{}\" is out of range",
                limits.head_size
            ),
            "write something between \"1KiB\" and \"1MiB\"",
        );
    }
    if !(1..=10_000).contains(&limits.h2_streams) {
        context.add(
            context.in_section("limits", "h2_streams"),
            format!("limits.h2_streams = {} is out of range", limits.h2_streams),
            "write something between 1 and 10000",
        );
    }
}

fn drain(context: &mut CheckContext<'_>) {
    let drain = &context.config.drain;
    let place = context.in_section("drain", "window");
    positive("drain.window", drain.window, place, context);
    close_code(
        "drain.code",
        drain.code,
        context.in_section("drain", "code"),
        1012,
        context,
    );
}

/// Checks that a close code may be sent (RFC 6455 §7.4).
fn close_code(
    key: &str,
    code: u16,
    at: Option<super::Location>,
    default: u16,
    context: &mut CheckContext<'_>,
) {
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        context.add(
            at,
            format!("{key} = {code} must not be sent in a Close (RFC 6455 section 7.4)"),
            format!("leave it out for {default}; 1000 to 1003, 1007 to 1014 and 3000 to 4999 may be sent"),
        );
    }
}

/// Finds the place of a key.
type Place<'a> = &'a dyn Fn(&CheckContext<'_>, &str) -> Option<super::Location>;

/// Checks one `session` table; `name` is `session` for the defaults, or names the route.
fn session(name: &str, session: &Session, place: Place<'_>, context: &mut CheckContext<'_>) {
    let pings = session.ping.legs != PingLegs::Off;
    for (key, period, line) in [
        (
            "handshake_timeout",
            session.handshake_timeout,
            "handshake_timeout",
        ),
        ("close_timeout", session.close_timeout, "close_timeout"),
        ("ping.interval", session.ping.interval, "ping"),
        ("ping.timeout", session.ping.timeout, "ping"),
    ] {
        if line != "ping" || pings {
            positive(
                &format!("{name}.{key}"),
                period,
                place(context, line),
                context,
            );
        }
    }
    for (key, size) in [
        ("max_message", session.max_message),
        ("max_frame", session.max_frame),
    ] {
        if size.0 == 0 {
            let message = format!("{name}.{key} = \"0B\" would let no message pass");
            context.add(
                place(context, key),
                message,
                "leave it out for the default, \"64MiB\"",
            );
        }
    }
    close_code(
        &format!("{name}.backend_gone_code"),
        session.backend_gone_code,
        place(context, "backend_gone_code"),
        1011,
        context,
    );
}

fn positive(
    key: &str,
    period: DurationValue,
    at: Option<super::Location>,
    context: &mut CheckContext<'_>,
) {
    if period.0.is_zero() {
        context.add(
            at,
            format!("{key} = \"0s\" leaves no time at all"),
            "write how long it may take, such as \"10s\"",
        );
    }
}
