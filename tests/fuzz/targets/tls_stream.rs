#![no_main]
// A client's TLS bytes, split, delayed or corrupted: data arrives as it was sent, and memory is bounded.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lockgate_fuzz::tls::play(data));
