//! What each Python server expects of a proxy, according to its source code. The headers are built in `http`; the
//! client's address (`X-Forwarded-For`) and `X-Forwarded-Host` are the same for all.

use crate::config::Framework;

/// The expectations of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameworkPreset {
    /// `X-Forwarded-Proto` of a WebSocket; for plain HTTP every server expects `https`.
    pub websocket_proto: &'static str,
    /// The header in which the server, or the application in it, looks for the prefix that `strip_prefix` has removed;
    /// `None`: it reads none, and the request head stays smaller.
    pub prefix_header: Option<&'static str>,
    /// The settings without which the server ignores or misreads Lockgate's headers.
    pub advice: &'static str,
}

/// Headers besides `Forwarded`, `X-Real-IP` and `X-Forwarded-For/-Proto/-Host` that some of these servers trust from
/// any peer. No client may set them: those of an untrusted client are removed.
///
/// `x-scheme` beats `X-Forwarded-Proto` in Tornado (6.6.1, `httpserver.py`, `_apply_xheaders`); `x-forwarded-port` is
/// read by Daphne (4.2.3, `utils.py`) and Werkzeug, `x-forwarded-prefix` by Werkzeug (3.1.9,
/// `middleware/proxy_fix.py`); `daphne-root-path` moves the application of Daphne (`ws_protocol.py`,
/// `http_protocol.py`) even without `--proxy-headers`; `x-script-name` is what many Flask applications read in a
/// middleware of their own. `client-cert` and `client-cert-chain` name the client (RFC 9440 §4).
pub const TRUSTED_BY_BACKENDS: [&str; 19] = [
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

/// Returns the expectations of a framework.
pub fn preset(framework: Framework) -> FrameworkPreset {
    match framework {
        // No preset: what most servers read, and `https`, because software that reads `X-Forwarded-Proto` more often
        // knows two values than four.
        Framework::None => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "",
        },
        // websockets 17.4 reads no forwarded header at all; `origins=` (server.py, process_origin) compares the whole
        // Origin, which passes untouched.
        Framework::Websockets => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            advice: "connection.remote_address is Lockgate's; the client's is in request.headers[\"X-Real-IP\"]",
        },
        // uvicorn, middleware/proxy_headers.py: 0.54 makes `wss` of both `https` and `wss`; 0.27 makes `wss` of
        // `https` and `ws` of anything else, `wss` too; 0.22 and older take the word as it is. The prefix is read
        // by no version: applications do (root_path is put before the path since 0.26).
        Framework::Uvicorn => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "start uvicorn with --forwarded-allow-ips=ADDRESS-OF-LOCKGATE (not needed on the same machine), \
                     and with --root-path=PREFIX if the route has a strip_prefix",
        },
        // hypercorn 0.18, middleware/proxy_fix.py takes the word as it is, and an ASGI WebSocket's scheme is `ws` or
        // `wss`: with `https` Werkzeug's routing, in Quart, finds HTTP rules only and answers 403.
        Framework::Hypercorn => FrameworkPreset {
            websocket_proto: "wss",
            prefix_header: PREFIX,
            advice: "wrap the application in hypercorn.middleware.ProxyFixMiddleware(app, mode=\"legacy\", \
                     trusted_hops=1), and set root_path if the route has a strip_prefix",
        },
        // daphne 4.2.3, utils.py, parse_x_forwarded_for: the word goes as it is into the scheme of HTTP requests, and
        // nowhere on a WebSocket; Django compares it with SECURE_PROXY_SSL_HEADER. `Daphne-Root-Path` would be its
        // prefix header, but channels 4.3.2 (routing.py, URLRouter) then refuses a path from which it was taken off.
        Framework::Daphne => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "start daphne with --proxy-headers and set SECURE_PROXY_SSL_HEADER = \
                     (\"HTTP_X_FORWARDED_PROTO\", \"https\"); rather than strip_prefix, route the whole path in Django",
        },
        // tornado 6.6.1, httpserver.py, _apply_xheaders: anything but `http` and `https` is ignored.
        Framework::Tornado => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "create the server with xheaders=True, as in app.listen(port, xheaders=True)",
        },
        // aiohttp 3.14.5, web_request.py: scheme, host and remote are the connection's, and the scheme is `http` or
        // `https`; aiohttp-remotes 1.4.0, x_forwarded.py, puts the word in its place as it is.
        Framework::Aiohttp => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "aiohttp reads no forwarded header by itself: set up XForwardedRelaxed(1) of aiohttp-remotes",
        },
        // autobahn 26.10.2, websocket/protocol.py: only `X-Forwarded-For` is read, and the port of Host is compared
        // with externalPort if that was set.
        Framework::Autobahn => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            advice: "set factory.setProtocolOptions(trustXForwardedFor=1); if the factory has an externalPort, it is \
                     the port that clients connect to, not the backend's",
        },
        // werkzeug 3.1.9, middleware/proxy_fix.py takes the word as it is; routing/map.py, bind_to_environ, then makes
        // `wss` of `https` and `ws` of anything else, `wss` too.
        Framework::Flask => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: PREFIX,
            advice: "wrap the application: app.wsgi_app = werkzeug.middleware.proxy_fix.ProxyFix(app.wsgi_app, \
                     x_for=1, x_proto=1, x_host=1, x_prefix=1)",
        },
        // python-engineio 4.15.1, base_server.py, _cors_allowed_origins: `{X-Forwarded-Proto}://{X-Forwarded-Host}`
        // must equal the Origin, whose scheme is `https`; with `wss` every browser would be refused.
        Framework::Socketio => FrameworkPreset {
            websocket_proto: "https",
            prefix_header: None,
            advice: "leave cors_allowed_origins unset, or list the public https:// origins",
        },
    }
}

/// Werkzeug's ProxyFix reads it, and other proxies send it.
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
