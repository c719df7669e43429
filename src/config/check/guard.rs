//! Contradictions within guards, and between guards and the routes that list them.

use crate::config::{
    check::{CheckContext, close_code},
    diagnostic::{Located, Location},
    messages::suggest,
    schema::{
        guard::{Basic, ForwardAuth, Guard, Jwt, OnExpiry},
        route::Route,
    },
    values::{
        pattern::{HostPattern, PathPattern},
        selector::header_to_set,
    },
};
use std::time::Duration;

/// Checks a guard: its name, and the keys of its kind.
pub(crate) fn guard(name: &str, guard: &Located<Guard>, context: &mut CheckContext<'_>) {
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_name {
        context.add(
            guard.at,
            format!("`{name}` is not a guard's name"),
            "use letters, digits, `-`, `_` and `.`",
        );
    }
    let kinds = kinds(guard);
    let unread = context
        .source_map
        .may_contain(guard.at, &["jwt", "forward_auth", "basic"]);
    match kinds[..] {
        [] if !unread => context.add(
            guard.at,
            format!("the guard `{name}` has no kind"),
            format!(
                "write [guards.{name}.jwt], [guards.{name}.forward_auth] or [guards.{name}.basic]"
            ),
        ),
        [first, second, ..] => context.add(
            guard.at,
            format!("the guard `{name}` has two kinds, {first} and {second}"),
            "keep one of them, and write another guard for the other: a route may list both",
        ),
        _ => {}
    }
    if let Some(table) = &guard.jwt {
        jwt(name, table, context);
    }
    if let Some(table) = &guard.forward_auth {
        forward_auth(name, table, context);
    }
    if let Some(table) = &guard.basic {
        basic(name, table, context);
    }
}

/// Returns the keys of the kinds that a guard has.
fn kinds(guard: &Guard) -> Vec<&'static str> {
    let kinds = [
        ("jwt", guard.jwt.is_some()),
        ("forward_auth", guard.forward_auth.is_some()),
        ("basic", guard.basic.is_some()),
    ];
    let present = kinds.into_iter().filter(|(_, is_present)| *is_present);
    present.map(|(kind, _)| kind).collect()
}

