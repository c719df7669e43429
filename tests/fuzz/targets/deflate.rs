#![no_main]
use lockgate_fuzz::{compress_and_inflate, halves, headers, inflate, proto::deflate::DeflateParams};
// Any chunking of a stream inflates to the same output within the limit; compressed messages inflate to the original.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (offers, data) = halves(data);
    let (Some(params), [size, stream @ ..]) = (DeflateParams::negotiate(&headers(offers)), data) else {
        return;
    };
    let (whole, end) = inflate(params, stream, stream.len().max(1), 1 << 16);
    let (pieces, other_end) = inflate(params, stream, usize::from(*size) + 1, 100);
    // After a violation, bytes that were inflated before may not have been written.
    assert_eq!(end, other_end);
    assert!(end.is_some() || whole == pieces);
    compress_and_inflate(params, stream, usize::from(*size) * 100 + 1);
});
