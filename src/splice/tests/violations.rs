//! Violations: frames before the bad one are relayed, no byte of it is, and both legs receive the right Close.

use crate::{proto::frame_tracker::RsvBits, splice::tests::harness::*};

/// A violation and its word.
struct Case {
    word: &'static str,
    reserved: RsvBits,
    /// Valid frames before it.
    before: Vec<u8>,
    bad: Vec<u8>,
}

fn cases(masked: bool) -> Vec<Case> {
    let bit = if masked { 0x80 } else { 0 };
    let whole = |first| frame(first, b"bad", masked);
    let close = |code: u16| frame(CLOSE, &close_payload(code, "why"), masked);
    let long = |first: u8, len7: u8, len: &[u8]| {
        let mut bytes = vec![first, len7 | bit];
        bytes.extend_from_slice(len);
        bytes.extend_from_slice(&[0; 12]);
        bytes
    };
    let open = frame(0x01, b"open", masked);
    let mut cases = Vec::new();
    let mut case = |word, reserved, before: &[u8], bad: Vec<u8>| {
        cases.push(Case {
            word,
            reserved,
            before: before.to_vec(),
            bad,
        });
    };
    for first in [
        0x83, 0x84, 0x85, 0x86, 0x87, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x03, 0x0B,
    ] {
        case("reserved-opcode", RsvBits::Any, &[], whole(first));
    }
    for first in [0xC1, 0xA1, 0x91, 0xF2, 0xC8, 0xC9, 0xAA] {
        case("reserved-bits", RsvBits::None, &[], whole(first));
    }
    for first in [0xA1, 0x91, 0xD1, 0xC9, 0xCA, 0xC8] {
        case("reserved-bits", RsvBits::Deflate, &[], whole(first));
    }
    case("reserved-bits", RsvBits::Deflate, &open, whole(0xC0));
    case("reserved-bits", RsvBits::Any, &[], whole(0xC9));
    let wrong_mask = if masked { "unmasked" } else { "masked" };
    case(wrong_mask, RsvBits::None, &[], frame(TEXT, b"bad", !masked));
    case(
        wrong_mask,
        RsvBits::None,
        &[],
        frame(PING_FRAME, b"", !masked),
    );
    case(
        wrong_mask,
        RsvBits::None,
        &[],
        frame(CLOSE, &[3, 232], !masked),
    );
    case(wrong_mask, RsvBits::None, &open, frame(0x80, b"", !masked));
    for first in [0x08, 0x09, 0x0A] {
        case("fragmented-control", RsvBits::None, &[], whole(first));
    }
    for first in [CLOSE, PING_FRAME, PONG] {
        case(
            "long-control",
            RsvBits::None,
            &[],
            frame(first, &[3; 126], masked),
        );
    }
    case(
        "long-control",
        RsvBits::None,
        &open,
        long(PING_FRAME, 127, &[0, 0, 0, 0, 0, 1, 0, 0]),
    );
    case(
        "non-minimal-length",
        RsvBits::None,
        &[],
        long(TEXT, 126, &[0, 125]),
    );
    case(
        "non-minimal-length",
        RsvBits::None,
        &[],
        long(BINARY, 126, &[0, 0]),
    );
    case(
        "non-minimal-length",
        RsvBits::None,
        &[],
        long(BINARY, 127, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
    );
    case(
        "non-minimal-length",
        RsvBits::None,
        &[],
        long(BINARY, 127, &[0; 8]),
    );
    case(
        "length-overflow",
        RsvBits::None,
        &[],
        long(BINARY, 127, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
    );
    case(
        "length-overflow",
        RsvBits::None,
        &[],
        long(TEXT, 127, &[0xFF; 8]),
    );
    case("lone-continuation", RsvBits::None, &[], whole(0x80));
    case("lone-continuation", RsvBits::None, &[], whole(0x00));
    case("interrupted-message", RsvBits::None, &open, whole(TEXT));
    let pinged = [open.clone(), frame(PING_FRAME, b"ok", masked)].concat();
    case("interrupted-message", RsvBits::None, &pinged, whole(BINARY));
    case(
        "short-close",
        RsvBits::None,
        &[],
        frame(CLOSE, &[3], masked),
    );
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        case("bad-close-code", RsvBits::None, &[], close(code));
    }
    for reason in [&b"\xFF"[..], b"cut \xC3"] {
        let payload = [&1000_u16.to_be_bytes()[..], reason].concat();
        case(
            "bad-close-reason",
            RsvBits::None,
            &[],
            frame(CLOSE, &payload, masked),
        );
    }
    case("bad-close-code", RsvBits::None, &open, close(1006));
    case(
        "frame-too-big",
        RsvBits::None,
        &[],
        head(BINARY, 1001, masked),
    );
    case(
        "frame-too-big",
        RsvBits::None,
        &[],
        head(BINARY, u64::MAX >> 1, masked),
    );
    case(
        "frame-too-big",
        RsvBits::None,
        &open,
        head(0x80, 1001, masked),
    );
    case(
        "message-too-big",
        RsvBits::None,
        &[],
        head(TEXT, 901, masked),
    );
    let nearly = [
        frame(0x02, &[1; 500], masked),
        frame(0x00, &[2; 400], masked),
    ]
    .concat();
    case(
        "message-too-big",
        RsvBits::None,
        &nearly,
        frame(0x80, &[3; 1], masked),
    );
    cases
}

/// How the bytes are sent, and whether the other peer replies to its Close.
#[derive(Debug, Clone, Copy)]
struct Variant {
    from_client: bool,
    bytewise: bool,
    replied: bool,
}

async fn offend(case: &Case, variant: Variant) {
    let case_name = format!("{} {:02x?}, {variant:?}", case.word, case.bad);
    let mut rig = Builder {
        reserved: case.reserved,
        ..Builder::default()
    }
    .limits(|limits| {
        limits.bounds.max_frame = 1000;
        limits.bounds.max_message = 900;
    })
    .start();
    let code = match case.word {
        "frame-too-big" | "message-too-big" => 1009,
        "bad-close-reason" => 1007,
        _ => 1002,
    };
    let (mut offender, mut other, other_code, by) = if variant.from_client {
        (&mut rig.client, &mut rig.backend, 1001, "client")
    } else {
        (&mut rig.backend, &mut rig.client, 1011, "backend")
    };
    let good = [offender.frame(TEXT, b"good"), case.before.clone()].concat();
    // Input after a bad frame is discarded.
    let behind = offender.frame(TEXT, b"behind");
    let all = [good.clone(), case.bad.clone(), behind].concat();
    if variant.bytewise {
        offender.send_bytewise(&all).await;
    } else {
        offender.send(&all).await;
    }
    other.expect(&good).await;
    other.expect_close(other_code).await;
    if !variant.bytewise {
        assert!(rig.started.elapsed() < millis(2), "{case_name}");
    }
    if variant.replied {
        let answer = other.close(other_code, "");
        other.send(&answer).await;
    }
    offender.expect_close(code).await;
    if !variant.bytewise {
        let wait = if variant.replied {
            millis(0)
        } else {
            millis(50)
        };
        assert_span(rig.started.elapsed(), wait);
    }
    offender.expect_eof().await;
    other.expect_eof().await;
    std::mem::swap(&mut offender, &mut other);
    assert_eq!(rig.end().await, (by, case.word, Some(code)), "{case_name}");
}

#[tokio::test(start_paused = true)]
async fn violation_closes_both_legs_with_the_right_codes() {
    assert!(cases(true).len() >= 30);
    for from_client in [true, false] {
        for case in cases(from_client) {
            for bytewise in [false, true] {
                for replied in [false, true] {
                    let variant = Variant {
                        from_client,
                        bytewise,
                        replied,
                    };
                    offend(&case, variant).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn violation_in_early_data_closes_the_session() {
    for from_client in [true, false] {
        let bad = [
            frame(TEXT, b"good", from_client),
            frame(0x83, b"bad", from_client),
        ]
        .concat();
        let builder = Builder::default();
        let builder = if from_client {
            Builder {
                client_early: bad,
                ..builder
            }
        } else {
            Builder {
                backend_early: bad,
                ..builder
            }
        };
        let mut rig = builder.start();
        let (offender, other, code) = if from_client {
            (&mut rig.client, &mut rig.backend, 1001)
        } else {
            (&mut rig.backend, &mut rig.client, 1011)
        };
        other.expect(&frame(TEXT, b"good", from_client)).await;
        other.expect_close(code).await;
        offender.expect_close(1002).await;
        assert_span(rig.elapsed(), millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn offender_receives_frames_sent_before_the_close_of_the_other_leg() {
    let mut rig = Rig::start();
    rig.client.send_frame(0x83, b"bad").await;
    rig.backend.expect_close(1001).await;
    let last = rig.backend.send_frame(TEXT, b"last text").await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&last).await;
    // The code of the violation, not the backend's reply to our Close.
    rig.client.expect_close(1002).await;
    rig.client.expect_eof().await;
    assert!(rig.elapsed() < millis(50));
    assert_eq!(rig.outcome().await.code, Some(1002));
}

#[tokio::test(start_paused = true)]
async fn close_for_the_offender_waits_for_a_frame_boundary() {
    let mut rig = Rig::start();
    let long = rig.backend.frame(BINARY, &[1; 1000]);
    rig.backend.send(&long[..10]).await;
    rig.client.expect(&long[..10]).await;
    rig.client.send_frame(0x83, b"bad").await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_nothing(secs(1)).await;
    rig.backend.send(&long[10..]).await;
    rig.client.expect(&long[10..]).await;
    rig.client.expect_close(1002).await;
    // Input after our Close is discarded.
    rig.backend.send_frame(TEXT, b"too late").await;
    settle().await;
    rig.client.expect_nothing(millis(1)).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect_eof().await;
}

#[tokio::test(start_paused = true)]
async fn close_sent_after_a_violation_is_ignored() {
    let mut rig = Rig::start();
    let close = rig.client.close(1000, "");
    let bad = rig.client.frame(0x83, b"bad");
    rig.client.send(&[bad, close].concat()).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_close(1002).await;
    rig.backend.expect_nothing(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn violations_on_both_legs_close_both() {
    let mut rig = Rig::start();
    let (up, down) = (rig.client.frame(0x83, b""), rig.backend.frame(0x84, b""));
    rig.client.send(&up).await;
    rig.backend.send(&down).await;
    // One Close each, and the end.
    assert_eq!(rig.client.next().await.first, CLOSE);
    assert_eq!(rig.backend.next().await.first, CLOSE);
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < secs(1));
    assert_eq!(rig.outcome().await.why.as_str(), "reserved-opcode");
}

#[tokio::test(start_paused = true)]
async fn offender_that_does_not_read_is_reset() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    settle().await;
    let bad = rig.client.frame(0x83, b"");
    rig.client.send(&bad).await;
    rig.backend.expect_close(1001).await;
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT + millis(1));
    assert_eq!(rig.end().await, ("client", "reserved-opcode", Some(1002)));
    assert!(rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn short_close_timeout_still_sends_the_close_to_the_offender() {
    for timeout in [0, 20] {
        let mut rig = Builder::default()
            .limits(|limits| limits.close_timeout = millis(timeout))
            .start();
        rig.client.send_frame(0x83, b"bad").await;
        rig.backend.expect_close(1001).await;
        rig.client.expect_close(1002).await;
        assert_span(rig.elapsed(), millis(timeout));
        rig.client.expect_eof().await;
    }
}