fn jwt(name: &str, jwt: &Located<Jwt>, context: &mut CheckContext<'_>) {
    let is_missing = |context: &CheckContext<'_>, key: &str| {
        context.written_in(jwt.at, key).is_none() && !context.source_map.may_contain(jwt.at, &[key])
    };
    let place = |context: &CheckContext<'_>, key: &str| context.in_table(jwt.at, key);
    let secret = jwt.secret.expose();
    let has_secret = !secret.is_empty();
    if has_secret && !jwt.jwks.is_empty() {
        context.add(
            jwt.jwks.at,
            "both `secret` and `jwks`",
            "keep `secret` for tokens of your own application, or `jwks` for those of an issuer with public keys",
        );
    }
    if has_secret && secret.len() < MIN_SECRET_LEN {
        context.add(
            place(context, "secret"),
            format!(
                "the secret has {} bytes; HS256 needs {MIN_SECRET_LEN} (RFC 7518 section 3.2)",
                secret.len()
            ),
            "make one with `openssl rand -base64 32`, in the application too",
        );
    }
    let (hint_any, hint_name) = (
        "write issuer = \"\" if your application's tokens have no `iss`",
        "write issuer = \"https://id.example.com/\", exactly as the tokens have it in `iss`",
    );
    if is_missing(context, "issuer") {
        let hint = if has_secret { hint_any } else { hint_name };
        let message = format!("the guard `{name}` names no issuer");
        context.add(jwt.at, message, hint);
    } else if jwt.issuer.is_empty() && !has_secret && !is_missing(context, "issuer") {
        let message =
            "issuer = \"\" accepts tokens of every issuer, which only `secret` makes safe";
        context.add(place(context, "issuer"), message, hint_name);
    } else if !has_secret && jwt.jwks.is_empty() && !is_url(&jwt.issuer) && !jwt.issuer.is_empty() {
        context.add(
            place(context, "issuer"),
            format!("`{}` is not the URL of an issuer", jwt.issuer),
            "write it with https://, or name the key set: jwks = \"https://…\"",
        );
    }
    if !jwt.jwks.is_empty() && jwt.jwks_file().is_none() && !is_url(&jwt.jwks) {
        context.add(
            jwt.jwks.at,
            format!(
                "`{}` is neither an http:// or https:// URL nor a file",
                jwt.jwks.value
            ),
            "write jwks = \"https://id.example.com/jwks.json\", or \"keys.json\"",
        );
    }
    if jwt.audience.is_empty() && !context.source_map.may_contain(jwt.at, &["audience"]) {
        context.add(
            place(context, "audience"),
            format!("the guard `{name}` names no audience"),
            "write audience = [\"chat\"], the name that your issuer puts into `aud`, or [\"*\"] for any",
        );
    }
    if jwt.audience.len() > 1 && jwt.audience.iter().any(|it| it == "*") {
        context.add(
            place(context, "audience"),
            "audience has \"*\" and others",
            "\"*\" alone accepts every audience",
        );
    }
    if let Some(wrong) = jwt
        .algorithms
        .iter()
        .find(|it| it.is_symmetric() != has_secret)
    {
        let hint = if has_secret {
            "with `secret` use HS256, HS384 or HS512"
        } else {
            "HS256 and the like use a `secret`; with keys of an issuer use RS256, ES256 or EdDSA"
        };
        context.add(
            place(context, "algorithms"),
            format!("{wrong:?} does not fit the keys of this guard"),
            hint,
        );
    }
    if jwt.leeway.0 > MAX_LEEWAY {
        context.add(
            place(context, "leeway"),
            "leeway: an expired token would be valid for more than ten minutes",
            "30s to 60s are usual for clocks that differ",
        );
    }
    for (header, claim) in &jwt.headers {
        set_header(header, place(context, "headers"), context);
        if claim.is_empty() {
            context.add(
                place(context, "headers"),
                format!("the header {header} has no claim"),
                "write it as headers = { x-user = \"sub\" }",
            );
        }
    }
    close_code(
        &format!("guards.{name}.jwt.close_code"),
        jwt.close_code,
        place(context, "close_code"),
        3000,
        context,
    );
    refresh(name, jwt, context);
}

/// Checks the path for newer tokens: no route may have it.
fn refresh(name: &str, jwt: &Located<Jwt>, context: &mut CheckContext<'_>) {
    let (path, at) = (&jwt.refresh_path, context.in_table(jwt.at, "refresh_path"));
    if path.is_empty() {
        return;
    }
    let is_plain = path
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte));
    let has_dots = path.split('/').any(|part| part == "." || part == "..");
    if !path.starts_with('/') || !is_plain || has_dots || path.contains("//") {
        return context.add(
            at,
            format!("`{path}` is not a path"),
            "write it as refresh_path = \"/auth/refresh\"",
        );
    }
    if jwt.on_expiry == OnExpiry::Ignore {
        context.add(
            at,
            "refresh_path with on_expiry = \"ignore\": no session is closed, so none is extended",
            "leave one of them out",
        );
    }
    let config = context.config;
    let guarded = config.routes.iter().filter(|route| lists(route, name));
    let hosts: Vec<&HostPattern> = guarded.flat_map(|route| &route.hosts).collect();
    let claims = |route: &Route| {
        matches!(&route.path, PathPattern::Exact(exact) if **exact == **path)
            && route.hosts.iter().any(|host| hosts.contains(&host))
    };
    if let Some(route) = config.routes.iter().find(|route| claims(route)) {
        context.add(
            at,
            format!("the route `{}` has the same path", route.name.value),
            "choose a path that no route has, such as \"/auth/refresh\"",
        );
    }
}

