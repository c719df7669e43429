#![no_main]
use lockgate_fuzz::relay;
// Any chunking of any stream gives the same result.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [settings, size, stream @ ..] = data else {
        return;
    };
    let whole = relay(*settings, stream, stream.len().max(1), false);
    assert_eq!(relay(*settings, stream, 1, false), whole);
    assert_eq!(relay(*settings, stream, usize::from(*size) + 1, true), whole);
});
