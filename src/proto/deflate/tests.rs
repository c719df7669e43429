use crate::proto::{
    deflate::{compress::FrameDeflater, inflate::FrameInflater, *},
    frame::{RSV1, apply_mask},
    frame_tracker::{Bounds, Violation},
};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

fn negotiate(text: &str) -> Option<DeflateParams> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(text).unwrap();
    headers.append("sec-websocket-extensions", value);
    DeflateParams::negotiate(&headers)
}

#[test]
fn offers_are_answered_with_acceptable_parameters() {
    for (offer, answer) in [
        ("permessage-deflate", Some("")),
        ("foo, permessage-deflate", Some("")),
        // Chromium, Firefox, Python's websockets.
        (
            "permessage-deflate; client_max_window_bits",
            Some("; client_max_window_bits=12"),
        ),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            Some("; server_max_window_bits=12; client_max_window_bits=12"),
        ),
        (
            "permessage-deflate; client_max_window_bits=9",
            Some("; client_max_window_bits=9"),
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            Some("; client_no_context_takeover"),
        ),
        ("permessage-deflate; server_no_context_takeover", Some("")),
        (
            "permessage-deflate; server_max_window_bits=\"10\"",
            Some("; server_max_window_bits=10"),
        ),
        // The first offer cannot be accepted, the second can.
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            Some(""),
        ),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=07", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            None,
        ),
        ("permessage-deflate; unknown", None),
        ("x-webkit-deflate-frame", None),
    ] {
        let response = negotiate(offer).map(|params| params.to_string());
        let answer =
            answer.map(|more| format!("permessage-deflate; server_no_context_takeover{more}"));
        assert_eq!(response, answer, "{offer}");
    }
}

const KEY: [u8; 4] = [7, 0, 250, 3];

/// A client that sends messages, compressed or plain, in fragments.
struct Client {
    compressor: Compress,
    keeps_context: bool,
}

// === impl Client ===

impl Client {
    fn new(params: DeflateParams) -> Client {
        Client {
            compressor: Compress::new_with_window_bits(
                Compression::fast(),
                false,
                params.inflate_window_bits(),
            ),
            keeps_context: params.client_keeps_context,
        }
    }

    fn message(&mut self, text: &[u8], deflate: bool, cut: usize) -> Vec<u8> {
        let mut payload = if deflate {
            packed(&mut self.compressor, text)
        } else {
            text.to_vec()
        };
        if !self.keeps_context {
            self.compressor.reset();
        }
        let mut wire = Vec::new();
        let (last, mut opcode, mut rsv) = (payload.len().div_ceil(cut), Opcode::Binary, 0);
        if deflate {
            rsv = RSV1;
        }
        if payload.is_empty() {
            write_frame(&mut wire, true, rsv, opcode, Some(KEY), &mut []);
        }
        for (n, piece) in payload.chunks_mut(cut).enumerate() {
            write_frame(&mut wire, n + 1 == last, rsv, opcode, Some(KEY), piece);
            (opcode, rsv) = (Opcode::Continuation, 0);
            let mut mark = *b"between two fragments";
            write_frame(&mut wire, true, 0, Opcode::Ping, Some(KEY), &mut mark);
        }
        wire
    }
}

fn packed(compressor: &mut Compress, text: &[u8]) -> Vec<u8> {
    if text.is_empty() {
        // RFC 7692 §7.2.3.6. zlib does not repeat a flush without new data.
        return vec![0];
    }
    let mut payload = Vec::with_capacity(text.len() * 2 + 1000);
    let done = compressor.compress_vec(text, &mut payload, FlushCompress::Sync);
    done.unwrap();
    assert!(payload.ends_with(&TAIL));
    payload.truncate(payload.len() - TAIL.len());
    payload
}

/// Returns the data messages of a stream of frames: unmasked payload, RSV1 of the first frame, number of frames.
fn messages(mut wire: &[u8]) -> Vec<(Vec<u8>, bool, usize)> {
    let mut found: Vec<(Vec<u8>, bool, usize)> = Vec::new();
    let mut open = false;
    while let Some(header) = FrameHeader::parse(wire).unwrap() {
        let mut payload = wire[header.len..][..header.payload_len as usize].to_vec();
        wire = &wire[header.len + payload.len()..];
        apply_mask(&mut payload, header.mask.unwrap_or_default());
        if header.opcode.is_control() {
            assert!(payload.is_empty() || payload == b"between two fragments");
            continue;
        }
        assert_eq!(open, header.opcode == Opcode::Continuation);
        if !open {
            found.push((Vec::new(), header.rsv == RSV1, 0));
        }
        open = !header.fin;
        let last = found.last_mut().unwrap();
        last.0.extend(payload);
        last.2 += 1;
    }
    assert!(wire.is_empty() && !open);
    found
}

