//! CONNECT, plain and extended (RFC 9113 §8.5, RFC 8441 §4).

use super::{End, Row, body, forwarded, get, malformed, open, refused, request, with};

pub(super) fn rows() -> Vec<Row> {
    let connect = |more: &[(&'static str, &'static str)]| {
        let list = with(more, &[(":method", Some("CONNECT"))]);
        [vec![(":protocol", "websocket")], list].concat()
    };
    let replaced = |name, value| {
        let list = with(&[], &[(":method", Some("CONNECT")), (name, value)]);
        [vec![(":protocol", "websocket")], list].concat()
    };
    let protocol = |protocol| {
        let list = with(&[], &[(":method", Some("CONNECT"))]);
        open(&[vec![(":protocol", protocol)], list].concat())
    };
    let bad = |name, bytes| refused(End::Status(400), name, bytes);
    let opens = |name, bytes| forwarded("GET / HTTP/1.1", name, bytes);
    vec![
        opens("a WebSocket", open(&connect(&[]))).field("upgrade", Some("websocket")),
        opens(
            "a key, which means nothing here",
            open(&connect(&[
                ("sec-websocket-key", "bad"),
                ("sec-websocket-version", "13"),
            ])),
        )
        .field("sec-websocket-version", Some("13")),
        opens("a length of 0", open(&connect(&[("content-length", "0")]))),
        opens("te: trailers", open(&connect(&[("te", "trailers")]))),
        opens("dot segments", open(&replaced(":path", Some("/a/../")))),
        opens(
            "Host and no :authority",
            open(&[replaced(":authority", None), vec![("host", "a.test")]].concat()),
        ),
        refused(
            End::Status(405),
            "a plain CONNECT",
            open(&[(":method", "CONNECT"), (":authority", "a.test:443")]),
        ),
        refused(
            End::Status(405),
            "a plain CONNECT to elsewhere",
            open(&[(":method", "CONNECT"), (":authority", "b.test:22")]),
        ),
        malformed(
            "a plain CONNECT with :path",
            open(&with(
                &[],
                &[(":method", Some("CONNECT")), (":scheme", None)],
            )),
        ),
        malformed(
            "a plain CONNECT with :scheme",
            open(&with(&[], &[(":method", Some("CONNECT")), (":path", None)])),
        ),
        malformed(
            ":protocol and GET",
            request(&[vec![(":protocol", "websocket")], get(&[])].concat()),
        ),
        malformed(
            "two :protocol",
            open(&[vec![(":protocol", "websocket")], connect(&[])].concat()),
        ),
        malformed(
            ":protocol behind a field",
            open(
                &[
                    with(&[("x-a", "1")], &[(":method", Some("CONNECT"))]),
                    vec![(":protocol", "websocket")],
                ]
                .concat(),
            ),
        ),
        malformed("no :path", open(&replaced(":path", None))),
        malformed("an empty :path", open(&replaced(":path", Some("")))),
        malformed("no :scheme", open(&replaced(":scheme", None))),
        bad("no :authority", open(&replaced(":authority", None))),
        bad("another Host", open(&connect(&[("host", "b.test")]))),
        bad(
            "a :scheme that is not served",
            open(&replaced(":scheme", Some("ftp"))),
        ),
        bad("above the root", open(&replaced(":path", Some("/../x")))),
        bad("asterisk-form", open(&replaced(":path", Some("*")))),
        refused(
            End::Status(501),
            "another protocol",
            protocol("connect-udp"),
        ),
        refused(
            End::Status(501),
            "WebSocket in another case (the comparison is case-sensitive)",
            protocol("WebSocket"),
        ),
        refused(End::Status(501), "an empty protocol", protocol("")),
        refused(
            End::Status(501),
            "a list of protocols",
            protocol("websocket, h2c"),
        ),
        // hyper intends to reset the stream, but closes the whole connection.
        refused(
            End::Over,
            "a length",
            [open(&connect(&[("content-length", "5")])), body("hello")].concat(),
        ),
        malformed(
            "an invalid length",
            open(&connect(&[("content-length", "x")])),
        ),
        malformed(
            "transfer-encoding",
            open(&connect(&[("transfer-encoding", "chunked")])),
        ),
        malformed(
            "connection and upgrade",
            open(&connect(&[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
            ])),
        ),
        refused(
            End::Status(426),
            "version 8",
            open(&connect(&[("sec-websocket-version", "8")])),
        ),
        refused(
            End::Status(426),
            "two versions",
            open(&connect(&[
                ("sec-websocket-version", "13"),
                ("sec-websocket-version", "13"),
            ])),
        ),
        bad(
            "a key's twin",
            open(&connect(&[("sec_websocket_key", "x")])),
        ),
        bad(
            "a subprotocol twice",
            open(&connect(&[("sec-websocket-protocol", "a, a")])),
        ),
        bad(
            "an invalid extension",
            open(&connect(&[("sec-websocket-extensions", ";a")])),
        ),
    ]
}
