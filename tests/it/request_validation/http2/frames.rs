//! Frames where none may be, of a size that none may have, and header blocks that cannot be read.

use super::{End, Row, ask, get, malformed, passes, refused};
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
    let clean = |name, bytes| passes("GET / HTTP/1.1", name, bytes);
    let gone = |name, bytes| refused(End::Away, name, bytes);
    let headers = |stream, block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
    let begun = frame(HEADERS, END_STREAM, 1, one);
    let twice = [one, &[0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]].concat();
    vec![
        clean(
            "a header block in two frames",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 1, two)].concat(),
        ),
        clean(
            "an empty CONTINUATION",
            [
                begun.clone(),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, two),
            ]
            .concat(),
        ),
        clean(
            "padding",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &[&[3][..], &block, &[0; 3]].concat(),
            ),
        ),
        clean(
            "a priority",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITY,
                1,
                &[&[0, 0, 0, 0, 1][..], &block].concat(),
            ),
        ),
        clean(
            "a frame of an unknown kind (§5.5)",
            [frame(0x42, 0xFF, 0, b"x"), ask(&get(&[]))].concat(),
        ),
        clean(
            "PING before",
            [frame(PING, 0, 0, &[1; 8]), ask(&get(&[]))].concat(),
        ),
        gone(
            "no CONTINUATION but PING",
            [begun.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        gone(
            "CONTINUATION of another stream",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 3, two)].concat(),
        ),
        gone(
            "HEADERS where CONTINUATION is due",
            [begun.clone(), headers(3, &block)].concat(),
        ),
        gone(
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &block),
        ),
        gone("HEADERS in stream 0", headers(0, &block)),
        gone("HEADERS in an even stream", headers(2, &block)),
        gone("DATA in stream 0", frame(DATA, 0, 0, b"x")),
        gone("DATA in an idle stream", frame(DATA, 0, 1, b"x")),
        gone(
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
        ),
        gone("RST_STREAM in stream 0", frame(RST_STREAM, 0, 0, &[0; 4])),
        gone(
            "WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        gone("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        gone(
            "a window beyond 31 bits",
            frame(WINDOW_UPDATE, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF]),
        ),
        gone(
            "PUSH_PROMISE from a client",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 2][..], &block].concat(),
            ),
        ),
        gone("SETTINGS in a stream", frame(SETTINGS, 0, 1, b"")),
        gone(
            "a client that pushes",
            frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
        ),
        gone(
            "a window beyond 31 bits by SETTINGS",
            frame(SETTINGS, 0, 0, &[0, 4, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        gone(
            "a frame size below the least",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        gone("half a setting", frame(SETTINGS, 0, 0, &[0, 4, 0])),
        gone(
            "an acknowledgement with settings",
            frame(SETTINGS, 1, 0, &[0, 4, 0, 0, 0, 1]),
        ),
        gone("a short PING", frame(PING, 0, 0, &[0; 7])),
        gone("PING in a stream", frame(PING, 0, 1, &[0; 8])),
        gone(
            "a frame beyond the greatest size",
            frame(DATA, 0, 1, &vec![0; 16_385]),
        ),
        gone("a short RST_STREAM", frame(RST_STREAM, 0, 1, &[0; 3])),
        gone(
            "more padding than payload",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0]),
        ),
        gone(
            "the preface again",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        gone(
            "HTTP/1.1",
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        ),
        gone(
            "a block that ends too soon",
            headers(1, &block[..block.len() - 1]),
        ),
        gone(
            "an index that is not there",
            headers(1, &[0xFF, 0x80, 0x01]),
        ),
        gone("index 0", headers(1, &[0x80])),
        gone(
            "a Huffman code that is none",
            headers(1, &[0, 0x81, 0x00, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        gone("a table size in the middle", headers(1, &twice)),
        malformed("no header at all", headers(1, b"")),
        // A stream's number is used once (§5.1.1).
        gone("a number again", [ask(&get(&[])), ask(&get(&[]))].concat()),
        gone(
            "a lower number",
            [headers(3, b""), headers(1, &block)].concat(),
        ),
    ]
}
