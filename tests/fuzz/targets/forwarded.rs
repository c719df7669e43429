#![no_main]
use lockgate_fuzz::{headers, proto::forwarded::*, split_at_nul, trusted};

// The next proxy, which trusts the same proxies and Lockgate, finds the same client in either outgoing header.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (lines, host) = split_at_nul(data);
    let (incoming, us) = (headers(lines), "10.0.0.9".parse().unwrap());
    let chain = x_forwarded_for(&incoming, us, trusted);
    let outgoing = headers(format!("x-forwarded-for: {chain}").as_bytes());
    let (here, next) = (client(&incoming, us, trusted), client(&outgoing, us, trusted));
    assert!(here == next || chain.split(',').count() > 100);
    let element = forwarded_element(here, &String::from_utf8_lossy(host), "https");
    let outgoing = headers(format!("forwarded: {element}").as_bytes());
    assert!(client(&outgoing, us, trusted) == here && proto(&outgoing, true) == Some("https"));
});
