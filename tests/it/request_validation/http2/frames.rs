//! Frames in wrong places or of invalid size, and invalid header blocks.

use super::{End, Row, forwarded, get, malformed, refused, request};
use crate::harness::raw_h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, hpack,
};

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PUSH_PROMISE: u8 = 5;

pub(super) fn rows() -> Vec<Row> {
    let block = hpack(&get(&[]));
    let (one, two) = block.split_at(5);
    let valid = |name, bytes| forwarded("GET / HTTP/1.1", name, bytes);
    let connection_error = |name, bytes| refused(End::Away, name, bytes);
    let headers = |stream, block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
    let begun = frame(HEADERS, END_STREAM, 1, one);
    let twice = [one, &[0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]].concat();
    vec![
        valid(
            "a header block in two frames",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 1, two)].concat(),
        ),
        valid(
            "an empty CONTINUATION",
            [
                begun.clone(),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, two),
            ]
            .concat(),
        ),
        valid(
            "padding",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &[&[3][..], &block, &[0; 3]].concat(),
            ),
        ),
        valid(
            "a priority",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITY,
                1,
                &[&[0, 0, 0, 0, 1][..], &block].concat(),
            ),
        ),
        valid(
            "a frame of an unknown kind (§5.5)",
            [frame(0x42, 0xFF, 0, b"x"), request(&get(&[]))].concat(),
        ),
        valid(
            "PING before",
            [frame(PING, 0, 0, &[1; 8]), request(&get(&[]))].concat(),
        ),
        connection_error(
            "no CONTINUATION but PING",
            [begun.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        connection_error(
            "CONTINUATION of another stream",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 3, two)].concat(),
        ),
        connection_error(
            "HEADERS where CONTINUATION is due",
            [begun.clone(), headers(3, &block)].concat(),
        ),
        connection_error(
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &block),
        ),
        connection_error("HEADERS in stream 0", headers(0, &block)),
        connection_error("HEADERS in an even stream", headers(2, &block)),
        connection_error("DATA in stream 0", frame(DATA, 0, 0, b"x")),
        connection_error("DATA in an idle stream", frame(DATA, 0, 1, b"x")),
        connection_error(
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
        ),
        connection_error("RST_STREAM in stream 0", frame(RST_STREAM, 0, 0, &[0; 4])),
        connection_error(
            "WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        connection_error("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        connection_error(
            "a window beyond 31 bits",
            frame(WINDOW_UPDATE, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF]),
        ),
        connection_error(
            "PUSH_PROMISE from a client",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 2][..], &block].concat(),
            ),
        ),
        connection_error("SETTINGS in a stream", frame(SETTINGS, 0, 1, b"")),
        connection_error(
            "a client that pushes",
            frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
        ),
        connection_error(
            "a window beyond 31 bits by SETTINGS",
            frame(SETTINGS, 0, 0, &[0, 4, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        connection_error(
            "a frame size below the minimum",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        connection_error("half a setting", frame(SETTINGS, 0, 0, &[0, 4, 0])),
        connection_error(
            "an acknowledgement with settings",
            frame(SETTINGS, 1, 0, &[0, 4, 0, 0, 0, 1]),
        ),
        connection_error("a short PING", frame(PING, 0, 0, &[0; 7])),
        connection_error("PING in a stream", frame(PING, 0, 1, &[0; 8])),
        connection_error(
            "a frame beyond the maximum size",
            frame(DATA, 0, 1, &vec![0; 16_385]),
        ),
        connection_error("a short RST_STREAM", frame(RST_STREAM, 0, 1, &[0; 3])),
        connection_error(
            "more padding than payload",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0]),
        ),
        connection_error(
            "the preface again",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        connection_error(
            "HTTP/1.1",
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        ),
        connection_error(
            "a block that ends too soon",
            headers(1, &block[..block.len() - 1]),
        ),
        connection_error("an index beyond the table", headers(1, &[0xFF, 0x80, 0x01])),
        connection_error("index 0", headers(1, &[0x80])),
        connection_error(
            "an invalid Huffman code",
            headers(1, &[0, 0x81, 0x00, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        connection_error("a table size in the middle", headers(1, &twice)),
        malformed("no header at all", headers(1, b"")),
        // A stream identifier is used once (§5.1.1).
        connection_error(
            "a number again",
            [request(&get(&[])), request(&get(&[]))].concat(),
        ),
        connection_error(
            "a lower number",
            [headers(3, b""), headers(1, &block)].concat(),
        ),
    ]
}
