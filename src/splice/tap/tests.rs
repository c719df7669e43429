use crate::{
    proto::frame_tracker::{Role, RsvBits},
    registry::{
        SessionHandle, SessionRegistry, SessionTarget, filter::SessionFilter, tap::TapSubscription,
    },
    splice::tap::*,
};
use flate2::{Compress, Compression, FlushCompress};

/// A tap subscriber of one session, and one direction of that session.
struct TapHarness {
    subscription: TapSubscription,
    tap: FrameTap,
    _handle: SessionHandle,
}

impl TapHarness {
    fn new(extensions: &str, bytes: usize, frames: u32) -> TapHarness {
        let sessions = Arc::new(SessionRegistry::default());
        sessions.set_tappable_routes([Arc::from("r")].into_iter());
        let subscription = sessions.subscribe(SessionFilter::default(), bytes).unwrap();
        subscription.refill(frames);
        let handle = sessions.open(SessionTarget {
            route: "r".into(),
            backend: "b".into(),
            pool_entry: "b".into(),
        });
        assert!(handle.taps_changed());
        let mut record = (**handle.record()).clone();
        record.extensions = Some(extensions.into());
        let tracker = FrameTracker::new(Role::Client, RsvBits::Deflate);
        let taps = handle.taps();
        let tap = FrameTap::new(&taps, LegSide::Client, &Arc::new(record), &tracker);
        TapHarness {
            subscription,
            tap,
            _handle: handle,
        }
    }

    async fn next(&mut self) -> TappedFrame {
        self.subscription.next().await.expect("the session is open")
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ ..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    let key = [0x37, 0xFA, 0x21, 0x3D];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// Compresses like permessage-deflate (RFC 7692 §7.2.1).
fn deflated(compress: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1024);
    compress
        .compress_vec(text, &mut out, FlushCompress::Sync)
        .unwrap();
    assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]));
    out.truncate(out.len() - 4);
    out
}

#[tokio::test]
async fn masked_frame_is_tapped_unmasked_in_any_chunking() {
    let frames = [
        frame(0x81, b"hello"),
        frame(0x89, b""),
        frame(0x82, &[7; 300]),
    ]
    .concat();
    for step in [1, 3, frames.len()] {
        let mut harness = TapHarness::new("", 16, 100);
        // Like the pump, pass complete headers.
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let whole = match harness.tap.frame {
                Some(_) => 0,
                None => FrameHeader::parse(rest).unwrap().unwrap().len,
            };
            let (some, more) = rest.split_at((whole + step).min(rest.len()));
            // No step ends in the header of another frame.
            harness.tap.observe(&some[..whole]);
            let left = harness
                .tap
                .frame
                .as_ref()
                .map_or(0, |it| it.header.payload_len - it.passed);
            let payload = (some.len() - whole).min(left as usize);
            harness.tap.observe(&some[whole..whole + payload]);
            rest = if whole + payload < some.len() {
                &rest[whole + payload..]
            } else {
                more
            };
        }
        let seen = harness.next().await;
        assert_eq!(
            (seen.kind, seen.fin, seen.size, seen.cut),
            (Opcode::Text, true, 5, false)
        );
        assert_eq!(seen.head, b"hello");
        assert_eq!(harness.next().await.kind, Opcode::Ping);
        let seen = harness.next().await;
        assert_eq!(
            (seen.kind, seen.size, seen.cut),
            (Opcode::Binary, 300, true)
        );
        assert_eq!(seen.head, [7; 16]);
    }
}

