#![no_main]
use lockgate_fuzz::proto::proxy_header::{MAX_LEN, parse};
// A verdict does not depend on the bytes after it. Before a verdict the parser needs more bytes, up to a limit.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let verdict = parse(data);
    let first = (0..=data.len().min(600)).find(|n| parse(&data[..*n]) != Ok(None));
    assert_eq!(first.map_or(Ok(None), |n| parse(&data[..n])), verdict);
    assert!(first.is_some() || data.len() < MAX_LEN);
    if let Ok(Some(header)) = verdict {
        assert_eq!(Some(header.len), first);
    }
});
