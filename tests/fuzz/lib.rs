//! Shared code of the fuzz targets: Lockgate's pure sources, its TLS stream, and drivers that turn bytes into their
//! input.

#[path = "../../src/proto/mod.rs"]
pub mod proto;

pub mod tls;

/// The folder of the same name below `src`, without what depends on other modules.
#[path = "../../src/net"]
pub mod net {
    #[path = "tls_stream/mod.rs"]
    pub mod tls_stream;
}

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, response};
use proto::deflate::{DeflateParams, compress::FrameDeflater, inflate::FrameInflater};
use proto::frame::{ControlFrame, FrameHeader, Opcode, apply_mask, close_code_allowed};
use proto::handshake::Offer;
use proto::frame_tracker::{Bounds, FrameTracker, RsvBits, Role, Violation};

/// The result of a relayed stream: its length, the control frames with their offsets, the violation, the frame count.
pub type RelayResult = (usize, Vec<(usize, Opcode, Vec<u8>)>, Option<Violation>, u64);

/// Feeds `stream` in pieces of `size` bytes, as the splice does. `terms` selects sender, reserved bits and bounds.
pub fn relay(terms: u8, stream: &[u8], size: usize, stop: bool) -> RelayResult {
    let sender = [Role::Client, Role::Server][usize::from(terms & 1)];
    let reserved = [RsvBits::None, RsvBits::Deflate, RsvBits::Any][usize::from(terms >> 1) % 3];
    let max_frame = [u64::MAX, 40][usize::from(terms >> 3 & 1)];
    let max_message = [u64::MAX, 60][usize::from(terms >> 4 & 1)];
    let bounds = Bounds {
        max_frame,
        max_message,
        max_fragments: [u32::MAX, 3][usize::from(terms >> 5 & 1)],
    };
    let mut tracker = FrameTracker::new(sender, reserved);
    let (mut done, mut controls) = (0, Vec::new());
    for end in (0..stream.len())
        .step_by(size)
        .map(|at| stream.len().min(at + size))
    {
        loop {
            let progress = match tracker.advance(&stream[done..end], &bounds, stop) {
                Ok(progress) => progress,
                Err(why) => return (done, controls, Some(why), tracker.counts().frames),
            };
            let at = done + progress.pass;
            let control = progress.control;
            assert!(!stop || progress.pass == 0 || at == end || tracker.at_boundary());
            assert!(control.is_none() || tracker.at_boundary());
            done = at + control.as_ref().map_or(0, |control| control.len);
            let stalled = progress.pass == 0 && control.is_none();
            controls.extend(control.map(|c| (at, c.opcode, c.payload().to_vec())));
            if stalled {
                assert!(end - done <= 130, "more than one control frame is held back");
                break;
            }
        }
    }
    assert_eq!(tracker.counts().bytes, done as u64);
    (done, controls, None, tracker.counts().frames)
}

/// Inflates a client's compressed stream. Returns the payload without headers and masks, and the violation. Checks that
/// no step produces more than `limit` allows, and that every frame is valid.
pub fn inflate(agreement: DeflateParams, stream: &[u8], size: usize, limit: usize) -> (Vec<u8>, Option<Violation>) {
    let (mut inflater, mut raw, mut plain) = (FrameInflater::new(agreement), Vec::new(), Vec::new());
    let mut end = None;
    'all: for piece in stream.chunks(size) {
        raw.extend_from_slice(piece);
        loop {
            let before = plain.len();
            let taken = match inflater.advance(&raw, &mut plain, limit, || [0; 4]) {
                Ok(taken) => taken,
                Err(violation) => {
                    end = Some(violation);
                    break 'all;
                }
            };
            let produced = plain.len() - before;
            assert!(produced <= limit + 4 * 4096, "{produced} bytes, limit {limit}");
            raw.drain(..taken);
            if taken == 0 && plain.len() == before {
                assert!(raw.len() < 14, "more than a part of a header is left");
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
        let mut unmasked = plain[header.len..end].to_vec();
        apply_mask(&mut unmasked, header.mask.unwrap_or_default());
        if !header.opcode.is_control() {
            text.extend(unmasked);
        }
        plain = &plain[end..];
    }
    text
}

/// Compresses a backend's message for a client, and checks that the frames are valid and inflate to the same message.
pub fn deflate_round_trip(agreement: DeflateParams, text: &[u8], size: usize) {
    let mut wire = vec![0x82, 127];
    wire.extend_from_slice(&(text.len() as u64 + 65_536).to_be_bytes());
    wire.extend_from_slice(text);
    wire.extend_from_slice(&[0; 65_536]);
    let (mut deflater, mut out) = (FrameDeflater::new(agreement), Vec::new());
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
    let packed = [&payload(&out)[..], &[0, 0, 0xff, 0xff]].concat();
    let mut inflated = Vec::with_capacity(text.len() + 65_536 + 1);
    let mut window = flate2::Decompress::new(false);
    let status = window.decompress_vec(&packed, &mut inflated, flate2::FlushDecompress::Sync);
    status.unwrap();
    assert!(inflated.len() == text.len() + 65_536 && inflated.starts_with(text));
}

/// Builds a Close frame and parses it: the code if it is allowed on the wire, the part of the reason that fits, the
/// mask.
pub fn close_round_trip(code: u16, reason: &[u8], mask: Option<[u8; 4]>) {
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
    let (wire_code, wire_reason) = payload.split_at(2);
    assert_eq!(wire_code, code.to_be_bytes());
    assert!(reason.starts_with(std::str::from_utf8(wire_reason).unwrap()));
    assert!(wire_reason.len() == reason.len() || (120..=123).contains(&wire_reason.len()));
}

/// Parses the offer of a GET with these header lines. Returns `None` if it is not a handshake.
pub fn parse_offer(lines: &[u8]) -> Option<Offer> {
    let (mut request, ()) = Request::new(()).into_parts();
    request.headers = headers(lines);
    Offer::read(&request).ok()?
}

/// Returns a 101 with these header lines and this `Sec-WebSocket-Accept`.
pub fn switching_protocols(lines: &[u8], accept: &str) -> response::Parts {
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = StatusCode::SWITCHING_PROTOCOLS;
    response.headers = headers(lines);
    let accept = accept.parse().unwrap();
    response.headers.insert("sec-websocket-accept", accept);
    response
}

/// Returns whether the address is a trusted proxy: 10.0.0.0/8 and all of IPv6.
pub fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(_) => true,
    }
}

/// Parses header lines of the form `name: value`; invalid ones are skipped.
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
pub fn split_at_nul(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}
