//! Pseudo-headers, fields and bodies.

use super::{End, List, Row, body, forwarded, get, malformed, open, refused, request, with};
use crate::harness::raw_h2::{DATA, END_HEADERS, END_STREAM, HEADERS, frame, hpack};

const REQUEST_LINE: &str = "GET / HTTP/1.1";

pub(super) fn rows() -> Vec<Row> {
    let replaced = |name, value| request(&with(&[], &[(name, Some(value))]));
    let without = |name| request(&with(&[], &[(name, None)]));
    let more = |name, value| request(&get(&[(name, value)]));
    let first = |name, value| request(&[vec![(name, value)], get(&[])].concat());
    let bad = |name, bytes| refused(End::Status(400), name, bytes);
    let good = |name, path: &'static str, normalized: &str| {
        forwarded(
            &format!("GET {normalized} HTTP/1.1"),
            name,
            replaced(":path", path),
        )
    };
    let post = |more: &[(&'static str, &'static str)]| with(more, &[(":method", Some("POST"))]);
    let posts = |name, list: List<'_>, rest: Vec<u8>| {
        forwarded("POST / HTTP/1.1", name, [open(&list), rest].concat())
    };
    let malformed_body = |name, list: List<'_>, rest: Vec<u8>| {
        malformed(name, [open(&list), rest].concat()).partial()
    };
    let trailers =
        |list: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(list));
    let piece = |it: &str| frame(DATA, 0, 1, it.as_bytes());
    vec![
        // Pseudo-headers (§8.3): each at most once, before other fields, none unknown.
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
            request(
                &[
                    with(&[("x-a", "1")], &[(":path", None)]),
                    vec![(":path", "/")],
                ]
                .concat(),
            ),
        ),
        malformed(
            ":method behind a field",
            request(&[vec![("x-a", "1")], get(&[])].concat()),
        ),
        malformed("an unknown pseudo-header", first(":foo", "bar")),
        malformed("a pseudo-header without a name", first(":", "bar")),
        malformed(":status", first(":status", "200")),
        malformed(
            ":Path",
            request(&[with(&[], &[(":path", None)]), vec![(":Path", "/")]].concat()),
        ),
        malformed("an empty :method", replaced(":method", "")),
        malformed(
            "a :method with a space",
            replaced(":method", "GET /admin HTTP/1.1\r\nX:"),
        ),
        malformed("an empty :path", replaced(":path", "")),
        bad("an empty :scheme", replaced(":scheme", "")),
        malformed("an invalid :scheme", replaced(":scheme", "ht tp")),
        bad("a :scheme that is not served", replaced(":scheme", "ftp")),
        forwarded(REQUEST_LINE, ":scheme http", replaced(":scheme", "http"))
            .field("x-forwarded-proto", Some("https")),
        // Authorities.
        malformed("an empty :authority", replaced(":authority", "")),
        bad("userinfo", replaced(":authority", "root@a.test")),
        bad("port 0", replaced(":authority", "a.test:0")),
        bad(
            "a port beyond 65535",
            replaced(":authority", "a.test:99999"),
        ),
        malformed(
            "a path in :authority",
            replaced(":authority", "a.test/admin"),
        ),
        malformed(
            "a list in :authority",
            replaced(":authority", "a.test, b.test"),
        ),
        malformed(
            "a line end in :authority",
            replaced(":authority", "a.test\r\nX: y"),
        ),
        bad("another Host", more("host", "b.test")),
        bad("another port in Host", more("host", "a.test:444")),
        bad(
            "two Hosts",
            request(&get(&[("host", "a.test"), ("host", "a.test")])),
        ),
        bad(
            "a bad Host and no :authority",
            request(&with(&[("host", "a.test/x")], &[(":authority", None)])),
        ),
        forwarded(REQUEST_LINE, "the same Host", more("host", "A.test")),
        forwarded(
            REQUEST_LINE,
            "Host and no :authority",
            request(&with(&[("host", "a.test")], &[(":authority", None)])),
        )
        .field("host", Some("a.test")),
        refused(
            End::Status(404),
            "an authority without a route",
            replaced(":authority", "b.test"),
        ),
        // Paths, as in HTTP/1.1.
        good("dot segments", "/a/%2e%2e/b/./c", "/b/c"),
        good("two slashes", "//b.test/x", "/b.test/x"),
        bad("an escaped slash", replaced(":path", "/a%2fb?c")),
        good("a fragment", "/a#/../b", "/a"),
        bad("above the root", replaced(":path", "/../a")),
        bad("hidden dots", replaced(":path", "/a/..%2fb")),
        bad("an escaped NUL", replaced(":path", "/%00")),
        bad("asterisk-form and GET", replaced(":path", "*")),
        bad(
            "asterisk-form",
            request(&with(
                &[],
                &[(":method", Some("OPTIONS")), (":path", Some("*"))],
            )),
        ),
        malformed("no slash", replaced(":path", "a")),
        malformed("absolute-form", replaced(":path", "http://b.test/")),
        malformed("a space in :path", replaced(":path", "/ HTTP/1.1\r\nX: y")),
        malformed("NUL in :path", replaced(":path", "/\0")),
        bad("a backslash in :path", replaced(":path", "/a\\b")),
        bad("not ASCII", replaced(":path", "/ä")),
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
            request(&get(&[("connection", "Upgrade"), ("upgrade", "websocket")])),
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
        forwarded(REQUEST_LINE, "te: trailers", more("te", "trailers")).field("te", None),
        forwarded(
            REQUEST_LINE,
            "http2-settings",
            more("http2-settings", "AAMAAABk"),
        )
        .field("http2-settings", None),
        forwarded(REQUEST_LINE, "expect", more("expect", "100-continue")).field("expect", None),
        forwarded(
            REQUEST_LINE,
            "a cookie in pieces",
            request(&get(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2")])),
        )
        .field("cookie", Some("a=1; b=2")),
        forwarded(
            REQUEST_LINE,
            "x-forwarded-for",
            more("x-forwarded-for", "6.6.6.6"),
        )
        .field("x-forwarded-for", Some("127.0.0.1")),
        bad("x_forwarded_for", more("x_forwarded_for", "6.6.6.6")),
        bad("transfer_encoding", more("transfer_encoding", "chunked")),
        bad("content_length", more("content_length", "5")),
        // An HTTP/1.1 handshake is a plain request over HTTP/2.
        forwarded(
            REQUEST_LINE,
            "half a handshake",
            request(&get(&[
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
            ])),
        ),
        // RFC 6585 §5.
        refused(
            End::Status(431),
            "a header list beyond head_size",
            request(&[get(&[]), vec![("x-a", "0123456789"); 390]].concat()),
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
        malformed_body(
            "a body shorter than its length",
            post(&[("content-length", "6")]),
            body("hello"),
        ),
        malformed_body(
            "a body longer than its length",
            post(&[("content-length", "4")]),
            body("hello"),
        ),
        malformed_body(
            "a body where the length is 0",
            post(&[("content-length", "0")]),
            body("hello"),
        ),
        malformed_body(
            "a body that smuggles",
            post(&[("content-length", "0")]),
            body("GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ),
        malformed_body(
            "trailers before the length's end",
            post(&[("content-length", "6")]),
            [piece("hello"), trailers(&[("x-t", "1")])].concat(),
        ),
        // It should be malformed; h2 ignores it, and no trailer is forwarded.
        posts(
            "a pseudo-header in trailers",
            post(&[]),
            [piece("hello"), trailers(&[(":path", "/admin")])].concat(),
        )
        .body("hello"),
        malformed_body(
            "connection in trailers",
            post(&[]),
            [piece("hello"), trailers(&[("connection", "close")])].concat(),
        ),
        malformed(
            "a length without a body",
            request(&post(&[("content-length", "5")])),
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
