//! Request targets: their form (RFC 9112 §3.2) and their path (RFC 3986 §6.2.2).

use super::{Row, forwarded, refused};

pub(super) fn rows() -> Vec<Row> {
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let bad = |name, it: &str| refused(400, name, target(it));
    let good =
        |name, it: &str, path: &str| forwarded(&format!("GET {path} HTTP/1.1"), name, target(it));
    vec![
        bad("another authority than Host", "http://b.test/"),
        bad("another port than Host", "https://a.test:81/"),
        bad("userinfo", "http://root@a.test/"),
        bad("userinfo that looks like Host", "http://a.test@b.test/"),
        bad("a scheme that is not served", "ftp://a.test/"),
        bad("no authority", "http:///a"),
        bad("authority-form", "a.test:443"),
        bad("no slash", "a"),
        bad("a query alone", "?a"),
        bad("asterisk-form and GET", "*"),
        refused(
            400,
            "asterisk-form",
            "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            405,
            "CONNECT",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        ),
        refused(
            405,
            "CONNECT with a path",
            "CONNECT / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            400,
            "absolute-form without Host",
            "GET http://a.test/ HTTP/1.1\r\n\r\n",
        ),
        good("absolute-form", "https://a.test/x?y", "/x?y").field("host", Some("a.test")),
        good("absolute-form, in another case", "HTTPS://A.TEST/x", "/x")
            .field("host", Some("a.test")),
        good("absolute-form without a path", "http://a.test", "/"),
        good(
            "absolute-form with a query and no path",
            "http://a.test?y",
            "/?y",
        ),
        good(
            "something absolute in the path",
            "/http://b.test/",
            "/http:/b.test/",
        ),
        // Slashes are merged, as some backends do. In origin-form a target with two leading slashes is a path, not an
        // authority.
        good("two slashes", "//b.test/x", "/b.test/x"),
        good("two slashes in the middle", "/a//b", "/a/b"),
        good("dot segments", "/a/./b/../c", "/a/c"),
        good("escaped dot segments", "/a/%2e%2E/b", "/b"),
        good("half escaped dots", "/a/.%2e/b", "/b"),
        good("a dot segment at the end", "/a/b/..", "/a/"),
        good("escaped twice", "/%252e%252e/a", "/%252e%252e/a"),
        good("three dots", "/.../a", "/.../a"),
        good("an escaped letter", "/%61dmin", "/admin"),
        good(
            "dots behind a semicolon are no segment",
            "/a/..;/b",
            "/a/..;/b",
        ),
        good("dots in the query", "/a?../..", "/a?../.."),
        bad("above the root", "/../a"),
        bad("above the root, escaped", "/a/%2e%2e/%2e%2e/b"),
        bad("an escaped slash", "/a%2fb"),
        bad("dots behind an escaped slash", "/a/..%2fb"),
        bad("dots between escaped slashes", "/a%2f..%2fb"),
        bad("dots before a backslash", "/a/..\\b"),
        bad("a backslash", "/a\\b"),
        bad("an escaped backslash", "/a%5cb"),
        bad("an escaped NUL", "/a%00"),
        bad("an escaped line end", "/a%0d%0aX:%20y"),
        bad("an escaped DEL", "/a%7f"),
        bad("half an escape", "/a%2"),
        bad("an invalid escape", "/a%zz"),
        bad("% alone", "/%"),
        bad("a space", "/a b"),
        bad("a tab", "/a\tb"),
        bad("NUL", "/a\0"),
        bad("a control character", "/a\x01"),
        bad("DEL", "/a\x7f"),
        bad("not ASCII", "/ä"),
        refused(
            400,
            "not UTF-8",
            b"GET /\xff HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        bad("NUL in the query", "/?\0"),
        bad("a control character in the query", "/?\x01"),
        // §3.2: a target has no fragment. hyper removes it before routing; the forwarded target has none.
        good("a fragment", "/a#b", "/a"),
        good("a fragment with dots", "/a#/../b", "/a"),
        refused(
            414,
            "a target longer than any",
            target(&format!("/{}", "a".repeat(70_000))),
        )
        .statuses(&[431]),
    ]
}
