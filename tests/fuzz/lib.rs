//! What the fuzz targets share: Lockgate's pure sources, its TLS stream, and the small drivers that turn bytes into their input.

#[path = "../../src/proto/mod.rs"]
pub mod proto;

pub mod tls;

#[path = "../../src/wire/mod.rs"]
pub mod wire;

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, response};
use proto::deflate::{DeflateParams, FrameDeflater, FrameInflater};
use proto::frame::{ControlFrame, FrameHeader, Opcode, apply_mask, close_code_allowed};
use proto::handshake::Offer;
use proto::track::{Bounds, FrameTracker, RsvBits, Role, Violation};

/// The result of relaying a stream: number of bytes, control frames with their positions, violation, number of frames.
pub type Seen = (usize, Vec<(usize, Opcode, Vec<u8>)>, Option<Violation>, u64);

/// Feeds `stream` in pieces of `size` bytes, as the splice does; `settings` selects sender, reserved bits and bounds.
pub fn relay(settings: u8, stream: &[u8], size: usize, stop: bool) -> Seen {
    let sender = [Role::Client, Role::Server][usize::from(settings & 1)];
    let reserved = [RsvBits::None, RsvBits::Deflate, RsvBits::Any][usize::from(settings >> 1) % 3];
    let max_frame = [u64::MAX, 40][usize::from(settings >> 3 & 1)];
    let max_message = [u64::MAX, 60][usize::from(settings >> 4 & 1)];
    let bounds = Bounds {
        max_frame,
        max_message,
        max_fragments: [u32::MAX, 3][usize::from(settings >> 5 & 1)],
    };
    let mut tracker = FrameTracker::new(sender, reserved);
    let (mut consumed_len, mut controls) = (0, Vec::new());
    for end in (0..stream.len())
        .step_by(size)
        .map(|at| stream.len().min(at + size))
    {
        loop {
            let progress = match tracker.advance(&stream[consumed_len..end], &bounds, stop) {
                Ok(progress) => progress,
                Err(why) => return (consumed_len, controls, Some(why), tracker.counts().frames),
            };
            let at = consumed_len + progress.pass;
            let control = progress.control;
            assert!(!stop || progress.pass == 0 || at == end || tracker.at_boundary());
            assert!(control.is_none() || tracker.at_boundary());
            consumed_len = at + control.as_ref().map_or(0, |control| control.len);
            let needs_more = progress.pass == 0 && control.is_none();
            controls.extend(control.map(|c| (at, c.opcode, c.payload().to_vec())));
            if needs_more {
                assert!(end - consumed_len <= 130, "more than one control frame is left");
                break;
            }
        }
    }
    assert_eq!(tracker.counts().bytes, consumed_len as u64);
    (consumed_len, controls, None, tracker.counts().frames)
}

/// Inflates a client's compressed stream. Returns the unmasked payload of all data frames, and the violation. Checks the
/// output limit of each call.
pub fn inflate(params: DeflateParams, stream: &[u8], size: usize, max_len: usize) -> (Vec<u8>, Option<Violation>) {
    let (mut inflater, mut raw, mut plain) = (FrameInflater::new(params), Vec::new(), Vec::new());
    let mut end = None;
    'all: for piece in stream.chunks(size) {
        raw.extend_from_slice(piece);
        loop {
            let before = plain.len();
            let consumed = match inflater.advance(&raw, &mut plain, max_len, || [0; 4]) {
                Ok(consumed) => consumed,
                Err(violation) => {
                    end = Some(violation);
                    break 'all;
                }
            };
            assert!(plain.len() - before <= max_len + 4 * 4096, "{} of {max_len}", plain.len() - before);
            raw.drain(..consumed);
            if consumed == 0 && plain.len() == before {
                assert!(raw.len() < 14, "more than a partial header is left");
                break;
            }
        }
    }
    (payload(&plain), end)
}

