//! Asks a service about each request, in the form that Traefik, nginx and Caddy use: a GET without the body, whose
//! response decides. The backend receives listed headers of the response; such headers of the client are removed.

use crate::{
    config::{self, AuthPreset, AuthRedirects, Diagnostic, Located},
    guard::{
        Denial, DenialReason,
        authority::{Authority, AuthorityAnswer},
        authorization::{AuthRequest, AuthServices, Authorized},
        recheck::{RecheckTiming, SessionRecheck},
        trust,
    },
    net::keep_alive::KeepAliveClient,
    proto::{cookie, handshake},
    registry::identity::SessionIdentity,
};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header, uri::PathAndQuery,
};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;

/// A guard that admits what a service admits.
#[derive(Debug)]
pub(crate) struct ForwardAuthGuard {
    authority: Arc<Authority>,
    /// Headers of the response, and their names for the backend.
    copied: Vec<(HeaderName, HeaderName)>,
    /// The beginning of further headers that are copied; "": none.
    copied_prefix: &'static str,
    /// The beginning of headers that clients must not send; "": none.
    reserved_prefix: &'static str,
    /// The header of the response that names the user.
    subject: Option<HeaderName>,
    /// The path of the page to sign in, to which a 401 leads pages.
    sign_in: Option<String>,
    passes_redirects: bool,
    recheck: Option<RecheckTiming>,
}

// === impl ForwardAuthGuard ===

