#![no_main]
use lockgate_fuzz::{close_round_trip, proto::frame::FrameHeader};

// A header parses the same alone and with bytes after it; Close frames of Lockgate parse to their code and reason.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(Some(header)) = FrameHeader::parse(data) {
        assert_eq!(FrameHeader::parse(&data[..header.len]), Ok(Some(header)));
        assert!((0..header.len).all(|n| FrameHeader::parse(&data[..n]) == Ok(None)));
    }
    if let Some(([a, b, key @ ..], reason)) = data.split_first_chunk::<6>() {
        let code = u16::from_be_bytes([*a, *b]);
        close_round_trip(code, reason, (key[0] & 1 == 0).then_some(*key));
    }
});
