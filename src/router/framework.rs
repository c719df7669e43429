//! What each Python server expects of a proxy, according to its source code. The headers are built in `http`; the
//! client's address (`X-Forwarded-For`) and `X-Forwarded-Host` are the same for all.

use crate::config::Framework;

/// What a framework expects of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameworkPreset {
    /// `X-Forwarded-Proto` of a WebSocket; for plain HTTP every server expects `https`.
    pub websocket_proto: &'static str,
    /// The header in which the server, or its application, reads the prefix that `strip_prefix` has removed; `None` if
    /// it reads none.
    pub prefix_header: Option<&'static str>,
    /// Which requests the server leaves unanswered because of their size; `None` if it answers all.
    pub head_limit: Option<HeadLimit>,
    /// The settings that the server needs to interpret Lockgate's headers.
    pub advice: &'static str,
}

/// The size of a request head above which a server gives no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimit {
    /// The value of `framework`.
    pub framework: &'static str,
    /// Bytes of the request line and of each header line, with CR LF.
    pub line: usize,
    /// Number of header lines.
    pub lines: usize,
    /// Whether only WebSocket handshakes are limited.
    pub handshakes_only: bool,
}

/// Headers besides `Forwarded`, `X-Real-IP` and `X-Forwarded-For/-Proto/-Host` that some of these servers trust from
/// any peer. No client may set them: those of an untrusted client are removed.
///
/// `x-scheme` overrides `X-Forwarded-Proto` in Tornado (6.6.1, `httpserver.py`, `_apply_xheaders`); `x-forwarded-port`
/// is read by Daphne (4.2.3, `utils.py`) and Werkzeug, `x-forwarded-prefix` by Werkzeug (3.1.9,
/// `middleware/proxy_fix.py`); `daphne-root-path` sets the root path of a Daphne application (`ws_protocol.py`,
/// `http_protocol.py`) even without `--proxy-headers`; `x-script-name` is read by the middleware of many Flask
/// applications. `client-cert` and `client-cert-chain` identify the client (RFC 9440 §4).
pub(crate) const TRUSTED_BY_BACKENDS: [&str; 19] = [
    "client-cert",
    "client-cert-chain",
    "daphne-root-path",
    "path-info",
    "proxy",
    "script-name",
    "x-client-ip",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-original-url",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
    "x-wsgi-scheme",
];

