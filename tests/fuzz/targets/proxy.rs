#![no_main]
use lockgate_fuzz::proto::proxy::{MAX_LEN, parse};
// A result does not depend on the bytes that follow, and is given within MAX_LEN bytes.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let result = parse(data);
    let first = (0..=data.len().min(600)).find(|n| parse(&data[..*n]) != Ok(None));
    assert_eq!(first.map_or(Ok(None), |n| parse(&data[..n])), result);
    assert!(first.is_some() || data.len() < MAX_LEN);
    if let Ok(Some(header)) = result {
        assert_eq!(Some(header.len), first);
    }
});
