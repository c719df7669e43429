//! Finds contradictions between values that are each valid. Pools, routes and warnings have files of their own.

pub(crate) mod guard;
pub(crate) mod path;
pub(crate) mod pool;
pub(crate) mod proxy_variable;
pub(crate) mod route;
pub(crate) mod shadowed;
pub(crate) mod unused;
pub(crate) mod warning;

use crate::config::{
    diagnostic::{Diagnostic, Location},
    parse::SourceMap,
    schema::{
        Config,
        server::ProxyProtocol,
        session::{PingLegs, Session},
        tls::{Acme, Challenge},
    },
    values::{address::AdminAddress, units::DurationValue},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The diagnostics found, and the configuration that is checked.
pub(crate) struct CheckContext<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source_map: &'a SourceMap,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Returns every contradiction in the whole configuration.
pub(crate) fn check(config: &Config, source_map: &SourceMap) -> Vec<Diagnostic> {
    let mut context = CheckContext {
        config,
        source_map,
        diagnostics: Vec::new(),
    };
    listeners(&mut context);
    token(&mut context);
    limits(&mut context);
    drain(&mut context);
    if let Some(acme) = &config.acme {
        check_acme(acme, &mut context);
    }
    session(
        "session",
        &config.session,
        |context: &CheckContext<'_>, key: &str| context.in_section("session", key),
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
    for (name, guard) in &config.guards {
        guard::guard(name, guard, &mut context);
    }
    route::names(&mut context);
    for route in &config.routes {
        route::route(&route.value, route.at, &mut context);
    }
    context.diagnostics
}

// === impl CheckContext ===

impl CheckContext<'_> {
    pub(crate) fn add(
        &mut self,
        at: Option<Location>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            at,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Returns the location of `key` in a section such as `[limits]`.
    fn in_section(&self, section: &str, key: &str) -> Option<Location> {
        self.in_table(self.config.sections.get(section).copied(), key)
    }

    /// Returns whether a key of a section may be present although it was not read, because it is invalid.
    fn is_unknown(&self, section: &str, keys: &[&str]) -> bool {
        let table = self.config.sections.get(section).copied();
        self.source_map.may_contain(None, &[section])
            || table.is_some() && self.source_map.may_contain(table, keys)
    }

    /// Returns the location of `key` in the table at `table`, or that of the table if the key is not written there.
    fn in_table(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.written_in(table, key).or(table)
    }

    /// Returns the location of `key` in the table at `table`, if it is written there.
    fn written_in(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.source_map.keys.get(&(table?, key.to_owned())).copied()
    }
}

fn listeners(context: &mut CheckContext<'_>) {
    let server = &context.config.server;
    let section = context.config.sections.get("server").copied();
    if server.https.is_empty()
        && server.http.is_empty()
        && server.cleartext.is_empty()
        && !context
            .source_map
            .may_contain(section, &["https", "http", "cleartext"])
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
    let cleartext = server
        .cleartext
        .iter()
        .map(|listen| ("server.cleartext", listen.value.0, listen.at));
    let http = http.chain(cleartext);
    let admin = match server.admin.value {
        AdminAddress::Tcp(address) => Some(("server.admin", address, server.admin.at)),
        AdminAddress::Off | AdminAddress::Unix(_) => None,
    };
    let metrics = server
        .metrics
        .as_ref()
        .map(|metrics| ("server.metrics", metrics.value, metrics.at));
    // The default in the place of an invalid address.
    let is_replaced = |key: &str, at: Option<Location>| {
        let name = key.trim_start_matches("server.");
        at.is_none() && context.is_unknown("server", &[name])
    };
    let all = https.chain(http).chain(admin).chain(metrics);
    let all: Vec<_> = all.filter(|(key, _, at)| !is_replaced(key, *at)).collect();
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, address, at) in all {
        if let Some((other, its)) = taken.iter().find(|(_, other)| overlap(*other, address)) {
            let taken = if *its == address {
                format!("{address} is taken by {other} already")
            } else {
                format!("{address} is taken by {other}, {its}, already")
            };
            context.add(at, taken, "give each listener an address of its own");
        }
        taken.push((key, address));
    }
    let trusts_none =
        server.trusted_proxies.is_empty() && !context.is_unknown("server", &["trusted_proxies"]);
    if !server.cleartext.is_empty() && trusts_none {
        context.add(
            context.in_section("server", "cleartext"),
            "server.cleartext, but no proxy is trusted, so that no connection would be accepted",
            "name the load balancer's addresses in server.trusted_proxies",
        );
    }
    if server.proxy_protocol == ProxyProtocol::Require && trusts_none {
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

/// Checks `[acme]`: challenges need listeners, and some CAs need external account binding.
fn check_acme(acme: &Acme, context: &mut CheckContext<'_>) {
    let server = &context.config.server;
    let has_no_https = server.https.is_empty() && !context.is_unknown("server", &["https"]);
    let has_no_http = server.http.is_empty()
        && server.cleartext.is_empty()
        && !context.is_unknown("server", &["http", "cleartext"]);
    match acme.challenge {
        Challenge::TlsAlpn01 if has_no_https => context.add(
            context.in_section("acme", "challenge"),
            "challenge = \"tls-alpn-01\", but there is no TLS listener that could answer it",
            "give server.https the address \"[::]:443\"; the CA always connects to port 443",
        ),
        Challenge::Http01 if has_no_http => context.add(
            context.in_section("acme", "challenge"),
            "challenge = \"http-01\", but there is no clear-text listener that could answer it",
            "give server.http the address \"[::]:80\"; the CA always connects to port 80",
        ),
        Challenge::Dns01 if acme.dns.is_none() && !context.is_unknown("acme", &["dns"]) => context.add(
            context.in_section("acme", "challenge"),
            "challenge = \"dns-01\", but nothing that could change DNS",
            "name two executables: dns = { present = \"/etc/lockgate/dns-present\", cleanup = \"/etc/lockgate/dns-cleanup\" }",
        ),
        _ => {}
    }
    eab(acme, context);
    if acme.retry.0 < Duration::from_secs(1) {
        context.add(
            context.in_section("acme", "retry"),
            format!("acme.retry = \"{}\" is too short", acme.retry),
            "write at least \"1s\"",
        );
    }
}

fn eab(acme: &Acme, context: &mut CheckContext<'_>) {
    let at = context.in_section("acme", "eab");
    let (kid, hmac) = (&acme.eab.kid, acme.eab.hmac.expose());
    match (kid.is_empty(), hmac.is_empty()) {
        (true, true) if context.is_unknown("acme", &["eab"]) => {}
        (true, true) if acme.directory.wants_eab() => context.add(
            context.in_section("acme", "directory"),
            format!(
                "\"{}\" takes no account without external binding",
                acme.directory
            ),
            "get a key from the CA and write eab = { kid = \"…\", hmac = \"${EAB_HMAC}\" }",
        ),
        (true, true) => {}
        (false, false) if URL_SAFE_NO_PAD.decode(hmac.trim_end_matches('=')).is_err() => context
            .add(
                at,
                "acme.eab.hmac is not base64url",
                "copy it as the CA shows it: letters, digits, `-` and `_`",
            ),
        (false, false) => {}
        _ => context.add(
            at,
            "acme.eab requires both `kid` and `hmac`",
            "the CA gives both; an environment variable that is not set counts as empty",
        ),
    }
}

/// Checks `server.admin_token`: only characters that an Authorization header may contain.
fn token(context: &mut CheckContext<'_>) {
    let token = context.config.server.admin_token.expose();
    // RFC 6750 §2.1
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !token.bytes().all(fits) {
        context.add(
            context.in_section("server", "admin_token"),
            "server.admin_token has characters that a header must not contain",
            "use letters, digits and - . _ ~ + / =, as generated by `openssl rand -hex 32`",
        );
    }
}

/// Checks that a close code may be sent (RFC 6455 §7.4).
fn close_code(
    key: &str,
    code: u16,
    at: Option<Location>,
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

/// Checks one `session` table; `name` is `session` for the defaults, or names the route.
fn session(
    name: &str,
    session: &Session,
    place: impl Fn(&CheckContext<'_>, &str) -> Option<Location>,
    context: &mut CheckContext<'_>,
) {
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
    at: Option<Location>,
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