fn forward_auth(name: &str, auth: &Located<ForwardAuth>, context: &mut CheckContext<'_>) {
    let place = |context: &CheckContext<'_>, key: &str| context.in_table(auth.at, key);
    if auth.url.is_empty() {
        if !context.source_map.may_contain(auth.at, &["url"]) {
            context.add(
                place(context, "url"),
                format!("the guard `{name}` names no service"),
                "write url = \"http://127.0.0.1:9091\"",
            );
        }
    } else if !is_url(&auth.url) {
        context.add(
            auth.url.at,
            format!("`{}` is not an http:// or https:// URL", auth.url.value),
            "write it as url = \"http://127.0.0.1:9091\"",
        );
    }
    service(auth, context);
    copies(auth, context);
    rechecks(name, auth, context);
    close_code(
        &format!("guards.{name}.forward_auth.close_code"),
        auth.close_code,
        place(context, "close_code"),
        3000,
        context,
    );
}

/// Checks how the service is asked.
fn service(auth: &Located<ForwardAuth>, context: &mut CheckContext<'_>) {
    let uri: Option<http::Uri> = auth.url.parse().ok();
    if let Some(uri) = &uri {
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            context.add(
                auth.url.at,
                "url has a user name or a password, which would not be sent",
                "leave it out: the service receives the credentials of the client",
            );
        }
        if auth.url.contains('#') {
            let message = "url has a fragment, which is not sent";
            context.add(auth.url.at, message, "leave out `#` and what follows it");
        }
    }
    let is_cleartext = uri.is_some_and(|uri| uri.scheme_str() == Some("http"));
    if let Some(ca) = auth.ca.as_ref().filter(|_| is_cleartext) {
        context.add(
            ca.at,
            "ca with an http:// URL: no certificate is verified",
            "write https:// in `url`, or leave out `ca`",
        );
    }
    if auth.timeout.0.is_zero() || auth.timeout.0 > MAX_AUTHORITY_TIMEOUT {
        context.add(
            context.in_table(auth.at, "timeout"),
            "timeout is not within 1ms and 60s",
            "5s is usual: each request of a client waits for the service",
        );
    }
    if !(8192..=1024 * 1024).contains(&auth.headers_max.0) {
        context.add(
            context.in_table(auth.at, "headers_max"),
            "headers_max is not within 8KiB and 1MiB",
            "64KiB is enough for usual tokens and cookies",
        );
    }
}

/// Checks the headers that are copied.
fn copies(auth: &Located<ForwardAuth>, context: &mut CheckContext<'_>) {
    let at = context.in_table(auth.at, "copy");
    let preset = auth.preset.copies().iter();
    let mut seen: Vec<String> = preset.map(|name| name.to_string()).collect();
    for (from, to) in auth.copies() {
        if from.parse::<http::HeaderName>().is_err() {
            context.add(
                at,
                format!("`{from}` is not the name of a header"),
                "write copy = [\"Remote-User\"], or with another name \"X-Auth-Request-User > X-User\"",
            );
            continue;
        }
        set_header(to, at, context);
        let to = to.to_ascii_lowercase();
        if seen.contains(&to) {
            let message = format!("copy sets the header {to} twice");
            context.add(at, message, "keep one of the entries");
        }
        seen.push(to);
    }
}

/// Checks how sessions are checked again.
fn rechecks(name: &str, auth: &Located<ForwardAuth>, context: &mut CheckContext<'_>) {
    let recheck = auth.recheck.0;
    if recheck.is_zero() {
        let default = ForwardAuth::default();
        let unused = [
            ("grace", auth.grace != default.grace),
            ("close_code", auth.close_code != default.close_code),
        ];
        for (key, _) in unused.iter().filter(|(_, is_changed)| *is_changed) {
            context.add(
                context.in_table(auth.at, key),
                format!("{key} without recheck: the guard `{name}` asks at the handshake only"),
                "add recheck = \"5m\", or leave the key out",
            );
        }
    } else if recheck < MIN_RECHECK {
        context.add(
            context.in_table(auth.at, "recheck"),
            "recheck is shorter than 1s: every session would ask more than once per second",
            "1m to 5m are usual; 0s: never",
        );
    }
}

