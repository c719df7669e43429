//! Contradictions within `[acme]`: challenges need listeners, and some CAs need external account binding.

use super::{
    super::{Acme, Challenge},
    CheckContext,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::time::Duration;

pub(super) fn check_acme(acme: &Acme, context: &mut CheckContext<'_>) {
    let server = &context.config.server;
    match acme.challenge {
        Challenge::TlsAlpn01 if server.https.is_empty() => context.add(
            context.in_section("acme", "challenge"),
            "challenge = \"tls-alpn-01\", but there is no TLS listener that could answer it",
            "give server.https the address \"[::]:443\"; the CA always connects to port 443",
        ),
        Challenge::Http01 if server.http.is_empty() => context.add(
            context.in_section("acme", "challenge"),
            "challenge = \"http-01\", but there is no clear-text listener that could answer it",
            "give server.http the address \"[::]:80\"; the CA always connects to port 80",
        ),
        Challenge::Dns01 if acme.dns.is_none() => context.add(
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
