#![no_main]
use lockgate_fuzz::{deflate_round_trip, headers, inflate, proto::deflate::DeflateParams, split_at_nul};
// Any chunking of a stream inflates to the same bytes, within the bounds; compression preserves the message.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (offers, data) = split_at_nul(data);
    let (Some(agreement), [size, stream @ ..]) = (DeflateParams::negotiate(&headers(offers)), data) else {
        return;
    };
    let (whole, end) = inflate(agreement, stream, stream.len().max(1), 1 << 16);
    let (pieces, other_end) = inflate(agreement, stream, usize::from(*size) + 1, 100);
    // If the stream ends with a violation, the output may lack bytes that were inflated before it.
    assert_eq!(end, other_end);
    assert!(end.is_some() || whole == pieces);
    deflate_round_trip(agreement, stream, usize::from(*size) * 100 + 1);
});
