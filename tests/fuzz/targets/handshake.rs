#![no_main]
use lockgate_fuzz::{answer, ask, halves, proto::handshake::accept_key};

// Without the right accept there is no agreement; with it, only what was offered is agreed.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (asked, answered) = halves(data);
    let Some(offer) = ask(asked) else { return };
    let accept = accept_key(&offer.key);
    assert!(offer.check(&answer(answered, "")).is_err());
    let Ok(agreed) = offer.check(&answer(answered, &accept)) else {
        return;
    };
    assert!((agreed.subprotocol.iter()).all(|chosen| offer.subprotocols.contains(chosen)));
    assert!(agreed.extensions.is_none() || !offer.extensions.is_empty());
});