/// Returns the concatenated, unmasked payloads of the data frames.
fn payload(mut plain: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Ok(Some(header)) = FrameHeader::parse(plain) {
        let end = (header.payload_len as usize).saturating_add(header.len).min(plain.len());
        let mut here = plain[header.len..end].to_vec();
        apply_mask(&mut here, header.mask.unwrap_or_default());
        if !header.opcode.is_control() {
            text.extend(here);
        }
        plain = &plain[end..];
    }
    text
}

/// Compresses a backend's message for a client, checks that the frames are valid, and inflates them again.
pub fn compress_and_inflate(params: DeflateParams, text: &[u8], size: usize) {
    let mut wire = vec![0x82, 127];
    wire.extend_from_slice(&(text.len() as u64 + 65_536).to_be_bytes());
    wire.extend_from_slice(text);
    wire.extend_from_slice(&[0; 65_536]);
    let (mut deflater, mut out) = (FrameDeflater::new(params), Vec::new());
    wire.chunks(size).for_each(|piece| deflater.advance(piece, &mut out));
    let bounds = Bounds {
        max_frame: u64::MAX,
        max_message: u64::MAX,
        max_fragments: u32::MAX,
    };
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::Deflate);
    let progress = tracker.advance(&out, &bounds, false).unwrap();
    assert_eq!(progress.pass, out.len());
    assert!(tracker.at_boundary() && !tracker.in_message());
    let compressed = [&payload(&out)[..], &[0, 0, 0xff, 0xff]].concat();
    let mut back = Vec::with_capacity(text.len() + 65_536 + 1);
    let mut window = flate2::Decompress::new(false);
    let status = window.decompress_vec(&compressed, &mut back, flate2::FlushDecompress::Sync);
    status.unwrap();
    assert!(back.len() == text.len() + 65_536 && back.starts_with(text));
}

/// Builds a Close and parses it: the code if it is allowed, the truncated reason, the mask.
pub fn close_reads_back(code: u16, reason: &[u8], mask: Option<[u8; 4]>) {
    let reason = String::from_utf8_lossy(reason);
    let frame = ControlFrame::close(code, &reason, mask);
    let header = FrameHeader::parse(frame.as_bytes()).unwrap().unwrap();
    let mut payload = frame.as_bytes()[header.len..].to_vec();
    apply_mask(&mut payload, mask.unwrap_or_default());
    assert!(header.fin && header.rsv == 0 && header.opcode == Opcode::Close);
    assert_eq!(
        (header.mask, header.payload_len),
        (mask, payload.len() as u64)
    );
    if !close_code_allowed(code) {
        assert!(payload.is_empty());
        return;
    }
    let (wire_code, sent_reason) = payload.split_at(2);
    assert_eq!(wire_code, code.to_be_bytes());
    assert!(reason.starts_with(std::str::from_utf8(sent_reason).unwrap()));
    assert!(sent_reason.len() == reason.len() || (120..=123).contains(&sent_reason.len()));
}

/// Returns the offer of a GET with these header lines, if it is a handshake.
pub fn offer_of(lines: &[u8]) -> Option<Offer> {
    let (mut request, ()) = Request::new(()).into_parts();
    request.headers = headers(lines);
    Offer::read(&request).ok()?
}

/// Returns a 101 with these header lines and this `Sec-WebSocket-Accept`.
pub fn response_101(lines: &[u8], accept: &str) -> response::Parts {
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = StatusCode::SWITCHING_PROTOCOLS;
    response.headers = headers(lines);
    let accept = accept.parse().unwrap();
    response.headers.insert("sec-websocket-accept", accept);
    response
}

/// Returns true for 10.0.0.0/8 and all of IPv6.
pub fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(_) => true,
    }
}

/// Parses header lines, `name: value`; invalid ones are omitted.
pub fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(100) {
        let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..at]),
            HeaderValue::from_bytes(value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// Splits the input at its first NUL byte.
pub fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}
