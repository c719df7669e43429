#![no_main]
use lockgate_fuzz::relay;
// The result does not depend on how the stream is split.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [terms, size, stream @ ..] = data else {
        return;
    };
    let whole = relay(*terms, stream, stream.len().max(1), false);
    assert_eq!(relay(*terms, stream, 1, false), whole);
    assert_eq!(relay(*terms, stream, usize::from(*size) + 1, true), whole);
});
