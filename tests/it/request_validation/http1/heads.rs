//! Request lines, `Host` and header fields.

use super::{Row, forwarded, get, refused};

const REQUEST_LINE: &str = "GET / HTTP/1.1";

pub(super) fn rows() -> Vec<Row> {
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let line = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    vec![
        // RFC 9112 §3.2: no Host, more than one, or one with a bad value is a 400.
        refused(400, "no Host", "GET / HTTP/1.1\r\n\r\n"),
        refused(400, "no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n"),
        refused(400, "an empty Host", host("")),
        refused(400, "two Hosts", get("Host: a.test\r\n")),
        refused(400, "two different Hosts", get("Host: b.test\r\n")),
        refused(400, "two Hosts in different case", get("hOST: a.test\r\n")),
        refused(400, "userinfo in Host", host("root@a.test")),
        refused(400, "a password in Host", host("a.test:80@b.test")),
        refused(400, "a path in Host", host("a.test/admin")),
        refused(400, "a query in Host", host("a.test?x")),
        refused(400, "a fragment in Host", host("a.test#x")),
        refused(400, "a comma in Host", host("a.test, b.test")),
        refused(400, "a space in Host", host("a.test b.test")),
        refused(400, "a tab in Host", host("a.test\tb.test")),
        refused(400, "a backslash in Host", host("a.test\\@b.test")),
        refused(400, "an escape in Host", host("%61.test")),
        refused(400, "a Host that is not ASCII", host("ä.test")),
        refused(400, "an empty label in Host", host("a..test")),
        refused(400, "a dot before Host", host(".a.test")),
        refused(400, "two dots after Host", host("a.test..")),
        refused(400, "a port beyond 65535", host("a.test:99999")),
        refused(400, "a port that wraps around", host("a.test:65979")),
        refused(400, "port 0", host("a.test:0")),
        refused(400, "a signed port", host("a.test:+443")),
        refused(400, "a port that is a name", host("a.test:https")),
        refused(400, "a colon and no port", host("a.test:")),
        refused(400, "two ports", host("a.test:1:2")),
        refused(400, "only a port", host(":443")),
        refused(400, "half a pair of brackets", host("[::1")),
        refused(400, "something behind the brackets", host("[::1]a.test")),
        refused(400, "a zone", host("[fe80::1%25eth0]")),
        refused(
            400,
            "a Host longer than any DNS name",
            host(&"a".repeat(254)),
        ),
        forwarded(REQUEST_LINE, "a Host in upper case", host("A.TEST"))
            .field("host", Some("A.TEST")),
        forwarded(REQUEST_LINE, "a Host with its final dot", host("a.test."))
            .field("host", Some("a.test.")),
        forwarded(
            REQUEST_LINE,
            "white space around Host",
            host(" \t a.test \t "),
        )
        .field("host", Some("a.test")),
        // Request lines.
        forwarded(REQUEST_LINE, "HTTP/1.0", line("GET / HTTP/1.0")),
        forwarded(
            REQUEST_LINE,
            "empty lines before the request (§2.2)",
            format!("\r\n\r\n{}", get("")),
        ),
        forwarded(
            "get / HTTP/1.1",
            "a method in lower case is another one",
            line("get / HTTP/1.1"),
        ),
        refused(400, "HTTP/0.9", "GET /\r\n\r\n"),
        refused(400, "HTTP/1.2", line("GET / HTTP/1.2")),
        refused(400, "HTTP/3.0", line("GET / HTTP/3.0")),
        refused(400, "HTTP/1.10", line("GET / HTTP/1.10")),
        refused(400, "a version in lower case", line("GET / http/1.1")),
        refused(400, "no version", line("GET / ")),
        refused(400, "two spaces", line("GET  / HTTP/1.1")),
        refused(400, "a tab instead of a space", line("GET\t/ HTTP/1.1")),
        refused(400, "a space at the end", line("GET / HTTP/1.1 ")),
        refused(400, "a space at the beginning", line(" GET / HTTP/1.1")),
        refused(400, "a method that is no token", line("G@T{} / HTTP/1.1")),
        refused(
            400,
            "a control character in the method",
            line("GE\x01T / HTTP/1.1"),
        ),
        refused(400, "no method", line("/ HTTP/1.1")),
        // The preface of HTTP/2 where ALPN selected HTTP/1.1: hyper closes the connection.
        refused(0, "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").statuses(&[]),
        // Fields (§5).
        refused(400, "a space before the colon", get("X-A : 1\r\n")),
        refused(400, "a tab before the colon", get("X-A\t: 1\r\n")),
        refused(
            400,
            "a space before the first field",
            "GET / HTTP/1.1\r\n X-A: 1\r\nHost: a.test\r\n\r\n",
        ),
        refused(400, "obs-fold with a space", get("X-A: 1\r\n 2\r\n")),
        refused(400, "obs-fold with a tab", get("X-A: 1\r\n\t2\r\n")),
        refused(
            400,
            "a folded Host",
            "GET / HTTP/1.1\r\nHost: a.test\r\n .b.test\r\n\r\n",
        ),
        refused(400, "no colon", get("X-A\r\n")),
        refused(400, "no name", get(": 1\r\n")),
        refused(400, "a name with a space in it", get("X A: 1\r\n")),
        refused(400, "a name that is no token", get("X(A): 1\r\n")),
        refused(400, "a name that is not ASCII", get("X-Ä: 1\r\n")),
        refused(400, "NUL in a name", get("X\0A: 1\r\n")),
        refused(400, "NUL in a value", get("X-A: 1\0\r\n")),
        refused(400, "a control character in a value", get("X-A: \x01\r\n")),
        refused(400, "DEL in a value", get("X-A: \x7f\r\n")),
        refused(400, "a bare CR in a value", get("X-A: 1\rHost: b.test\r\n")),
        refused(400, "a bare CR at the end of a value", get("X-A: 1\r\r\n")),
        // §2.2 lets a line end with LF alone; the forwarded head has CRLF.
        forwarded(
            REQUEST_LINE,
            "bare LF",
            "GET / HTTP/1.1\nHost: a.test\nX-A: 1\n\n",
        )
        .field("x-a", Some("1")),
        forwarded(REQUEST_LINE, "an empty value", get("X-A:\r\n")).field("x-a", Some("")),
        refused(
            431,
            "more fields than any client sends",
            get(&"X-A: 1\r\n".repeat(1000)),
        ),
        refused(
            431,
            "a head beyond head_size",
            get(&format!("X-A: {}\r\n", "x".repeat(20_000))),
        ),
        // Names that a WSGI server cannot distinguish from others.
        refused(400, "X_Forwarded_For", get("X_Forwarded_For: 6.6.6.6\r\n")),
        refused(
            400,
            "X-Forwarded_Proto",
            get("X-Forwarded_Proto: https\r\n"),
        ),
        refused(400, "x_real_ip", get("x_real_ip: 6.6.6.6\r\n")),
        refused(400, "Content_Length", get("Content_Length: 5\r\n")),
        refused(
            400,
            "Transfer_Encoding",
            get("Transfer_Encoding: chunked\r\n"),
        ),
        forwarded(
            REQUEST_LINE,
            "another name with an underscore",
            get("X_Custom: 1\r\n"),
        )
        .field("x_custom", Some("1")),
        // The address headers of a client are not trusted here.
        forwarded(
            REQUEST_LINE,
            "X-Forwarded-For",
            get("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n"),
        )
        .field("x-forwarded-for", Some("127.0.0.1")),
        forwarded(
            REQUEST_LINE,
            "Forwarded, X-Real-IP, X-Forwarded-Host",
            get("Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Host: b.test\r\n"),
        )
        .field("x-real-ip", Some("127.0.0.1"))
        .field("x-forwarded-host", Some("a.test")),
        // RFC 9110 §7.6.1: fields named by Connection are removed, except Host, Cookie, Authorization and forwarding
        // fields.
        forwarded(
            REQUEST_LINE,
            "Connection names a field",
            get("Connection: X-Drop\r\nX-Drop: 1\r\n"),
        )
        .field("x-drop", None),
        forwarded(
            REQUEST_LINE,
            "Connection names several, in several lines",
            get("Connection: X-Drop,,\t x-two\r\nConnection: close\r\nX-Drop: 1\r\nX-Two: 2\r\n"),
        )
        .field("x-drop", None)
        .field("x-two", None),
        forwarded(
            REQUEST_LINE,
            "Connection names Host",
            get("Connection: Host\r\n"),
        )
        .field("host", Some("a.test")),
        forwarded(
            REQUEST_LINE,
            "Connection names Cookie and Authorization",
            get("Connection: Cookie, Authorization\r\nCookie: a\r\nAuthorization: b\r\n"),
        )
        .field("cookie", Some("a"))
        .field("authorization", Some("b")),
        forwarded(
            REQUEST_LINE,
            "Connection names X-Forwarded-For",
            get("Connection: close, X-Forwarded-For, X-Real-IP\r\n"),
        )
        .field("x-forwarded-for", Some("127.0.0.1")),
        forwarded(
            REQUEST_LINE,
            "every field for one hop",
            get(
                "Keep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers, gzip\r\nTrailer: Host\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nHTTP2-Settings: x\r\n",
            ),
        ),
        // Pipelining: requests are answered in order, and none after an invalid one.
        forwarded(
            "GET / HTTP/1.1",
            "two requests at once",
            get("") + &line("GET /second HTTP/1.1"),
        )
        .statuses(&[200, 200])
        .then("GET /second HTTP/1.1"),
        forwarded(
            "GET / HTTP/1.1",
            "a request and a bad one",
            get("") + &line("GET /second HTTP/1.1 ") + &line("GET /third HTTP/1.1"),
        )
        .statuses(&[200, 400]),
        forwarded(
            "GET / HTTP/1.1",
            "a request and one for another Host",
            get("") + "GET /second HTTP/1.1\r\nHost: b.test\r\n\r\n",
        )
        .statuses(&[200, 404]),
        forwarded(
            "GET / HTTP/1.1",
            "a request behind the last one",
            get("Connection: close\r\n") + &get(""),
        ),
    ]
}
