//! Message framing (RFC 9112 §6, §7): `Content-Length`, `Transfer-Encoding` and chunks.

use super::{Row, forwarded, partial, post, refused};

const REQUEST_LINE: &str = "POST / HTTP/1.1";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let coding = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), HELLO);
    let chunks = |chunks: &str| post(CHUNKED, chunks);
    vec![
        forwarded(REQUEST_LINE, "a length", length("5"))
            .body("hello")
            .field("content-length", Some("5")),
        forwarded(REQUEST_LINE, "a length and a request", length("5") + SECOND)
            .body("hello")
            .statuses(&[200, 200])
            .then("GET /second HTTP/1.1"),
        forwarded(
            REQUEST_LINE,
            "the same length twice",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        )
        .body("hello"),
        refused(
            400,
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ),
        refused(400, "two lengths in one line", length("5, 6")),
        refused(400, "a list of the same length", length("5, 5")),
        refused(400, "an empty length", length("")),
        refused(400, "a signed length", length("+5")),
        refused(400, "a negative length", length("-5")),
        refused(400, "a hexadecimal length", length("0x5")),
        refused(400, "a length with a fraction", length("5.0")),
        refused(400, "a length with a space in it", length("5 5")),
        refused(
            400,
            "a length beyond 64 bits",
            length("18446744073709551621"),
        ),
        refused(400, "a length in other digits", length("５")),
        partial(408, "less than the length", length("6")),
        // §6.1: both at once may be refused, or the length is ignored and the connection is closed after the response,
        // so that the following bytes are no request.
        forwarded(
            REQUEST_LINE,
            "a length and chunks",
            post(&format!("Content-Length: 6\r\n{CHUNKED}"), HELLO) + SECOND,
        )
        .body("hello")
        .field("content-length", None),
        forwarded(
            REQUEST_LINE,
            "chunks and a length",
            post(&format!("{CHUNKED}Content-Length: 6\r\n"), HELLO) + SECOND,
        )
        .body("hello")
        .field("content-length", None),
        forwarded(
            REQUEST_LINE,
            "a length of all and chunks of nothing",
            post(&format!("Content-Length: 44\r\n{CHUNKED}"), "0\r\n\r\n") + SECOND,
        )
        .field("content-length", None),
        refused(
            400,
            "chunks in HTTP/1.0",
            coding("chunked").replace("/1.1", "/1.0"),
        ),
        refused(400, "chunked twice", coding("chunked, chunked")),
        refused(400, "chunked in two lines", post(&CHUNKED.repeat(2), HELLO)),
        refused(400, "gzip, chunked", coding("gzip, chunked")),
        refused(400, "chunked, gzip", coding("chunked, gzip")),
        refused(400, "identity", coding("identity")),
        refused(400, "identity, chunked", coding("identity, chunked")),
        refused(400, "an empty coding", coding("")),
        refused(400, "an empty element", coding(", chunked")),
        refused(400, "xchunked", coding("xchunked")),
        refused(400, "a parameter", coding("chunked;a=b")),
        refused(400, "quotes", coding("\"chunked\"")),
        refused(400, "a vertical tab", coding("\x0bchunked")),
        refused(
            400,
            "a folded coding",
            post("Transfer-Encoding:\r\n chunked\r\n", HELLO),
        ),
        refused(
            400,
            "a space before the colon",
            post("Transfer-Encoding : chunked\r\n", HELLO),
        ),
        refused(
            400,
            "identity and a length",
            post(
                "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                "hello",
            ),
        ),
        forwarded(REQUEST_LINE, "Chunked", coding("Chunked")).body("hello"),
        forwarded(
            REQUEST_LINE,
            "white space around chunked",
            coding(" \tchunked\t "),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "Connection names Transfer-Encoding",
            post(
                &format!("Connection: Transfer-Encoding\r\n{CHUNKED}"),
                HELLO,
            ),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "Connection names Content-Length",
            post(
                "Connection: Content-Length\r\nContent-Length: 5\r\n",
                "hello",
            ),
        )
        .body("hello"),
        // Chunks are re-encoded: chunk extensions and trailers are not forwarded.
        forwarded(
            REQUEST_LINE,
            "an extension",
            chunks("5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n"),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "trailers",
            chunks("5\r\nhello\r\n0\r\nX-T: 1\r\nHost: b.test\r\nContent-Length: 7\r\n\r\n"),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "announced trailers",
            post(
                &format!("Trailer: X-T, Host\r\n{CHUNKED}"),
                "5\r\nhello\r\n0\r\nX-T: 1\r\nHost: b.test\r\n\r\n",
            ),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "zeros before a size",
            chunks("0005\r\nhello\r\n000\r\n\r\n"),
        )
        .body("hello"),
        forwarded(
            REQUEST_LINE,
            "a size in either case",
            chunks("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        )
        .body("01234567890123456789"),
        forwarded(REQUEST_LINE, "chunks and a request", chunks(HELLO) + SECOND)
            .body("hello")
            .statuses(&[200, 200])
            .then("GET /second HTTP/1.1"),
        partial(400, "no size", chunks("\r\nhello\r\n0\r\n\r\n")),
        partial(400, "an invalid size", chunks("g\r\nhello\r\n0\r\n\r\n")),
        partial(400, "a signed size", chunks("+5\r\nhello\r\n0\r\n\r\n")),
        partial(400, "a negative size", chunks("-5\r\nhello\r\n0\r\n\r\n")),
        partial(400, "0x", chunks("0x5\r\nhello\r\n0\r\n\r\n")),
        partial(
            400,
            "a size beyond 64 bits",
            chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        partial(
            400,
            "a size with an underscore",
            chunks("0_5\r\nhello\r\n0\r\n\r\n"),
        ),
        partial(400, "two sizes", chunks("5 5\r\nhello\r\n0\r\n\r\n")),
        partial(
            400,
            "a chunk longer than its size",
            chunks("5\r\nhello!\r\n0\r\n\r\n"),
        ),
        partial(
            400,
            "a chunk that ends with LF",
            chunks("5\r\nhello\n0\r\n\r\n"),
        ),
        partial(
            400,
            "a size that ends with LF",
            chunks("5\nhello\r\n0\r\n\r\n"),
        ),
        partial(
            400,
            "a size that ends with CR",
            chunks("5\rhello\r\n0\r\n\r\n"),
        ),
        partial(400, "LF in an extension", chunks("5;a\nhello\r\n0\r\n\r\n")),
        partial(
            400,
            "CR in an extension",
            chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ),
        // The size is never complete, so that no body byte arrives: `body_idle` applies.
        partial(408, "a size without an end", chunks(&"0".repeat(40_000))),
        partial(
            400,
            "an extension without an end",
            chunks(&format!("5;{}", "a".repeat(40_000))),
        ),
        partial(
            400,
            "trailers without an end",
            chunks(&format!("0\r\n{}", "X-T: 1\r\n".repeat(10_000))),
        ),
        partial(400, "an invalid trailer", chunks("0\r\nX-T\0\r\n\r\n")),
        partial(408, "no last chunk", chunks("5\r\nhello\r\n")),
        // Lockgate answers Expect itself (RFC 9110 §10.1.1).
        forwarded(
            REQUEST_LINE,
            "Expect",
            post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
        )
        .body("hello")
        .statuses(&[100, 200]),
    ]
}
