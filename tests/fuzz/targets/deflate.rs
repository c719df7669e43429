#![no_main]
use lockgate_fuzz::{halves, headers, inflate, proto::deflate::DeflateParams, there_and_back};
// Any chunking of any stream inflates to the same, within its bounds; and what is compressed is what was said.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (offers, data) = halves(data);
    let (Some(agreement), [size, stream @ ..]) = (DeflateParams::negotiate(&headers(offers)), data) else {
        return;
    };
    let (whole, end) = inflate(agreement, stream, stream.len().max(1), 1 << 16);
    let (pieces, other_end) = inflate(agreement, stream, usize::from(*size) + 1, 100);
    // Where it ends badly, what was inflated before may not have come out.
    assert_eq!(end, other_end);
    assert!(end.is_some() || whole == pieces);
    there_and_back(agreement, stream, usize::from(*size) * 100 + 1);
});