fn basic(name: &str, basic: &Located<Basic>, context: &mut CheckContext<'_>) {
    let place = |context: &CheckContext<'_>, key: &str| context.in_table(basic.at, key);
    if basic.users.is_none() && !context.source_map.may_contain(basic.at, &["users"]) {
        context.add(
            place(context, "users"),
            format!("the guard `{name}` has no users"),
            "name a file: users = \"users.htpasswd\", made by `htpasswd -B -c users.htpasswd NAME`",
        );
    }
    if !basic.header.is_empty() {
        set_header(&basic.header, place(context, "header"), context);
    }
    let is_plain = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    if !basic.realm.chars().all(is_plain) {
        context.add(
            place(context, "realm"),
            "realm has characters that a header cannot carry",
            "use letters, digits and blanks",
        );
    }
}

/// Checks the name of a header that backends receive.
fn set_header(header: &str, at: Option<Location>, context: &mut CheckContext<'_>) {
    if let Err(why) = header_to_set(header) {
        context.add(
            at,
            format!("no backend can receive the header `{header}`: {why}"),
            "use a name such as \"x-user\"",
        );
    }
}

/// Checks the guards that a route lists.
pub(crate) fn of_route(route: &Route, at: Option<Location>, context: &mut CheckContext<'_>) {
    let config = context.config;
    let mut kinds_seen: Vec<&str> = Vec::new();
    let mut set: Vec<(String, &str)> = Vec::new();
    for (index, name) in route.guards.iter().enumerate() {
        let Some(guard) = config.guards.get(&name.value) else {
            if context.source_map.may_contain(None, &["guards"]) {
                continue;
            }
            let known: Vec<&str> = config.guards.keys().map(String::as_str).collect();
            let hint = match &known[..] {
                [] => format!("add [guards.{}.jwt] with its keys", name.value),
                known => suggest(name, known, "guards"),
            };
            context.add(
                name.at.or(at),
                format!("there is no guard `{}`", name.value),
                hint,
            );
            continue;
        };
        if route.guards[..index]
            .iter()
            .any(|earlier| earlier.value == name.value)
        {
            let message = format!("the guard `{}` is listed twice", name.value);
            context.add(name.at.or(at), message, "list it once");
            continue;
        }
        for kind in kinds(guard) {
            if kinds_seen.contains(&kind) {
                context.add(
                    name.at.or(at),
                    format!("two guards of the kind {kind} on one route"),
                    "keep one of them, or write a second route: a session has one identity of each kind",
                );
            }
            kinds_seen.push(kind);
        }
        for header in guard.set_headers() {
            if let Some((_, other)) = set.iter().find(|(set, _)| *set == header) {
                context.add(
                    name.at.or(at),
                    format!(
                        "the guards `{other}` and `{}` both set the header {header}",
                        name.value
                    ),
                    "give one of them another name",
                );
            }
            set.push((header, &name.value));
        }
    }
}

/// Returns whether the route lists the guard.
pub(crate) fn lists(route: &Route, guard: &str) -> bool {
    route.guards.iter().any(|name| name.value == guard)
}

fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}

/// In bytes: the length of the hash (RFC 7518 §3.2).
const MIN_SECRET_LEN: usize = 32;

const MAX_AUTHORITY_TIMEOUT: Duration = Duration::from_secs(60);

const MIN_RECHECK: Duration = Duration::from_secs(1);

const MAX_LEEWAY: Duration = Duration::from_secs(600);
