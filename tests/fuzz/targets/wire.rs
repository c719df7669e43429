#![no_main]
// A client's TLS in pieces, late or spoilt: what arrives is what was said, and memory is bounded.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lockgate_fuzz::tls::play(data));
