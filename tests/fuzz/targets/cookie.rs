#![no_main]
use lockgate_fuzz::proto::cookie::{pairs, unquote, values};
// The pairs are the whole field; the first pair of a name is also found among all fields.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let raw: Vec<&[u8]> = pairs(data).map(|pair| pair.raw).collect();
    assert_eq!(raw.join(&b';'), data);
    let field = [b"cookie: ", data].concat();
    let headers = lockgate_fuzz::headers(&field);
    for pair in pairs(headers.get("cookie").map_or(&b""[..], |field| field.as_bytes())) {
        let (Some(value), Ok(name)) = (pair.value, std::str::from_utf8(pair.name)) else { continue };
        assert!(!name.contains(['=', ';']) && !value.contains(&b';'));
        assert!(values(&headers, name).any(|found| found == value));
        assert!(value.len() - unquote(value).len() <= 2);
    }
});
