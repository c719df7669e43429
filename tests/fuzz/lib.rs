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

/// All that a stream let through: the bytes, the control frames with their places, the end.
pub type Seen = (usize, Vec<(usize, Opcode, Vec<u8>)>, Option<Violation>, u64);

/// Feeds `stream` in pieces of `size` bytes, as the splice does; `terms` choose sender, reserved bits and bounds.
pub fn relay(terms: u8, stream: &[u8], size: usize, stop: bool) -> Seen {
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
            let nothing = progress.pass == 0 && control.is_none();
            controls.extend(control.map(|c| (at, c.opcode, c.payload().to_vec())));
            if nothing {
                assert!(end - done <= 130, "at most one control frame is held back");
                break;
            }
        }
    }
    assert_eq!(tracker.counts().bytes, done as u64);
    (done, controls, None, tracker.counts().frames)
}

/// What comes out of a client's compressed stream: its bytes without headers and masks, and the end. Never more at a time
/// than there is room for, and never a frame that may not be.
pub fn inflate(agreement: DeflateParams, stream: &[u8], size: usize, room: usize) -> (Vec<u8>, Option<Violation>) {
    let (mut inflating, mut raw, mut plain) = (FrameInflater::new(agreement), Vec::new(), Vec::new());
    let mut end = None;
    'all: for piece in stream.chunks(size) {
        raw.extend_from_slice(piece);
        loop {
            let before = plain.len();
            let taken = match inflating.advance(&raw, &mut plain, room, || [0; 4]) {
                Ok(taken) => taken,
                Err(violation) => {
                    end = Some(violation);
                    break 'all;
                }
            };
            assert!(plain.len() - before <= room + 4 * 4096, "{} of {room}", plain.len() - before);
            raw.drain(..taken);
            if taken == 0 && plain.len() == before {
                assert!(raw.len() < 14, "only a part of a header waits");
                break;
            }
        }
    }
    (payload(&plain), end)
}

/// The payloads of data frames, one after the other, and each message's end.
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

/// A backend's message as a client gets it, in frames that may be; and what the client makes of it.
pub fn there_and_back(agreement: DeflateParams, text: &[u8], size: usize) {
    let mut wire = vec![0x82, 127];
    wire.extend_from_slice(&(text.len() as u64 + 65_536).to_be_bytes());
    wire.extend_from_slice(text);
    wire.extend_from_slice(&[0; 65_536]);
    let (mut deflating, mut out) = (FrameDeflater::new(agreement), Vec::new());
    wire.chunks(size).for_each(|piece| deflating.advance(piece, &mut out));
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
    let mut back = Vec::with_capacity(text.len() + 65_536 + 1);
    let mut window = flate2::Decompress::new(false);
    let done = window.decompress_vec(&packed, &mut back, flate2::FlushDecompress::Sync);
    done.unwrap();
    assert!(back.len() == text.len() + 65_536 && back.starts_with(text));
}

/// Writes a Close and reads it back: the code if it may travel, as much of the reason as fits, the mask.
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
    let (wire_code, said) = payload.split_at(2);
    assert_eq!(wire_code, code.to_be_bytes());
    assert!(reason.starts_with(std::str::from_utf8(said).unwrap()));
    assert!(said.len() == reason.len() || (120..=123).contains(&said.len()));
}

/// The offer of a GET with these header lines, if it is one.
pub fn ask(lines: &[u8]) -> Option<Offer> {
    let (mut request, ()) = Request::new(()).into_parts();
    request.headers = headers(lines);
    Offer::read(&request).ok()?
}

/// A 101 with these header lines and this accept.
pub fn answer(lines: &[u8], accept: &str) -> response::Parts {
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = StatusCode::SWITCHING_PROTOCOLS;
    response.headers = headers(lines);
    let accept = accept.parse().unwrap();
    response.headers.insert("sec-websocket-accept", accept);
    response
}

/// Ten-net and all of IPv6.
pub fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(_) => true,
    }
}

/// FrameHeader lines, `name: value`; what no header can be is left out.
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
