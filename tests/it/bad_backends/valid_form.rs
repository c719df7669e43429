//! Responses of faulty backends: a client over HTTP/2 and one over HTTP/1.1 receive a valid form of each, or a refusal.

use super::GET;
use crate::harness::{
    Backend, H2, Lockgate, RawH2, Wire,
    raw_h2::{self, HELLO, frame, hpack},
    request, within,
};
use Expected::{Answer, Cut, Refused};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};

/// What a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// This status, with a body of this length.
    Answer(u16, usize),
    /// A 502.
    Refused,
    /// A response that ends before its body is complete.
    Cut,
}

/// One response of a backend, from the status line on.
struct Case {
    name: &'static str,
    method: &'static str,
    response: &'static str,
    expected: Expected,
    /// Fields of the head, with their only value; `None`: absent.
    fields: &'static [(&'static str, Option<&'static str>)],
}

const fn case(name: &'static str, response: &'static str, expected: Expected) -> Case {
    Case {
        name,
        method: "GET",
        response,
        expected,
        fields: &[],
    }
}

const fn head(name: &'static str, response: &'static str, expected: Expected) -> Case {
    Case {
        method: "HEAD",
        ..case(name, response, expected)
    }
}

const CASES: &[Case] = &[
    Case {
        fields: &[
            ("x-end", Some("1")),
            ("x-hop", None),
            ("keep-alive", None),
            ("proxy-connection", None),
            ("te", None),
            ("upgrade", None),
            ("http2-settings", None),
            ("trailer", None),
        ],
        ..case(
            "connection-specific fields",
            "200 OK\r\nConnection: X-Hop, keep-alive, Upgrade\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
             TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nTrailer: X\r\nX-END: 1\r\nContent-Length: 2\r\n\r\nok",
            Answer(200, 2),
        )
    },
    case(
        "unlisted Keep-Alive",
        "200 OK\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        Answer(200, 2),
    ),
    // Content-Length.
    Case {
        fields: &[("content-length", None)],
        ..case(
            "204 with a length",
            "204 No Content\r\nContent-Length: 5\r\n\r\n",
            Answer(204, 0),
        )
    },
    Case {
        fields: &[("content-length", None)],
        ..case(
            "204 with a body",
            "204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            Answer(204, 0),
        )
    },
    case(
        "204 with chunks",
        "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Answer(204, 0),
    ),
    case(
        "304 with a length",
        "304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Answer(304, 0),
    ),
    case(
        "304 with a body",
        "304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
        Answer(304, 0),
    ),
    case(
        "304 with chunks",
        "304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Answer(304, 0),
    ),
    Case {
        fields: &[("content-length", Some("5"))],
        ..head(
            "HEAD with a length",
            "200 OK\r\nContent-Length: 5\r\n\r\n",
            Answer(200, 0),
        )
    },
    head(
        "HEAD with a body",
        "200 OK\r\nContent-Length: 5\r\n\r\nhello",
        Answer(200, 0),
    ),
    head(
        "HEAD with chunks",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Answer(200, 0),
    ),
    case(
        "body shorter than its length",
        "200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        Cut,
    ),
    case(
        "body longer than its length",
        "200 OK\r\nContent-Length: 2\r\n\r\nokmore",
        Answer(200, 2),
    ),
    case(
        "two lengths",
        "200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "list of two lengths",
        "200 OK\r\nContent-Length: 1, 2\r\n\r\nok",
        Refused,
    ),
    Case {
        fields: &[("content-length", Some("2"))],
        ..case(
            "repeated length",
            "200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            Answer(200, 2),
        )
    },
    case(
        "signed length",
        "200 OK\r\nContent-Length: +2\r\n\r\nok",
        Refused,
    ),
    case(
        "length in hexadecimal",
        "200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        Refused,
    ),
    case(
        "length without digits",
        "200 OK\r\nContent-Length: \r\n\r\nok",
        Refused,
    ),
    case(
        "length beyond 64 bits",
        "200 OK\r\nContent-Length: 18446744073709551617\r\n\r\nok",
        Refused,
    ),
    case(
        "length at the end of 64 bits",
        "200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nok",
        Refused,
    ),
    // Transfer-Encoding.
    case(
        "unknown transfer coding",
        "200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "transfer coding without chunks",
        "200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        Refused,
    ),
    case(
        "chunked twice",
        "200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "chunked in two fields",
        "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "identity",
        "200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        Refused,
    ),
    case(
        "chunk with a bad size",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
        Cut,
    ),
    case(
        "chunk without its end",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokxx\r\n0\r\n\r\n",
        Cut,
    ),
    case(
        "no last chunk",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        Cut,
    ),
    case(
        "chunk size beyond 64 bits",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n",
        Cut,
    ),
    // Status.
    case(
        "100",
        "100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Answer(200, 2),
    ),
    case(
        "102",
        "102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Answer(200, 2),
    ),
    case(
        "103",
        "103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Answer(200, 2),
    ),
    case(
        "199",
        "199 X\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Answer(200, 2),
    ),
    case("100 alone", "100 Continue\r\n\r\n", Refused),
    case(
        "101",
        "101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        Refused,
    ),
    case(
        "101 without Upgrade",
        "101 Switching Protocols\r\n\r\n",
        Refused,
    ),
    case(
        "599",
        "599 X\r\nContent-Length: 2\r\n\r\nok",
        Answer(599, 2),
    ),
    case("600", "600 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    case("999", "999 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    case("099", "099 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    case("000", "000 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    case("20", "20 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    case("2000", "2000 X\r\nContent-Length: 2\r\n\r\nok", Refused),
    // Fields.
    case(
        "name with a colon in front",
        "200 OK\r\n:status: 204\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "empty name",
        "200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "name with a blank",
        "200 OK\r\nX Y: 1\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "blank before the colon",
        "200 OK\r\nContent-Length : 2\r\n\r\nok",
        Refused,
    ),
    case(
        "name with a control character",
        "200 OK\r\nX\x01: 1\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "name beyond ASCII",
        "200 OK\r\nX\u{e9}: 1\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "line without a colon",
        "200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "folded line",
        "200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "CR in a value",
        "200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "NUL in a value",
        "200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    case(
        "control character in a value",
        "200 OK\r\nX: a\x0bb\r\nContent-Length: 2\r\n\r\nok",
        Refused,
    ),
    Case {
        fields: &[("x", Some("a")), ("y", Some("b"))],
        ..case(
            "lines that end with LF",
            "200 OK\nX: a\nY: b\nContent-Length: 2\n\nok",
            Answer(200, 2),
        )
    },
    Case {
        fields: &[("x", Some("a"))],
        ..case(
            "blanks around a value",
            "200 OK\r\nX: \t a \t \r\nContent-Length: 2\r\n\r\nok",
            Answer(200, 2),
        )
    },
    // Trailers.
    case(
        "trailers",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Content-Length: 9\r\nTE: gzip\r\nTrailer: X\r\nUpgrade: h2c\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nSet-Cookie: a=b\r\n\
         Content-Type: a/b\r\nHost: b\r\nAuthorization: x\r\n\r\n",
        Answer(200, 2),
    ),
    case(
        "trailer with a colon in front",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n:status: 204\r\n\r\n",
        Cut,
    ),
    case(
        "trailer without a colon",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX\r\n\r\n",
        Cut,
    ),
];

#[tokio::test]
async fn h2_and_h1_clients_receive_valid_responses_of_faulty_backends() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut wrong = vec![];
    for case in CASES {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let response = format!("{version} {}", case.response);
            let h2 = over_h2(&lockgate, &backend, case, &response).await;
            let h1 = over_h1(&lockgate, &backend, case, &response).await;
            for (client, received) in [("HTTP/2", h2), ("HTTP/1.1", h1)] {
                if let Err(fault) = received.and_then(|it| check(case, version, it)) {
                    wrong.push(format!("{}, {version} to {client}: {fault}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        !lockgate.stderr().contains("panicked"),
        "{}",
        lockgate.stderr()
    );
}

/// A response as the client received it.
#[derive(Debug)]
struct Received {
    status: u16,
    fields: HeaderMap,
    /// `None` if it was cut.
    body: Option<usize>,
    trailers: HeaderMap,
}

impl Received {
    fn cut() -> Received {
        Received {
            status: 200,
            fields: HeaderMap::new(),
            body: None,
            trailers: HeaderMap::new(),
        }
    }
}

fn check(case: &Case, version: &str, it: Received) -> Result<(), String> {
    let got = match it.body {
        _ if it.status == 502 => Refused,
        None => Cut,
        Some(length) => Answer(it.status, length),
    };
    // RFC 9112 §6.1: a Transfer-Encoding in HTTP/1.0 is faulty framing.
    let is_faulty = version == "HTTP/1.0" && case.response.contains("Transfer-Encoding");
    if got != case.expected && !(is_faulty && matches!(got, Refused | Cut)) {
        return Err(format!("{got:?} instead of {:?}", case.expected));
    }
    for name in CONNECTION_SPECIFIC {
        // HTTP/1.1 has its own of two of them.
        if it.fields.contains_key(name) {
            return Err(format!("{name}: {:?}", it.fields));
        }
    }
    for name in CONNECTION_SPECIFIC.iter().chain(&NOT_IN_TRAILERS) {
        if it.trailers.contains_key(*name) {
            return Err(format!("trailer {name}: {:?}", it.trailers));
        }
    }
    if got != case.expected {
        return Ok(());
    }
    for (name, value) in case.fields {
        let values: Vec<_> = it.fields.get_all(*name).iter().collect();
        if values != value.iter().collect::<Vec<_>>() {
            return Err(format!("{name}: {values:?} instead of {value:?}"));
        }
    }
    Ok(())
}

/// RFC 9113 §8.2.2, and `Trailer`, which announces trailers that are not sent.
const CONNECTION_SPECIFIC: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// RFC 9110 §6.5.1.
const NOT_IN_TRAILERS: [&str; 5] = [
    "authorization",
    "content-length",
    "content-type",
    "host",
    "set-cookie",
];

async fn respond(backend: &Backend, response: &str) -> Wire {
    let mut server = backend.accept().await;
    server.head().await;
    let bytes: Vec<u8> = response.chars().map(|it| it as u8).collect();
    let mut sent = 0;
    while sent < bytes.len()
        && let Some(n) = server.try_send(&bytes[sent..]).await
    {
        sent += n;
    }
    server
}

async fn over_h2(
    lockgate: &Lockgate,
    backend: &Backend,
    case: &Case,
    response: &str,
) -> Result<Received, String> {
    // A client that finds a response malformed ends the connection.
    let mut client: H2 = lockgate.h2().await;
    let request: Request<Full<Bytes>> = request(case.method, "/");
    let answer = client.try_send(request);
    let serve = async {
        drop(respond(backend, response).await);
    };
    let (answer, ()) = tokio::join!(answer, serve);
    let (parts, mut body) = match answer {
        Ok(answer) => answer.into_parts(),
        // The head and the fault were read at once.
        Err(_) if case.expected == Cut => return Ok(Received::cut()),
        Err(error) => return Err(format!("no response: {error:?}")),
    };
    let mut received = Received {
        status: parts.status.as_u16(),
        fields: parts.headers,
        body: Some(0),
        trailers: HeaderMap::new(),
    };
    while let Some(frame) = within("a frame", body.frame()).await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => received.body = received.body.map(|length| length + data.len()),
            Ok(Err(trailers)) => received.trailers = trailers.into_trailers().unwrap_or_default(),
            Err(_) => {
                received.body = None;
                break;
            }
        }
    }
    Ok(received)
}

async fn over_h1(
    lockgate: &Lockgate,
    backend: &Backend,
    case: &Case,
    response: &str,
) -> Result<Received, String> {
    let get = GET
        .replace("GET", case.method)
        .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut client = lockgate.request(get).await;
    drop(respond(backend, response).await);
    let end = client.end().await.bytes;
    let Some(at) = end.windows(4).position(|it| it == b"\r\n\r\n") else {
        return match case.expected {
            Cut => Ok(Received::cut()),
            _ => Err("no head".to_owned()),
        };
    };
    let (head, body) = (crate::harness::Head::parse(&end[..at]), &end[at + 4..]);
    let mut fields = HeaderMap::new();
    for (name, value) in &head.fields {
        let name = name
            .parse::<http::HeaderName>()
            .map_err(|error| error.to_string())?;
        fields.append(
            name,
            value
                .parse()
                .map_err(|error| format!("{value:?}: {error}"))?,
        );
    }
    // Lockgate's own.
    fields.remove("connection");
    let no_body = case.method == "HEAD" || matches!(head.status(), 204 | 304);
    let chunked = fields.remove("transfer-encoding").is_some();
    let length = fields
        .get("content-length")
        .and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    let (body, trailers) = match (no_body, chunked, length) {
        (true, ..) => (body.is_empty().then_some(0), HeaderMap::new()),
        (_, true, Some(_)) => return Err(format!("both framings: {head:?}")),
        (_, true, None) => (chunks(body), HeaderMap::new()),
        (_, false, Some(length)) => ((body.len() == length).then_some(length), HeaderMap::new()),
        (_, false, None) => (Some(body.len()), HeaderMap::new()),
    };
    Ok(Received {
        status: head.status(),
        fields,
        body,
        trailers,
    })
}

/// The length of a body in chunks; `None` if it is not complete.
fn chunks(mut rest: &[u8]) -> Option<usize> {
    let mut length = 0;
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return (rest == b"\r\n").then_some(length);
        }
        length += size;
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// The response to a handshake is rewritten like any other.
#[tokio::test]
async fn faulty_refusal_of_a_handshake_is_refused() {
    for (name, response, status) in [
        (
            "unknown transfer coding",
            "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            502,
        ),
        (
            "status out of range",
            "HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nno",
            502,
        ),
        (
            "connection-specific fields",
            "HTTP/1.1 403 Forbidden\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nContent-Length: 2\r\n\r\nno",
            403,
        ),
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).start().await;
        let mut client = lockgate.upgrade("/", "").await;
        drop(respond(&backend, response).await);
        let head = client.head().await;
        assert_eq!(head.status(), status, "{name}, HTTP/1.1");
        assert!(
            head.get("x-hop").is_none() && head.get("keep-alive").is_none(),
            "{head:?}"
        );

        let mut client = lockgate.h2().await;
        let opened = client.websocket("/", &[]);
        let ((answer, session), _) = tokio::join!(opened, respond(&backend, response));
        assert_eq!(answer.status(), status, "{name}, HTTP/2");
        assert!(session.is_none());
        for field in CONNECTION_SPECIFIC.iter().chain(&["x-hop"]) {
            assert!(!answer.headers().contains_key(*field), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn response_before_the_end_of_the_request_body_is_forwarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let response =
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let mut client = lockgate
        .request("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nsome")
        .await;
    let held = respond(&backend, response).await;
    let head = client.head().await;
    assert_eq!(head.status(), 413);
    assert_eq!(client.body(&head).await, b"no");
    drop(held);

    let post = hpack(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    let open = frame(raw_h2::HEADERS, raw_h2::END_HEADERS, 1, &post);
    let stream = lockgate.tls_for_h2().await;
    let mut client = RawH2::over(stream, &[HELLO, &open].concat()).await;
    let _held = respond(&backend, response).await;
    let (mut status, mut body) = (0, vec![]);
    loop {
        let next = client.frame().await.expect("a frame");
        match next.kind {
            raw_h2::HEADERS => status = next.status(),
            raw_h2::DATA => body.extend(&next.payload),
            raw_h2::RST_STREAM | raw_h2::GOAWAY => panic!("{next:?}"),
            _ => {}
        }
        if next.stream == 1 && next.flags & raw_h2::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!((status, &body[..]), (413, &b"no"[..]));
}