/// Returns the preset of a framework.
pub(crate) fn preset(framework: Framework) -> FrameworkPreset {
    match framework {
        // No framework: the header that most servers read, and `https`, because most software that reads
        // `X-Forwarded-Proto` knows only `http` and `https`.
        Framework::None => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "",
        },
        // websockets 17.4 closes the connection of any request above its limits (http11.py, MAX_LINE_LENGTH and
        // MAX_NUM_HEADERS). It reads no forwarded header at all; `origins=` (server.py, process_origin) compares the
        // whole Origin, which is forwarded unchanged.
        Framework::Websockets => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            head_limit: Some(HeadLimit {
                framework: "websockets",
                handshakes_only: false,
                ..WEBSOCKETS_HEAD_LIMIT
            }),
            advice: "connection.remote_address is Lockgate's; the client's is in request.headers[\"X-Real-IP\"]",
        },
        // uvicorn, middleware/proxy_headers.py: 0.54 converts both `https` and `wss` to `wss`; 0.27 converts `https` to
        // `wss` and any other value, including `wss`, to `ws`; 0.22 and older use the value unchanged. No version reads
        // the prefix, but applications do (root_path precedes the path since 0.26). uvicorn passes handshakes to
        // `websockets` (h11_impl.py, handle_websocket_upgrade), and gives no response to those that `websockets`
        // rejects as too large.
        Framework::Uvicorn => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: Some(WEBSOCKETS_HEAD_LIMIT),
            advice: "start uvicorn with --forwarded-allow-ips=ADDRESS-OF-LOCKGATE (not needed on the same machine), \
                     and with --root-path=PREFIX if the route has a strip_prefix",
        },
        // hypercorn 0.18, middleware/proxy_fix.py uses the value unchanged, and an ASGI WebSocket's scheme is `ws` or
        // `wss`: with `https` the routing of Werkzeug, which Quart uses, matches only HTTP rules and answers 403.
        Framework::Hypercorn => FrameworkPreset {
            websocket_proto: "wss",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "wrap the application in hypercorn.middleware.ProxyFixMiddleware(app, mode=\"legacy\", \
                     trusted_hops=1), and set root_path if the route has a strip_prefix",
        },
        // daphne 4.2.3, utils.py, parse_x_forwarded_for: the value becomes the scheme of an HTTP request unchanged, and
        // is not used for a WebSocket; Django compares it with SECURE_PROXY_SSL_HEADER. `Daphne-Root-Path` would be its
        // prefix header, but with it channels 4.3.2 (routing.py, URLRouter) refuses a path without the prefix.
        Framework::Daphne => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "start daphne with --proxy-headers and set SECURE_PROXY_SSL_HEADER = \
                     (\"HTTP_X_FORWARDED_PROTO\", \"https\"); rather than strip_prefix, route the whole path in Django",
        },
        // tornado 6.6.1, httpserver.py, _apply_xheaders: anything but `http` and `https` is ignored.
        Framework::Tornado => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "create the server with xheaders=True, as in app.listen(port, xheaders=True)",
        },
        // aiohttp 3.14.5, web_request.py: scheme, host and remote are the connection's, and the scheme is `http` or
        // `https`; aiohttp-remotes 1.4.0, x_forwarded.py, replaces the scheme with the value unchanged.
        Framework::Aiohttp => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "aiohttp reads no forwarded header by itself: set up XForwardedRelaxed(1) of aiohttp-remotes",
        },
        // autobahn 26.10.2, websocket/protocol.py: only `X-Forwarded-For` is read, and the port of Host is compared
        // with externalPort if it is set.
        Framework::Autobahn => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            head_limit: None,
            advice: "set factory.setProtocolOptions(trustXForwardedFor=1); if the factory has an externalPort, it is \
                     the port that clients connect to, not the backend's",
        },
        // werkzeug 3.1.9, middleware/proxy_fix.py uses the value unchanged; routing/map.py, bind_to_environ, then
        // converts `https` to `wss` and any other value, including `wss`, to `ws`.
        Framework::Flask => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            head_limit: None,
            advice: "wrap the application: app.wsgi_app = werkzeug.middleware.proxy_fix.ProxyFix(app.wsgi_app, \
                     x_for=1, x_proto=1, x_host=1, x_prefix=1)",
        },
        // python-engineio 4.15.1, base_server.py, _cors_allowed_origins: `{X-Forwarded-Proto}://{X-Forwarded-Host}`
        // must equal the Origin, whose scheme is `https`; with `wss` every browser would be refused.
        Framework::Socketio => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            head_limit: None,
            advice: "leave cors_allowed_origins unset, or list the public https:// origins",
        },
    }
}

/// The limits of `websockets` for a request, as they apply in uvicorn.
const WEBSOCKETS_HEAD_LIMIT: HeadLimit = HeadLimit {
    framework: "uvicorn",
    line: 8192,
    lines: 128,
    handshakes_only: true,
};

/// The header that Werkzeug's ProxyFix reads and that other proxies send.
const PREFIX: Option<&str> = Some("X-Forwarded-Prefix");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypercorn_preset_sends_the_websocket_scheme() {
        for (framework, proto, prefix) in [
            (Framework::None, "https", PREFIX),
            (Framework::Websockets, "https", None),
            (Framework::Uvicorn, "https", PREFIX),
            (Framework::Hypercorn, "wss", PREFIX),
            (Framework::Daphne, "https", PREFIX),
            (Framework::Tornado, "https", PREFIX),
            (Framework::Aiohttp, "https", PREFIX),
            (Framework::Autobahn, "https", None),
            (Framework::Flask, "https", PREFIX),
            (Framework::Socketio, "https", None),
        ] {
            let found = preset(framework);
            assert_eq!(found.websocket_proto, proto, "{framework:?}");
            assert_eq!(found.prefix_header, prefix, "{framework:?}");
            let is_limited = matches!(framework, Framework::Uvicorn | Framework::Websockets);
            assert_eq!(found.head_limit.is_some(), is_limited, "{framework:?}");
            assert_eq!(
                found.advice.is_empty(),
                framework == Framework::None,
                "{framework:?}"
            );
        }
    }

    #[test]
    fn prefix_header_of_a_client_is_never_trusted() {
        let prefix = PREFIX.unwrap().to_ascii_lowercase();
        assert!(TRUSTED_BY_BACKENDS.contains(&prefix.as_str()));
    }
}
