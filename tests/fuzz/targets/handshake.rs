#![no_main]
use lockgate_fuzz::{parse_offer, proto::handshake::accept_key, split_at_nul, switching_protocols};

// A 101 with a wrong accept key fails; with the right one, only offered values are negotiated.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (request, response) = split_at_nul(data);
    let Some(offer) = parse_offer(request) else { return };
    let accept = accept_key(&offer.key);
    assert!(offer.check(&switching_protocols(response, "")).is_err());
    let Ok(negotiated) = offer.check(&switching_protocols(response, &accept)) else {
        return;
    };
    assert!((negotiated.subprotocol.iter()).all(|chosen| offer.subprotocols.contains(chosen)));
    assert!(negotiated.extensions.is_none() || !offer.extensions.is_empty());
});
