#![no_main]
use lockgate_fuzz::{halves, headers, proto::forwarded::*, trusted};

// The next proxy, which trusts the same addresses and Lockgate, finds the same client in either header that is sent.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (lines, host) = halves(data);
    let (incoming, us) = (headers(lines), "10.0.0.9".parse().unwrap());
    let chain = x_forwarded_for(&incoming, us, trusted);
    let outgoing = headers(format!("x-forwarded-for: {chain}").as_bytes());
    let (here, there) = (client(&incoming, us, trusted), client(&outgoing, us, trusted));
    assert!(here == there || chain.split(',').count() > 100);
    let element = forwarded_element(here, &String::from_utf8_lossy(host), "https");
    let outgoing = headers(format!("forwarded: {element}").as_bytes());
    assert!(client(&outgoing, us, trusted) == here && proto(&outgoing, true) == Some("https"));
});