/// Inflates all of `wire`, in chunks of `size` bytes, with about `max_len` bytes of output per call.
fn inflated(
    inflater: &mut FrameInflater,
    wire: &[u8],
    size: usize,
    max_len: usize,
) -> Result<Vec<u8>, Violation> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    for piece in wire.chunks(size) {
        raw.extend_from_slice(piece);
        loop {
            let before = out.len();
            let consumed = inflater.advance(&raw, &mut out, max_len, || KEY)?;
            assert!(
                out.len() - before <= max_len + 4 * 4096,
                "{} of {max_len}",
                out.len() - before
            );
            raw.drain(..consumed);
            if consumed == 0 && out.len() == before {
                break;
            }
        }
    }
    assert!(raw.len() < 14, "more than a partial header is left");
    Ok(out)
}

/// Inflates a payload like a client without context.
fn unpacked(payload: &[u8]) -> Vec<u8> {
    // As Go's readers do (RFC 7692 §7.2.3.4): an empty final block after the tail ends the stream.
    let whole = [payload, &TAIL, &[1, 0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::with_capacity(1 << 20);
    let mut window = Decompress::new(false);
    let end = window.decompress_vec(&whole, &mut text, FlushDecompress::Sync);
    assert_eq!(end.unwrap(), Status::StreamEnd);
    text
}

#[test]
fn frame_bounds_apply_to_the_frames_that_the_client_sends() {
    let params = negotiate("permessage-deflate").unwrap();
    let bounds = Bounds {
        max_frame: 2000,
        max_message: u64::MAX,
        max_fragments: 4,
    };
    let frames_after_inflation = |text: &[u8], cut: usize, size: usize| {
        let wire = Client::new(params).message(text, true, cut);
        let mut inflater = FrameInflater::new(params);
        inflater.set_bounds(&bounds);
        inflated(&mut inflater, &wire, size, 1000).map(|plain| messages(&plain)[0].2)
    };
    // One frame inflates to several larger frames.
    assert!(frames_after_inflation(&vec![0; 1 << 17], usize::MAX, 5000).unwrap() > 4);
    let incompressible: Vec<u8> = (0..8000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    for size in [1, 100_000] {
        assert!(frames_after_inflation(&incompressible[..1500], 400, size).is_ok());
        let too_many = frames_after_inflation(&incompressible[..1500], 100, size);
        assert_eq!(too_many.unwrap_err(), Violation::TooManyFragments);
        let large = frames_after_inflation(&incompressible, usize::MAX, size);
        assert_eq!(large.unwrap_err(), Violation::FrameTooBig);
    }
}

#[test]
fn output_of_a_deflate_bomb_is_limited_per_call() {
    let params = negotiate("permessage-deflate").unwrap();
    let mut client = Client::new(params);
    let wire = client.message(&vec![0; 1 << 20], true, usize::MAX);
    assert!(wire.len() < 100_000);
    let mut inflater = FrameInflater::new(params);
    let mut out = Vec::new();
    let consumed = inflater.advance(&wire, &mut out, 1000, || KEY).unwrap();
    assert!(consumed < wire.len() && out.len() < 10_000, "{}", out.len());
}

#[test]
fn examples_of_rfc_7692_inflate_to_hello() {
    let params = negotiate("permessage-deflate").unwrap();
    // RFC 7692 §7.2.3: compressed, again with context, stored, a final block, two blocks.
    for frames in [
        vec![
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
        ],
        vec![&[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ]],
        vec![&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
        vec![&[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ]],
    ] {
        let mut inflater = FrameInflater::new(params);
        for payload in frames {
            let mut wire = Vec::new();
            write_frame(
                &mut wire,
                true,
                RSV1,
                Opcode::Text,
                Some(KEY),
                &mut payload.to_vec(),
            );
            let plain = inflated(&mut inflater, &wire, 1, 1 << 16).unwrap();
            let [(text, false, _)] = &messages(&plain)[..] else {
                panic!("{plain:02x?}");
            };
            assert_eq!(text, b"Hello", "{payload:02x?}");
        }
    }
}

#[test]
fn invalid_frames_are_violations() {
    let frame = |fin, rsv, opcode, mask, payload: &[u8]| {
        let mut wire = Vec::new();
        write_frame(&mut wire, fin, rsv, opcode, mask, &mut payload.to_vec());
        wire
    };
    let begun = frame(false, RSV1, Opcode::Text, Some(KEY), &[0xf2, 0x48]);
    for (wire, why) in [
        (
            frame(true, RSV1, Opcode::Text, Some(KEY), &[0xff, 0xff, 0xff]),
            Violation::BadDeflate,
        ),
        (
            frame(true, RSV1, Opcode::Text, None, &[0xf2]),
            Violation::Unmasked,
        ),
        (
            frame(true, RSV1, Opcode::Ping, Some(KEY), &[]),
            Violation::ReservedBits,
        ),
        (
            frame(true, 0b010, Opcode::Text, Some(KEY), &[]),
            Violation::ReservedBits,
        ),
        (
            frame(true, 0, Opcode::Continuation, Some(KEY), &[]),
            Violation::UnexpectedContinuation,
        ),
        (
            [
                &begun[..],
                &frame(true, RSV1, Opcode::Continuation, Some(KEY), &[]),
            ]
            .concat(),
            Violation::ReservedBits,
        ),
        (
            [&begun[..], &frame(true, 0, Opcode::Text, Some(KEY), &[])].concat(),
            Violation::InterruptedMessage,
        ),
    ] {
        let mut inflater = FrameInflater::new(negotiate("permessage-deflate").unwrap());
        assert_eq!(
            inflated(&mut inflater, &wire, 3, 1000),
            Err(why),
            "{wire:02x?}"
        );
    }
}

#[test]
fn short_message_stays_plain_and_longer_one_is_compressed() {
    let mut deflater = FrameDeflater::new(negotiate("permessage-deflate").unwrap());
    let (mut wire, mut out) = (Vec::new(), Vec::new());
    write_frame(
        &mut wire,
        true,
        0,
        Opcode::Text,
        None,
        &mut b"hello".to_vec(),
    );
    write_frame(&mut wire, true, 0, Opcode::Text, None, &mut [b'a'; 1000]);
    deflater.advance(&wire, &mut out);
    let found = messages(&out);
    assert_eq!(found[0], (b"hello".to_vec(), false, 1));
    assert!(found[1].1 && found[1].2 == 1 && found[1].0.len() < 30);
    assert_eq!(unpacked(&found[1].0), [b'a'; 1000]);
}

proptest! {
    #[test]
    fn client_messages_arrive_unchanged(
        texts in prop::collection::vec((prop::collection::vec(0..20_u8, 0..9000), any::<bool>()), 1..6),
        size in 1..5000_usize, cut in 1..5000_usize, max_len in 1..20_000_usize, offer in 0..3_usize,
    ) {
        let offer = ["", "; client_no_context_takeover", "; client_max_window_bits"][offer];
        let params = negotiate(&format!("permessage-deflate{offer}")).unwrap();
        let mut client = Client::new(params);
        let wire: Vec<u8> = texts.iter().flat_map(|(text, deflate)| {
            let ping = [0x89, 0x80, 1, 2, 3, 4];
            [client.message(text, *deflate, cut), ping.to_vec()].concat()
        }).collect();
        let plain = inflated(&mut FrameInflater::new(params), &wire, size, max_len).unwrap();
        let found: Vec<Vec<u8>> = messages(&plain).into_iter().map(|(text, rsv, _)| {
            assert!(!rsv);
            text
        }).collect();
        let sent: Vec<Vec<u8>> = texts.into_iter().map(|(text, _)| text).collect();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn backend_messages_arrive_unchanged(
        texts in prop::collection::vec(prop::collection::vec(0..20_u8, 0..60_000), 1..4),
        size in 1..9000_usize, cut in 1..30_000_usize, empty_end in any::<bool>(),
    ) {
        let mut wire = Vec::new();
        for text in &texts {
            let (last, mut opcode) = (text.len().div_ceil(cut).max(1), Opcode::Text);
            for n in 0..last {
                let mut piece = text[n * cut..text.len().min((n + 1) * cut)].to_vec();
                write_frame(&mut wire, n + 1 == last && !empty_end, 0, opcode, None, &mut piece);
                opcode = Opcode::Continuation;
                wire.extend([0x89, 0]);
            }
            // Python's `websockets` ends a message from an iterator this way.
            if empty_end {
                write_frame(&mut wire, true, 0, opcode, None, &mut []);
            }
        }
        let (mut deflater, mut out) = (FrameDeflater::new(negotiate("permessage-deflate").unwrap()), Vec::new());
        for piece in wire.chunks(size) {
            deflater.advance(piece, &mut out);
        }
        let found: Vec<Vec<u8>> = messages(&out).into_iter().map(|(payload, rsv, _)| {
            if rsv { unpacked(&payload) } else { payload }
        }).collect();
        prop_assert_eq!(found, texts);
    }

    #[test]
    fn arbitrary_input_does_not_panic(wire in prop::collection::vec(any::<u8>(), 0..300), size in 1..40_usize) {
        let mut inflater = FrameInflater::new(negotiate("permessage-deflate").unwrap());
        let _ = inflated(&mut inflater, &wire, size, 100);
    }
}