impl ForwardAuthGuard {
    /// Builds the guard, and reads its files. Returns `None` after an error.
    pub(crate) fn build(
        name: &Arc<str>,
        auth: &Located<config::ForwardAuth>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ForwardAuthGuard> {
        // `check` has refused what does not parse.
        let url: Uri = auth.url.parse().ok()?;
        let tls = trust::client_config(auth.ca.as_ref(), diagnostics)?;
        let max_head_len = usize::try_from(auth.headers_max.0).unwrap_or(usize::MAX);
        let client = KeepAliveClient::new(&url, tls, max_head_len).ok()?;
        let path = match url.path() {
            "" | "/" => auth.preset.path(),
            path => path,
        };
        let target = match url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let shown = format!("{}://{authority}{path}", url.scheme_str()?);
        let target = PathAndQuery::try_from(target).ok()?;
        let authority = Authority::new(name.clone(), client, target, shown, auth.timeout.0);

        let listed = auth
            .copies()
            .filter_map(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let preset = auth.preset.copies().iter().map(|name| {
            let name = HeaderName::from_static(name);
            (name.clone(), name)
        });
        let copied: Vec<(HeaderName, HeaderName)> = preset.chain(listed).collect();
        let names_user = |(from, _): &&(HeaderName, HeaderName)| {
            from.as_str().ends_with("user") || from.as_str().ends_with("username")
        };
        let subject = copied.iter().find(names_user).map(|(from, _)| from.clone());
        let (copied_prefix, reserved_prefix) = match auth.preset {
            AuthPreset::Authentik => ("x-authentik-meta-", "x-authentik-"),
            _ => ("", ""),
        };
        let sign_in = (auth.preset == AuthPreset::Oauth2Proxy).then(|| {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/sign_in")
        });
        let recheck = (!auth.recheck.0.is_zero()).then(|| RecheckTiming {
            every: auth.recheck.0,
            grace: auth.grace.0,
            close_code: auth.close_code,
        });
        Some(ForwardAuthGuard {
            authority: Arc::new(authority),
            copied,
            copied_prefix,
            reserved_prefix,
            subject,
            sign_in,
            passes_redirects: auth.redirects == AuthRedirects::Pass,
            recheck,
        })
    }

    /// Returns what the guard does with a request, for `lockgate explain`.
    pub(crate) fn explain(&self) -> String {
        format!("asks {}, which explain does not do", self.authority.url())
    }

    /// Asks the service about a request.
    pub(crate) async fn authorize(
        &self,
        request: &AuthRequest<'_>,
        services: &AuthServices,
        authorized: &mut Authorized,
    ) -> Result<(), Denial> {
        self.remove_copies(request.headers, authorized);
        let headers = authority_headers(request);
        let rechecked = self.recheck.filter(|_| request.is_handshake);
        if rechecked.is_some() && credentials_len(&headers) > MAX_KEPT_CREDENTIALS {
            let text = format!(
                "the cookies and the Authorization of a WebSocket have more than {MAX_KEPT_CREDENTIALS} bytes"
            );
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Denial::new(status, DenialReason::ForwardAuth, text));
        }
        let recheck = rechecked.map(|timing| {
            let recheck = SessionRecheck::new(self.authority.clone(), &headers, timing);
            Box::new(recheck)
        });
        match self.authority.ask(headers, &services.resolver).await {
            Some(AuthorityAnswer::Admitted(response)) => {
                self.admit(&response, authorized);
                authorized.recheck = recheck;
                Ok(())
            }
            Some(AuthorityAnswer::Refused(response)) => Err(self.refuse(response, request)),
            Some(AuthorityAnswer::Redirected(response)) => Err(self.redirect(response, request)),
            None => {
                let text =
                    "the service that decides about this request gives no answer, try again later";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let denial = Denial::new(status, DenialReason::Authority, text);
                Err(denial.with(header::RETRY_AFTER, HeaderValue::from_static("2")))
            }
        }
    }

    /// Removes the headers that only the service may set, also those that its response leaves out.
    fn remove_copies(&self, client: &HeaderMap, authorized: &mut Authorized) {
        for (from, to) in &self.copied {
            authorized.removed.push(to.clone());
            if from != to {
                authorized.removed.push(from.clone());
            }
        }
        if !self.reserved_prefix.is_empty() {
            let reserved = client.keys().filter(|name| {
                let spelling = name.as_str().replace('_', "-");
                spelling.starts_with(self.reserved_prefix)
            });
            authorized.removed.extend(reserved.cloned());
        }
    }

    /// Takes the headers for the backend, the cookies for the client and the user out of a response.
    fn admit(&self, response: &HeaderMap, authorized: &mut Authorized) {
        for (from, to) in &self.copied {
            let values = response.get_all(from).iter();
            let copies = values.map(|value| (to.clone(), value.clone()));
            authorized.added.extend(copies);
        }
        if !self.copied_prefix.is_empty() {
            let further = response
                .iter()
                .filter(|(name, _)| name.as_str().starts_with(self.copied_prefix));
            let further = further.map(|(name, value)| (name.clone(), value.clone()));
            authorized.added.extend(further);
        }
        authorized.response_headers.extend(cookies(response));
        let user = self.subject.as_ref().and_then(|name| response.get(name));
        let user = user.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let user = user.map(str::trim).filter(|user| !user.is_empty());
        if let Some(user) = user.filter(|user| user.len() <= MAX_SUBJECT_LEN) {
            authorized.identify(SessionIdentity::new(user));
        }
    }

    /// Returns the response to a 401 or 403: that of the service, or for a page the way to sign in.
    fn refuse(&self, response: Response<Bytes>, request: &AuthRequest<'_>) -> Denial {
        let is_page = !request.is_handshake
            && request.method.is_safe()
            && accepts_html(request.headers)
            && response.status() == StatusCode::UNAUTHORIZED;
        if let Some(path) = self.sign_in.as_ref().filter(|_| is_page) {
            let here = format!("{}://{}{}", request.scheme, request.host, request.target);
            let here = utf8_percent_encode(&here, QUERY_VALUE);
            if let Ok(location) = HeaderValue::try_from(format!("{path}?rd={here}")) {
                let text = "sign in first";
                let mut denial = Denial::new(StatusCode::FOUND, DenialReason::ForwardAuth, text)
                    .with(header::LOCATION, location);
                denial.headers.extend(cookies(response.headers()));
                return denial;
            }
        }
        relay(response)
    }

    /// Returns the response to a redirect. A browser does not follow that of a handshake, and shows only its failure.
    fn redirect(&self, response: Response<Bytes>, request: &AuthRequest<'_>) -> Denial {
        if !request.is_handshake || self.passes_redirects {
            return relay(response);
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.map_or(String::new(), |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        });
        let text = format!("sign in at {location}");
        let mut denial = Denial::new(StatusCode::UNAUTHORIZED, DenialReason::ForwardAuth, text);
        denial.headers.extend(cookies(response.headers()));
        denial
    }
}

/// Returns the headers of the request to the service.
fn authority_headers(request: &AuthRequest<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for name in FORWARDED {
        for value in request.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(cookies) = cookie::joined(request.headers) {
        headers.insert(header::COOKIE, cookies);
    }
    // An extended CONNECT is the handshake of HTTP/2; services know GET.
    let method = if request.is_handshake {
        "GET"
    } else {
        request.method.as_str()
    };
    let original = format!("{}://{}{}", request.scheme, request.host, request.target);
    for (name, value) in [
        ("x-forwarded-method", method),
        ("x-forwarded-proto", request.scheme),
        ("x-forwarded-host", request.host),
        ("x-forwarded-uri", request.target),
        ("x-forwarded-for", &request.client.to_string()),
        ("x-original-method", method),
        ("x-original-url", &original),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if request.is_handshake {
        // Without it, no service can distinguish a WebSocket from a page.
        let name = HeaderName::from_static("x-forwarded-upgrade");
        headers.insert(name, HeaderValue::from_static("websocket"));
    }
    headers
}

/// Returns the length of the values that are kept for the time of a session.
fn credentials_len(headers: &HeaderMap) -> usize {
    let names = [header::COOKIE, header::AUTHORIZATION];
    let values = names.iter().flat_map(|name| headers.get_all(name));
    values.map(HeaderValue::len).sum()
}

fn cookies(response: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let values = response.get_all(header::SET_COOKIE).iter();
    values.map(|value| (header::SET_COOKIE, value.clone()))
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter();
    values.any(|value| value.to_str().is_ok_and(|it| it.contains("text/html")))
}

/// Returns the response of the service as it is, without the headers of its connection (RFC 9110 §7.6.1).
fn relay(response: Response<Bytes>) -> Denial {
    let (parts, body) = response.into_parts();
    let is_relayed = |name: &HeaderName| {
        let name = name.as_str();
        !OF_CONNECTION.contains(&name)
            && !handshake::has_token(&parts.headers, &header::CONNECTION, name)
    };
    let headers = parts.headers.iter().filter(|(name, _)| is_relayed(name));
    let text = "the service that decides about this request refused it";
    let mut denial = Denial::new(parts.status, DenialReason::ForwardAuth, text);
    denial.headers = headers
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    denial.body = Some(body);
    denial
}

/// The headers of the client that the service receives, besides the cookies.
const FORWARDED: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
    HeaderName::from_static("x-requested-with"),
];

/// The headers of a response that belong to its connection, or that Lockgate sets itself.
const OF_CONNECTION: [&str; 11] = [
    "alt-svc",
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The characters of a URL that a value in a query must not have.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// In bytes.
const MAX_KEPT_CREDENTIALS: usize = 16 * 1024;

/// In bytes.
const MAX_SUBJECT_LEN: usize = 256;
