#![no_main]
// TLS records that are split, delayed or corrupted: received data equals sent data, and memory is bounded.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lockgate_fuzz::tls::play(data));
