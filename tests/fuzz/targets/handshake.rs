#![no_main]
use lockgate_fuzz::{halves, offer_of, proto::handshake::accept_key, response_101};

// Without the right Sec-WebSocket-Accept the handshake fails; with it, only offered values are negotiated.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (request, response) = halves(data);
    let Some(offer) = offer_of(request) else { return };
    let accept = accept_key(&offer.key);
    assert!(offer.check(&response_101(response, "")).is_err());
    let Ok(negotiated) = offer.check(&response_101(response, &accept)) else {
        return;
    };
    assert!((negotiated.subprotocol.iter()).all(|chosen| offer.subprotocols.contains(chosen)));
    assert!(negotiated.extensions.is_none() || !offer.extensions.is_empty());
});
