//! Pseudo-headers, fields and bodies.

use super::{End, List, Row, ask, body, get, malformed, open, passes, refused, with};
use crate::harness::raw_h2::{DATA, END_HEADERS, END_STREAM, HEADERS, frame, hpack};

const CLEAN: &str = "GET / HTTP/1.1";

pub(super) fn rows() -> Vec<Row> {
    let but = |name, value| ask(&with(&[], &[(name, Some(value))]));
    let without = |name| ask(&with(&[], &[(name, None)]));
    let more = |name, value| ask(&get(&[(name, value)]));
    let first = |name, value| ask(&[vec![(name, value)], get(&[])].concat());
    let bad = |name, bytes| refused(End::Status(400), name, bytes);
    let good = |name, path: &'static str, clean: &str| {
        passes(&format!("GET {clean} HTTP/1.1"), name, but(":path", path))
    };
    let post = |more: &[(&'static str, &'static str)]| with(more, &[(":method", Some("POST"))]);
    let posts = |name, list: List<'_>, rest: Vec<u8>| {
        passes("POST / HTTP/1.1", name, [open(&list), rest].concat())
    };
    let lies =
        |name, list: List<'_>, rest: Vec<u8>| malformed(name, [open(&list), rest].concat()).torn();
    let trailers =
        |list: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(list));
    let piece = |it: &str| frame(DATA, 0, 1, it.as_bytes());
    vec![
        // Pseudo-headers (§8.3): each once, before the others, none unknown.
        malformed("no :method", without(":method")),
        malformed("no :scheme", without(":scheme")),
        malformed("no :path", without(":path")),
        bad("no :authority and no Host", without(":authority")),
        malformed("two :method", first(":method", "POST")),
        malformed("two :path", first(":path", "/admin")),
        malformed("two :scheme", first(":scheme", "http")),
        malformed("two :authority", first(":authority", "b.test")),
        malformed("the same :path twice", first(":path", "/")),
        malformed(
            ":path behind a field",
            ask(&[
                with(&[("x-a", "1")], &[(":path", None)]),
                vec![(":path", "/")],
            ]
            .concat()),
        ),
        malformed(
            ":method behind a field",
            ask(&[vec![("x-a", "1")], get(&[])].concat()),
        ),
        malformed("an unknown pseudo-header", first(":foo", "bar")),
        malformed("a pseudo-header without a name", first(":", "bar")),
        malformed(":status", first(":status", "200")),
        malformed(
            ":Path",
            ask(&[with(&[], &[(":path", None)]), vec![(":Path", "/")]].concat()),
        ),
        malformed("an empty :method", but(":method", "")),
        malformed(
            "a :method with a space",
            but(":method", "GET /admin HTTP/1.1\r\nX:"),
        ),
        malformed("an empty :path", but(":path", "")),
        bad("an empty :scheme", but(":scheme", "")),
        malformed("a :scheme that is none", but(":scheme", "ht tp")),
        bad("a :scheme that is not served", but(":scheme", "ftp")),
        passes(CLEAN, ":scheme http", but(":scheme", "http"))
            .field("x-forwarded-proto", Some("https")),
        // Authorities.
        malformed("an empty :authority", but(":authority", "")),
        bad("userinfo", but(":authority", "root@a.test")),
        bad("port 0", but(":authority", "a.test:0")),
        bad("a port beyond 65535", but(":authority", "a.test:99999")),
        malformed("a path in :authority", but(":authority", "a.test/admin")),
        malformed("a list in :authority", but(":authority", "a.test, b.test")),
        malformed(
            "a line end in :authority",
            but(":authority", "a.test\r\nX: y"),
        ),
        bad("another Host", more("host", "b.test")),
        bad("another port in Host", more("host", "a.test:444")),
        bad(
            "two Hosts",
            ask(&get(&[("host", "a.test"), ("host", "a.test")])),
        ),
        bad(
            "a bad Host and no :authority",
            ask(&with(&[("host", "a.test/x")], &[(":authority", None)])),
        ),
        passes(CLEAN, "the same Host", more("host", "A.test")),
        passes(
            CLEAN,
            "Host and no :authority",
            ask(&with(&[("host", "a.test")], &[(":authority", None)])),
        )
        .field("host", Some("a.test")),
        refused(
            End::Status(404),
            "an authority without a route",
            but(":authority", "b.test"),
        ),
        // Paths, as in HTTP/1.1.
        good("dot segments", "/a/%2e%2e/b/./c", "/b/c"),
        good("two slashes", "//b.test/x", "/b.test/x"),
        bad("an escaped slash", but(":path", "/a%2fb?c")),
        good("a fragment", "/a#/../b", "/a"),
        bad("above the root", but(":path", "/../a")),
        bad("hidden dots", but(":path", "/a/..%2fb")),
        bad("an escaped NUL", but(":path", "/%00")),
        bad("asterisk-form and GET", but(":path", "*")),
        bad(
            "asterisk-form",
            ask(&with(
                &[],
                &[(":method", Some("OPTIONS")), (":path", Some("*"))],
            )),
        ),
        malformed("no slash", but(":path", "a")),
        malformed("absolute-form", but(":path", "http://b.test/")),
        malformed("a space in :path", but(":path", "/ HTTP/1.1\r\nX: y")),
        malformed("NUL in :path", but(":path", "/\0")),
        bad("a backslash in :path", but(":path", "/a\\b")),
        bad("not ASCII", but(":path", "/ä")),
        // Fields (§8.2).
        malformed("a name in upper case", more("X-A", "1")),
        malformed("an empty name", more("", "1")),
        malformed("a name with a space", more("x a", "1")),
        malformed("a name with a colon", more("x:a", "1")),
        malformed("a name with a line end", more("x\r\nhost", "1")),
        malformed("a value with a line end", more("x-a", "1\r\nHost: b.test")),
        malformed("a value with LF", more("x-a", "1\nx: y")),
        malformed("a value with CR", more("x-a", "1\rx")),
        malformed("a value with NUL", more("x-a", "\0")),
        malformed("connection", more("connection", "close")),
        malformed(
            "connection: upgrade",
            ask(&get(&[("connection", "Upgrade"), ("upgrade", "websocket")])),
        ),
        malformed("upgrade", more("upgrade", "h2c")),
        malformed("keep-alive", more("keep-alive", "5")),
        malformed("proxy-connection", more("proxy-connection", "close")),
        malformed("transfer-encoding", more("transfer-encoding", "chunked")),
        malformed(
            "transfer-encoding with a body",
            [
                open(&post(&[("transfer-encoding", "chunked")])),
                body("0\r\n\r\n"),
            ]
            .concat(),
        ),
        malformed("te: gzip", more("te", "gzip")),
        malformed("te: trailers, gzip", more("te", "trailers, gzip")),
        passes(CLEAN, "te: trailers", more("te", "trailers")).field("te", None),
        passes(CLEAN, "http2-settings", more("http2-settings", "AAMAAABk"))
            .field("http2-settings", None),
        passes(CLEAN, "expect", more("expect", "100-continue")).field("expect", None),
        passes(
            CLEAN,
            "a cookie in pieces",
            ask(&get(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2")])),
        )
        .field("cookie", Some("a=1; b=2")),
        passes(CLEAN, "x-forwarded-for", more("x-forwarded-for", "6.6.6.6"))
            .field("x-forwarded-for", Some("127.0.0.1")),
        bad("x_forwarded_for", more("x_forwarded_for", "6.6.6.6")),
        bad("transfer_encoding", more("transfer_encoding", "chunked")),
        bad("content_length", more("content_length", "5")),
        // A handshake of HTTP/1.1 is none here.
        passes(
            CLEAN,
            "half a handshake",
            ask(&get(&[
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
            ])),
        ),
        // RFC 6585 §5.
        refused(
            End::Status(431),
            "a header list beyond head_size",
            ask(&[get(&[]), vec![("x-a", "0123456789"); 390]].concat()),
        ),
        // Bodies (§8.1.1).
        posts("a body", post(&[]), body("hello")).body("hello"),
        posts(
            "a body and its length",
            post(&[("content-length", "5")]),
            [piece("hel"), body("lo")].concat(),
        )
        .body("hello")
        .field("content-length", Some("5")),
        posts(
            "the same length twice",
            post(&[("content-length", "5"), ("content-length", "5")]),
            body("hello"),
        )
        .body("hello"),
        posts(
            "trailers",
            post(&[("trailer", "host")]),
            [
                piece("hello"),
                trailers(&[("x-t", "1"), ("host", "b.test"), ("content-length", "7")]),
            ]
            .concat(),
        )
        .body("hello"),
        lies(
            "a body shorter than its length",
            post(&[("content-length", "6")]),
            body("hello"),
        ),
        lies(
            "a body longer than its length",
            post(&[("content-length", "4")]),
            body("hello"),
        ),
        lies(
            "a body where the length is 0",
            post(&[("content-length", "0")]),
            body("hello"),
        ),
        lies(
            "a body that smuggles",
            post(&[("content-length", "0")]),
            body("GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ),
        lies(
            "trailers before the length's end",
            post(&[("content-length", "6")]),
            [piece("hello"), trailers(&[("x-t", "1")])].concat(),
        ),
        // It should be malformed; h2 ignores it, and no trailer goes on.
        posts(
            "a pseudo-header in trailers",
            post(&[]),
            [piece("hello"), trailers(&[(":path", "/admin")])].concat(),
        )
        .body("hello"),
        lies(
            "connection in trailers",
            post(&[]),
            [piece("hello"), trailers(&[("connection", "close")])].concat(),
        ),
        malformed(
            "a length without a body",
            ask(&post(&[("content-length", "5")])),
        ),
        malformed(
            "two lengths",
            [
                open(&post(&[("content-length", "5"), ("content-length", "6")])),
                body("hello"),
            ]
            .concat(),
        ),
        malformed(
            "a list of lengths",
            [open(&post(&[("content-length", "5, 5")])), body("hello")].concat(),
        ),
        malformed(
            "a signed length",
            [open(&post(&[("content-length", "+5")])), body("hello")].concat(),
        ),
        malformed(
            "an empty length",
            [open(&post(&[("content-length", "")])), body("hello")].concat(),
        ),
        malformed(
            "a length beyond 64 bits",
            [
                open(&post(&[("content-length", "18446744073709551621")])),
                body("hello"),
            ]
            .concat(),
        ),
    ]
}
