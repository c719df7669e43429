//! Upgrades: to a WebSocket (RFC 6455 §4.2.1), and to anything else, which never travels.

use super::{Row, get, handshake, passes, refused};

const CLEAN: &str = "GET / HTTP/1.1";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(super) fn rows() -> Vec<Row> {
    let but = |from: &str, to: &str| handshake("/", "").replace(from, to);
    let with = |more: &str| handshake("/", more);
    let opens = |name, bytes: String| {
        passes(CLEAN, name, bytes)
            .answers(&[101])
            .field("upgrade", Some("websocket"))
    };
    let plain = |name, bytes: String| passes(CLEAN, name, bytes);
    vec![
        opens("a handshake", with("")).field("sec-websocket-key", Some(KEY)),
        opens("a length of 0", with("Content-Length: 0\r\n")),
        opens("other protocols besides", but("Upgrade: websocket", "Upgrade: h2c, WebSocket, foo")),
        opens("frames at once", with("") + "\u{1}\u{0}"),
        refused(400, "a body", with("Content-Length: 5\r\n") + "hello"),
        refused(400, "a body of chunks", with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
        refused(400, "a length in other words", with("Content-Length: 00\r\n")),
        refused(400, "no key", but("Sec-WebSocket-Key", "X-Key")),
        refused(400, "an empty key", but(KEY, "")),
        refused(400, "a short key", but(KEY, "c2hvcnQ=")),
        refused(400, "a key that is no base64", but(KEY, "!!!!IHNhbXBsZSBub25jZQ==")),
        refused(400, "two keys", with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")),
        refused(400, "the same key twice", with(&format!("Sec-WebSocket-Key: {KEY}\r\n"))),
        refused(400, "a key's twin", with("Sec_WebSocket_Key: AAAA\r\n")),
        refused(426, "version 8", but("Version: 13", "Version: 8")),
        refused(426, "versions 13 and 8", but("Version: 13", "Version: 13, 8")),
        refused(426, "two versions", with("Sec-WebSocket-Version: 13\r\n")),
        refused(426, "no version", but("Sec-WebSocket-Version", "X-Version")),
        refused(405, "POST", but("GET", "POST")),
        refused(405, "PUT", but("GET", "PUT")),
        refused(400, "HTTP/1.0", but("HTTP/1.1", "HTTP/1.0")),
        refused(400, "an empty subprotocol list", with("Sec-WebSocket-Protocol: ,\r\n")),
        refused(400, "a subprotocol that is no token", with("Sec-WebSocket-Protocol: a b\r\n")),
        refused(400, "a subprotocol twice", with("Sec-WebSocket-Protocol: a, a\r\n")),
        refused(400, "an extension that is none", with("Sec-WebSocket-Extensions: ;a\r\n")),
        refused(400, "two Hosts", with("Host: a.test\r\n")),
        refused(400, "dots above the root", handshake("/../x", "")),
        // Not asked for in the way that it must be: a plain request, and nothing of it travels.
        plain("no Connection", but("Connection: Upgrade", "X: y")).field("upgrade", None),
        plain("another Connection", but("Connection: Upgrade", "Connection: keep-alive")).field("upgrade", None),
        plain("no Upgrade", but("Upgrade: websocket\r\n", "")),
        plain("h2c", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")).field("upgrade", None),
        plain("TLS/1.3", get("Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n")).field("upgrade", None),
        plain("websocketx", but("Upgrade: websocket", "Upgrade: websocketx")).field("upgrade", None),
        plain("websocket/13", but("Upgrade: websocket", "Upgrade: websocket/13")).field("upgrade", None),
    ]
}
