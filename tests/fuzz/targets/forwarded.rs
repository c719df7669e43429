#![no_main]
use lockgate_fuzz::{halves, headers, proto::forwarded::*, trusted};

// The next proxy, which trusts the same ones and us, finds the same client in what we send, in either header.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (lines, host) = halves(data);
    let (incoming, us) = (headers(lines), "10.0.0.9".parse().unwrap());
    let chain = x_forwarded_for(&incoming, us, trusted);
    let told = headers(format!("x-forwarded-for: {chain}").as_bytes());
    let (here, there) = (client(&incoming, us, trusted), client(&told, us, trusted));
    assert!(here == there || chain.split(',').count() > 100);
    let element = forwarded_element(here, &String::from_utf8_lossy(host), "https");
    let told = headers(format!("forwarded: {element}").as_bytes());
    assert!(client(&told, us, trusted) == here && proto(&told, true) == Some("https"));
});
