//! Upgrades to a WebSocket (RFC 6455 §4.2.1), and to other protocols, which are not forwarded.

use super::{Row, forwarded, get, handshake, refused};

const REQUEST_LINE: &str = "GET / HTTP/1.1";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(super) fn rows() -> Vec<Row> {
    let replaced = |from: &str, to: &str| handshake("/", "").replace(from, to);
    let with = |more: &str| handshake("/", more);
    let opens = |name, bytes: String| {
        forwarded(REQUEST_LINE, name, bytes)
            .statuses(&[101])
            .field("upgrade", Some("websocket"))
    };
    let plain = |name, bytes: String| forwarded(REQUEST_LINE, name, bytes);
    vec![
        opens("a handshake", with("")).field("sec-websocket-key", Some(KEY)),
        opens("a length of 0", with("Content-Length: 0\r\n")),
        opens("other protocols in the list", replaced("Upgrade: websocket", "Upgrade: h2c, WebSocket, foo")),
        opens("frames at once", with("") + "\u{1}\u{0}"),
        refused(400, "a body", with("Content-Length: 5\r\n") + "hello"),
        refused(400, "a body of chunks", with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
        refused(400, "a length of 0 with two digits", with("Content-Length: 00\r\n")),
        refused(400, "no key", replaced("Sec-WebSocket-Key", "X-Key")),
        refused(400, "an empty key", replaced(KEY, "")),
        refused(400, "a short key", replaced(KEY, "c2hvcnQ=")),
        refused(400, "a key that is not base64", replaced(KEY, "!!!!IHNhbXBsZSBub25jZQ==")),
        refused(400, "two keys", with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")),
        refused(400, "the same key twice", with(&format!("Sec-WebSocket-Key: {KEY}\r\n"))),
        refused(400, "a key's twin", with("Sec_WebSocket_Key: AAAA\r\n")),
        refused(426, "version 8", replaced("Version: 13", "Version: 8")),
        refused(426, "versions 13 and 8", replaced("Version: 13", "Version: 13, 8")),
        refused(426, "two versions", with("Sec-WebSocket-Version: 13\r\n")),
        refused(426, "no version", replaced("Sec-WebSocket-Version", "X-Version")),
        refused(405, "POST", replaced("GET", "POST")),
        refused(405, "PUT", replaced("GET", "PUT")),
        refused(400, "HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0")),
        refused(400, "an empty subprotocol list", with("Sec-WebSocket-Protocol: ,\r\n")),
        refused(400, "a subprotocol that is no token", with("Sec-WebSocket-Protocol: a b\r\n")),
        refused(400, "a subprotocol twice", with("Sec-WebSocket-Protocol: a, a\r\n")),
        refused(400, "an invalid extension", with("Sec-WebSocket-Extensions: ;a\r\n")),
        refused(400, "two Hosts", with("Host: a.test\r\n")),
        refused(400, "dots above the root", handshake("/../x", "")),
        // A key belongs to a handshake, which lacks one of its fields.
        refused(400, "no Connection", replaced("Connection: Upgrade", "X: y")),
        refused(400, "another Connection", replaced("Connection: Upgrade", "Connection: keep-alive")),
        refused(400, "no Upgrade", replaced("Upgrade: websocket\r\n", "")),
        refused(400, "websocketx", replaced("Upgrade: websocket", "Upgrade: websocketx")),
        refused(400, "websocket/13", replaced("Upgrade: websocket", "Upgrade: websocket/13")),
        // Without a key and a valid upgrade it is a plain request, forwarded without the upgrade fields.
        plain("no key", get("Connection: keep-alive\r\nUpgrade: websocket\r\n")).field("upgrade", None),
        plain("h2c", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")).field("upgrade", None),
        plain("TLS/1.3", get("Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n")).field("upgrade", None),
    ]
}