#[tokio::test]
async fn compressed_messages_are_inflated_with_their_context() {
    let mut harness = TapHarness::new("permessage-deflate", 64, 100);
    let mut compress = Compress::new(Compression::default(), false);
    for text in ["hello hello hello", "hello hello again"] {
        let payload = deflated(&mut compress, text.as_bytes());
        harness.tap.observe(&frame(0xC1, &payload));
        let seen = harness.next().await;
        assert_eq!(seen.head, text.as_bytes());
        assert_eq!((seen.size, seen.cut), (payload.len() as u64, false));
        let size = text.len() as u64;
        assert_eq!(seen.deflate, InflateStatus::Inflated { size, whole: true });
    }
    // In two frames, of which the second has no RSV1, with a Ping between them.
    let payload = deflated(&mut compress, b"hello in two parts");
    let (one, two) = payload.split_at(payload.len() / 2);
    for part in [frame(0x41, one), frame(0x89, b"?"), frame(0x80, two)] {
        harness.tap.observe(&part);
    }
    let (one, ping, two) = (
        harness.next().await,
        harness.next().await,
        harness.next().await,
    );
    assert_eq!([&one.head[..], &two.head].concat(), b"hello in two parts");
    assert_eq!(
        (one.fin, two.fin, two.continues, two.kind),
        (false, true, true, Opcode::Text)
    );
    assert_eq!((ping.kind, &ping.head[..]), (Opcode::Ping, &b"?"[..]));
}

#[tokio::test]
async fn late_subscriber_sees_question_marks_for_unknown_bytes() {
    let mut compress = Compress::new(Compression::default(), false);
    deflated(&mut compress, b"a long secret of the past");
    let mut harness = TapHarness::new("permessage-deflate", 64, 100);
    harness.tap.inflater = TapInflater::new(false, false);
    let late = deflated(&mut compress, b"new: a long secret of the past");
    harness.tap.observe(&frame(0xC1, &late));
    let seen = harness.next().await;
    assert!(
        seen.head.starts_with(b"new: ") && seen.head.contains(&b'?'),
        "{seen:?}"
    );
    assert_eq!(
        seen.deflate,
        InflateStatus::Inflated {
            size: 30,
            whole: false
        }
    );
}

#[tokio::test]
async fn deflate_bomb_is_not_inflated() {
    let mut compress = Compress::new(Compression::best(), false);
    let bomb = deflated(&mut compress, &vec![0; 4 << 20]);
    assert!(bomb.len() < 16 * 1024);
    for (extensions, after) in [
        ("permessage-deflate", InflateStatus::NotInflated),
        (
            "permessage-deflate; client_no_context_takeover",
            InflateStatus::Inflated {
                size: 2,
                whole: true,
            },
        ),
    ] {
        let mut harness = TapHarness::new(extensions, 16, 100);
        harness.tap.observe(&frame(0xC2, &bomb));
        assert_eq!(harness.next().await.deflate, InflateStatus::NotInflated);
        let fine = deflated(&mut Compress::new(Compression::best(), false), b"ok");
        harness.tap.observe(&frame(0xC1, &fine));
        assert_eq!(harness.next().await.deflate, after);
        // Invalid deflate data.
        let mut harness = TapHarness::new(extensions, 16, 100);
        harness.tap.observe(&frame(0xC2, &[0xFF; 100]));
        assert_eq!(harness.next().await.deflate, InflateStatus::NotInflated);
    }
}

#[tokio::test]
async fn frames_beyond_the_channel_are_counted_as_dropped() {
    let mut harness = TapHarness::new("", 16, 2);
    for _ in 0..5 {
        harness.tap.observe(&frame(0x81, b"x"));
    }
    assert_eq!(
        (harness.subscription.lost(), harness.subscription.lost()),
        (3, 0)
    );
    // The channel is not read: it fills up, and further frames are lost.
    harness.subscription.refill(10_000);
    for _ in 0..1000 {
        harness.tap.observe(&frame(0x81, b"x"));
    }
    assert!(harness.subscription.lost() > 700);
}

#[tokio::test]
async fn rest_of_a_frame_begun_before_the_tap_is_skipped() {
    let mut harness = TapHarness::new("", 16, 100);
    harness.tap.skip = 3;
    harness.tap.observe(b"xx");
    harness
        .tap
        .observe(&[&b"x"[..], &frame(0x80, b"end"), &frame(0x81, b"new")].concat());
    let seen = harness.next().await;
    assert_eq!(
        (seen.kind, &seen.head[..]),
        (Opcode::Continuation, &b"end"[..])
    );
    assert_eq!(harness.next().await.head, b"new");
}
