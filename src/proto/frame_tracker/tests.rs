//! Hostile sequences in a table, and streams in any chunking.

use crate::proto::{
    frame::{BadHeader, apply_mask},
    frame_tracker::*,
};
use proptest::prelude::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const NO_BOUNDS: Bounds = Bounds {
    max_frame: u64::MAX,
    max_message: u64::MAX,
    max_fragments: u32::MAX,
};

const SMALL: Bounds = Bounds {
    max_frame: 8,
    max_message: 10,
    max_fragments: u32::MAX,
};

/// A frame in a table; whether it is masked depends on the sender.
#[derive(Debug, Clone)]
enum F {
    /// The first byte and the payload; the length in its shortest form.
    Whole(u8, Vec<u8>),
    /// The first byte, the 7-bit length and the extended length: a header whose payload is not sent.
    Head(u8, u8, &'static [u8]),
    /// The first byte and the payload, masked if it must not be masked, and vice versa.
    WrongMask(u8, Vec<u8>),
}

impl F {
    fn wire(&self, sender: Role) -> Vec<u8> {
        let masked = sender == Role::Client;
        match self {
            F::Whole(first, payload) => wire(*first, payload, masked),
            F::WrongMask(first, payload) => wire(*first, payload, !masked),
            F::Head(first, short, extended) => {
                let mut out = vec![*first, short | if masked { 0x80 } else { 0 }];
                out.extend_from_slice(extended);
                if masked {
                    out.extend_from_slice(&KEY);
                }
                out
            }
        }
    }

    fn control(&self) -> Option<(Opcode, Vec<u8>)> {
        match self {
            F::Whole(first, payload) => {
                let opcode = Opcode::from_first_byte(*first).unwrap();
                opcode.is_control().then(|| (opcode, payload.clone()))
            }
            _ => None,
        }
    }
}

fn wire(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut out = vec![first];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..=125 => out.push(mask | len as u8),
        len @ 126..=0xFFFF => {
            out.push(mask | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(mask | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let start = out.len() + if masked { 4 } else { 0 };
    if masked {
        out.extend_from_slice(&KEY);
    }
    out.extend_from_slice(payload);
    if masked {
        apply_mask(&mut out[start..], KEY);
    }
    out
}

/// Everything that one direction relayed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Every consumed byte, control frames included.
    relayed: Vec<u8>,
    /// Position, opcode and payload of each control frame.
    controls: Vec<(usize, Opcode, Vec<u8>)>,
    violation: Option<Violation>,
    counts: FrameCounts,
    in_message: bool,
}

/// Relays like the splice: a buffer of unread bytes, and `advance` until it consumes nothing.
fn relay<'a>(
    (sender, reserved, bounds): (Role, RsvBits, Bounds),
    chunks: impl Iterator<Item = &'a [u8]>,
    stop: impl Fn(usize) -> bool,
) -> Seen {
    let mut tracker = FrameTracker::new(sender, reserved);
    let mut seen = Seen::default();
    let mut held = Vec::new();
    for chunk in chunks {
        held.extend_from_slice(chunk);
        let violation = loop {
            let stop = stop(seen.relayed.len());
            let progress = match tracker.advance(&held, &bounds, stop) {
                Ok(progress) => progress,
                Err(violation) => break Some(violation),
            };
            let mut taken = progress.pass;
            if let Some(control) = progress.control {
                assert!(!(stop && taken > 0), "walked on over a boundary");
                assert!(tracker.at_boundary());
                let at = seen.relayed.len() + taken;
                let payload = control.payload().to_vec();
                seen.controls.push((at, control.opcode, payload));
                taken += control.len;
            }
            seen.relayed.extend(held.drain(..taken));
            if taken == 0 {
                assert!(held.len() <= 130, "{} bytes are held back", held.len());
                break None;
            }
            if stop && !held.is_empty() {
                assert!(tracker.at_boundary());
            }
        };
        if violation.is_some() {
            seen.violation = violation;
            // Every further call returns the same violation.
            for more in [&held[..], b"", &wire(0x81, b"fine", true), b"\x81\0"] {
                assert_eq!(tracker.advance(more, &NO_BOUNDS, false).err(), violation);
            }
            break;
        }
    }
    seen.counts = tracker.counts();
    seen.in_message = tracker.in_message();
    seen
}

fn text(payload: &str) -> F {
    F::Whole(0x81, payload.into())
}

fn close(code: u16) -> F {
    F::Whole(0x88, code.to_be_bytes().to_vec())
}

/// A sequence whose last frame is bad, the negotiated bits and bounds, and why it is bad.
type ViolationCase = (Vec<F>, RsvBits, Bounds, Violation);

fn violations() -> Vec<ViolationCase> {
    use Violation::*;
    let start = || F::Whole(0x01, b"begin".to_vec());
    let more = || F::Whole(0x00, b"go on".to_vec());
    let end = || F::Whole(0x80, b"end".to_vec());
    let ping = || F::Whole(0x89, b"ping".to_vec());
    let plain = |frames, why| (frames, RsvBits::None, NO_BOUNDS, why);
    let bits = |reserved, frames| (frames, reserved, NO_BOUNDS, ReservedBits);
    let small = |frames, why| (frames, RsvBits::None, SMALL, why);
    let bad = |why: BadHeader| Header(why);
    let mut table = vec![
        // Opcodes.
        plain(vec![F::Whole(0x83, vec![])], bad(BadHeader::ReservedOpcode)),
        plain(
            vec![text("a"), F::Whole(0x84, b"x".to_vec())],
            bad(BadHeader::ReservedOpcode),
        ),
        plain(
            vec![text("a"), F::Whole(0x87, b"x".to_vec())],
            bad(BadHeader::ReservedOpcode),
        ),
        plain(
            vec![start(), F::Whole(0x05, b"x".to_vec())],
            bad(BadHeader::ReservedOpcode),
        ),
        plain(
            vec![ping(), F::Whole(0x8B, vec![])],
            bad(BadHeader::ReservedOpcode),
        ),
        plain(
            vec![ping(), F::Whole(0x8F, vec![])],
            bad(BadHeader::ReservedOpcode),
        ),
        // Control frames.
        plain(
            vec![text("a"), F::Whole(0x09, b"x".to_vec())],
            bad(BadHeader::FragmentedControl),
        ),
        plain(
            vec![F::Whole(0x0A, vec![])],
            bad(BadHeader::FragmentedControl),
        ),
        plain(
            vec![start(), F::Whole(0x08, vec![3, 0xE8])],
            bad(BadHeader::FragmentedControl),
        ),
        plain(
            vec![text("a"), F::Whole(0x89, vec![0; 126])],
            bad(BadHeader::LongControl),
        ),
        plain(
            vec![F::Whole(0x8A, vec![0; 70_000])],
            bad(BadHeader::LongControl),
        ),
        plain(
            vec![F::Head(0x88, 126, &[0, 2])],
            bad(BadHeader::LongControl),
        ),
        // Lengths.
        plain(
            vec![text("a"), F::Head(0x82, 126, &[0, 125])],
            bad(BadHeader::NonMinimalLength),
        ),
        plain(
            vec![F::Head(0x82, 127, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF])],
            bad(BadHeader::NonMinimalLength),
        ),
        plain(
            vec![start(), F::Head(0x80, 127, &[0; 8])],
            bad(BadHeader::NonMinimalLength),
        ),
        plain(
            vec![ping(), F::Head(0x82, 127, &[0x80, 0, 0, 0, 0, 0, 0, 0])],
            bad(BadHeader::LengthOverflow),
        ),
        plain(
            vec![F::Head(0x82, 127, &[0xFF; 8])],
            bad(BadHeader::LengthOverflow),
        ),
        // Masks.
        plain(vec![F::WrongMask(0x81, b"x".to_vec())], Masked),
        plain(vec![text("a"), ping(), F::WrongMask(0x89, vec![])], Masked),
        plain(vec![start(), F::WrongMask(0x80, b"x".to_vec())], Masked),
        // Fragments.
        plain(vec![end()], UnexpectedContinuation),
        plain(vec![more()], UnexpectedContinuation),
        plain(vec![start(), more(), end(), end()], UnexpectedContinuation),
        plain(vec![text("a"), ping(), more()], UnexpectedContinuation),
        plain(vec![start(), text("x")], InterruptedMessage),
        plain(vec![start(), ping(), more(), start()], InterruptedMessage),
        plain(vec![start(), F::Whole(0x82, vec![])], InterruptedMessage),
        // Close.
        plain(vec![text("a"), F::Whole(0x88, vec![3])], ShortClose),
        plain(vec![close(1000), close(1000)], AfterClose),
        plain(vec![start(), close(1001), end()], AfterClose),
        plain(vec![F::Whole(0x88, vec![]), ping()], AfterClose),
        plain(
            vec![close(3000), F::Head(0xFF, 127, &[0xFF; 8])],
            AfterClose,
        ),
        // Reserved bits.
        bits(RsvBits::None, vec![text("a"), F::Whole(0xC1, vec![0])]),
        bits(RsvBits::None, vec![F::Whole(0xA2, vec![0])]),
        bits(RsvBits::None, vec![start(), F::Whole(0x90, vec![0])]),
        bits(RsvBits::None, vec![F::Whole(0xC9, vec![])]),
        bits(RsvBits::Deflate, vec![text("a"), F::Whole(0xE1, vec![0])]),
        bits(RsvBits::Deflate, vec![F::Whole(0x92, vec![0])]),
        bits(
            RsvBits::Deflate,
            vec![F::Whole(0x41, vec![0]), F::Whole(0xC0, vec![0])],
        ),
        bits(
            RsvBits::Deflate,
            vec![F::Whole(0xC1, vec![0]), F::Whole(0xC9, vec![0])],
        ),
        bits(
            RsvBits::Any,
            vec![F::Whole(0xF1, vec![0]), F::Whole(0xC8, vec![])],
        ),
        bits(RsvBits::Any, vec![F::Whole(0x9A, vec![])]),
        // Bounds.
        small(vec![text("12345678"), text("123456789")], FrameTooBig),
        small(vec![ping(), F::Head(0x82, 127, &[0x7F; 8])], FrameTooBig),
        small(
            vec![start(), F::Head(0x80, 126, &[0xFF, 0xFF])],
            FrameTooBig,
        ),
        small(
            vec![start(), more(), F::Whole(0x80, vec![0])],
            MessageTooBig,
        ),
        small(
            vec![start(), ping(), F::Whole(0x80, b"123456".to_vec())],
            MessageTooBig,
        ),
    ];
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        table.push(plain(vec![text("bye"), close(code)], BadCloseCode));
    }
    for reason in [&b"\xFF"[..], b"cut \xC3", b"\xED\xA0\x80", b"\xC0\xAF"] {
        let payload = [&1000_u16.to_be_bytes()[..], reason].concat();
        table.push(plain(
            vec![text("bye"), F::Whole(0x88, payload)],
            BadCloseReason,
        ));
    }
    table
}

#[test]
fn frames_before_a_violation_pass_and_the_bad_one_does_not() {
    let table = violations();
    assert!(table.len() >= 30);
    for ((frames, reserved, bounds, why), sender) in table
        .iter()
        .flat_map(|row| [(row, Role::Client), (row, Role::Server)])
    {
        let why = match (why, sender) {
            (Violation::Masked, Role::Client) => Violation::Unmasked,
            (why, _) => *why,
        };
        let (bad, good) = frames.split_last().unwrap();
        let good_bytes = good.iter().flat_map(|f| f.wire(sender)).collect::<Vec<_>>();
        let controls = good.iter().filter_map(F::control).collect::<Vec<_>>();
        let mut stream = good_bytes.clone();
        stream.extend(bad.wire(sender));
        stream.extend(text("never seen").wire(sender));

        let settings = (sender, *reserved, *bounds);
        for (how, size) in [("whole", stream.len()), ("byte by byte", 1), ("by 3", 3)] {
            for stop in [false, true] {
                let seen = relay(settings, stream.chunks(size), |_| stop);
                let case = format!("{frames:02x?} from {sender:?}, {how}, stop {stop}");
                assert_eq!(seen.violation, Some(why), "{case}");
                assert_eq!(seen.relayed, good_bytes, "{case}");
                let controls_seen = seen
                    .controls
                    .into_iter()
                    .map(|(_, op, payload)| (op, payload));
                assert_eq!(controls_seen.collect::<Vec<_>>(), controls, "{case}");
                assert_eq!(seen.counts.frames, good.len() as u64, "{case}");
                assert_eq!(seen.counts.bytes, good_bytes.len() as u64, "{case}");
            }
        }
        let code = match why {
            Violation::FrameTooBig | Violation::MessageTooBig => 1009,
            Violation::BadCloseReason => 1007,
            _ => 1002,
        };
        assert_eq!(why.close_code(), code);
    }
}

/// A violation in the first one or two bytes is reported without waiting for more.
#[test]
fn violation_is_reported_at_the_first_bad_byte() {
    let table: &[(&[u8], Violation)] = &[
        (&[0x00], Violation::UnexpectedContinuation),
        (&[0xC1], Violation::ReservedBits),
        (&[0x81, 0x05], Violation::Unmasked),
        (&[0x88, 0x7F], Violation::Unmasked),
        (&[0x88, 0xFF], Violation::Header(BadHeader::LongControl)),
    ];
    for (bytes, why) in table {
        let seen = relay(
            (Role::Client, RsvBits::None, NO_BOUNDS),
            bytes.chunks(1),
            |_| false,
        );
        assert_eq!(seen.violation, Some(*why), "{bytes:02x?}");
    }
}

#[test]
fn large_frame_passes_in_parts() {
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
    let mut advance = |bytes: &[u8]| tracker.advance(bytes, &NO_BOUNDS, false).unwrap().pass;
    assert_eq!(advance(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0]), 0);
    assert_eq!(advance(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), 10);
    assert_eq!(advance(&[0xFF; 65_000]), 65_000);
    assert!(!tracker.at_boundary());
    assert!(!tracker.in_message());
    // 536 bytes are left of the frame, then a whole frame, then the half of a header.
    let mut bytes = vec![0xFF; 536];
    bytes.extend([0x01, 1, b'x', 0x80]);
    let progress = tracker.advance(&bytes, &NO_BOUNDS, true).unwrap();
    assert_eq!(progress.pass, 536, "stops at the first boundary");
    let progress = tracker.advance(&bytes[536..], &NO_BOUNDS, false).unwrap();
    assert_eq!(progress.pass, 3);
    assert!(tracker.at_boundary() && tracker.in_message());
    let counts = tracker.counts();
    assert_eq!((counts.frames, counts.messages), (2, 2));
    assert_eq!(counts.bytes, 10 + 65_536 + 3);
}

#[test]
fn bounds_apply_from_the_next_frame_and_not_to_control_frames() {
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
    let none = Bounds {
        max_frame: 0,
        max_message: 0,
        max_fragments: u32::MAX,
    };
    let begun = tracker.advance(&[0x82, 100, 1, 2], &NO_BOUNDS, false);
    assert_eq!(begun.unwrap().pass, 4);
    assert_eq!(tracker.advance(&[0; 98], &none, false).unwrap().pass, 98);
    let ping = tracker.advance(b"\x89\x02hi", &none, false).unwrap();
    assert_eq!(ping.control.unwrap().payload(), b"hi");
    assert_eq!(tracker.advance(&[0x82, 0], &none, false).unwrap().pass, 2);
    let refused = tracker.advance(&[0x82, 1], &none, false);
    assert_eq!(refused.unwrap_err(), Violation::FrameTooBig);
}

#[test]
fn fragments_are_counted_by_message() {
    let bounds = Bounds {
        max_fragments: 3,
        ..NO_BOUNDS
    };
    for stop in [false, true] {
        let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
        let mut feed = |bytes: &[u8]| {
            let mut done = 0;
            while done < bytes.len() {
                let progress = tracker.advance(&bytes[done..], &bounds, stop)?;
                done += progress.pass + progress.control.map_or(0, |control| control.len);
            }
            Ok(())
        };
        // Three frames and a Ping, twice; the third message has a frame too many.
        let whole = b"\x02\x00\x00\x00\x89\x00\x80\x00";
        assert_eq!(feed(whole), Ok(()));
        assert_eq!(feed(whole), Ok(()));
        assert_eq!(feed(b"\x02\x00\x00\x00\x00\x00"), Ok(()));
        assert_eq!(feed(b"\x80\x00"), Err(Violation::TooManyFragments));
    }
    assert_eq!(Violation::TooManyFragments.close_code(), 1008);
}

#[test]
fn fragment_count_saturates() {
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
    tracker.in_message = true;
    tracker.fragments = u32::MAX - 1;
    for _ in 0..3 {
        assert!(tracker.advance(&[0, 0], &NO_BOUNDS, false).is_ok());
    }
}

#[test]
fn message_length_saturates() {
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
    tracker.in_message = true;
    tracker.message_len = u64::MAX - 1;
    let bounds = Bounds {
        max_frame: u64::MAX,
        max_message: u64::MAX - 1,
        max_fragments: u32::MAX,
    };
    let refused = tracker.advance(&[0x80, 5], &bounds, false);
    assert_eq!(refused.unwrap_err(), Violation::MessageTooBig);
}

#[test]
fn close_code_is_parsed() {
    let mut tracker = FrameTracker::new(Role::Client, RsvBits::None);
    let frame = wire(0x88, b"\x0f\xa0gone", true);
    let control = tracker.advance(&frame, &NO_BOUNDS, false).unwrap().control;
    let control = control.unwrap();
    assert_eq!(control.close_code(), Some(4000));
    assert_eq!(control.payload(), b"\x0f\xa0gone");
    assert_eq!(control.len, frame.len());
    let mut tracker = FrameTracker::new(Role::Server, RsvBits::None);
    let control = tracker
        .advance(b"\x88\0", &NO_BOUNDS, false)
        .unwrap()
        .control;
    assert_eq!(control.unwrap().close_code(), None);
}

/// Found by fuzzing: a first byte that is bad by itself was checked after the second.
#[test]
fn first_of_two_violations_is_reported() {
    let table: &[(&[u8], Violation)] = &[
        (
            &[0x0A, 0xFF],
            Violation::Header(BadHeader::FragmentedControl),
        ),
        (&[0x83, 0xFF], Violation::Header(BadHeader::ReservedOpcode)),
        (&[0xC9, 0xFF], Violation::ReservedBits),
        (&[0x89, 0xFF], Violation::Masked),
        (&[0x82, 0xFE, 0, 0], Violation::Masked),
    ];
    for (bytes, why) in table {
        for size in [1, bytes.len()] {
            let settings = (Role::Server, RsvBits::None, NO_BOUNDS);
            let seen = relay(settings, bytes.chunks(size), |_| false);
            assert_eq!(seen.violation, Some(*why), "{bytes:02x?} by {size}");
        }
    }
}

/// Two trackers live in each idle session.
#[test]
fn tracker_is_small() {
    assert!(size_of::<FrameTracker>() <= 56);
}

#[test]
fn every_violation_has_its_own_word() {
    let mut words = violations()
        .iter()
        .map(|row| row.3.as_str())
        .collect::<Vec<_>>();
    words.push(Violation::Unmasked.as_str());
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 16);
    let kebab = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    assert!(words.iter().all(kebab));
}

/// Valid frames: messages in one to four fragments, with control frames between any two.
fn valid_frames() -> impl Strategy<Value = Vec<F>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        2 => (120_usize..140).prop_map(|len| vec![1; len]),
        1 => (65_530_usize..65_542).prop_map(|len| vec![2; len]),
    ];
    let control = (
        prop_oneof![Just(0x89_u8), Just(0x8A)],
        prop::collection::vec(any::<u8>(), 0..=125),
    );
    let message = prop::collection::vec((payload, prop::option::weighted(0.3, control)), 1..5);
    let closing = prop::option::of(prop_oneof![Just(1000_u16), Just(3000)]);
    (prop::collection::vec(message, 0..6), closing).prop_map(|(messages, closing)| {
        let mut frames = Vec::new();
        for message in messages {
            let last = message.len() - 1;
            for (at, (payload, control)) in message.into_iter().enumerate() {
                let opcode = if at == 0 { 0x02 } else { 0x00 };
                let fin = if at == last { 0x80 } else { 0 };
                frames.push(F::Whole(fin | opcode, payload));
                frames.extend(control.map(|(first, payload)| F::Whole(first, payload)));
            }
        }
        frames.extend(closing.map(close));
        frames
    })
}

fn sender() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

fn reserved() -> impl Strategy<Value = RsvBits> {
    prop_oneof![
        Just(RsvBits::None),
        Just(RsvBits::Deflate),
        Just(RsvBits::Any)
    ]
}

/// Splits `bytes` into chunks of the given sizes, repeated cyclically.
fn cut<'a>(mut bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = bytes.len().min(*sizes.next()?);
        let (chunk, rest) = bytes.split_at(size);
        bytes = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

proptest! {
    #[test]
    fn any_chunking_of_a_valid_stream_passes_it_whole(
        frames in valid_frames(),
        sender in sender(),
        sizes in prop::collection::vec(1_usize..5000, 1..8),
        stop_at in 0_usize..7,
    ) {
        let mut stream = Vec::new();
        let mut controls = Vec::new();
        for frame in &frames {
            controls.extend(frame.control().map(|(op, payload)| (stream.len(), op, payload)));
            stream.extend(frame.wire(sender));
        }
        let settings = (sender, RsvBits::None, NO_BOUNDS);
        let seen = relay(settings, cut(&stream, &sizes), |at| at % 7 < stop_at);
        prop_assert_eq!(seen.violation, None);
        prop_assert!(!seen.in_message);
        prop_assert_eq!(seen.counts.frames, frames.len() as u64);
        prop_assert_eq!(seen.counts.bytes, stream.len() as u64);
        let begun = frames.iter().filter(|f| matches!(f, F::Whole(first, _) if first & 0xF == 2));
        prop_assert_eq!(seen.counts.messages, begun.count() as u64);
        prop_assert_eq!(seen.controls, controls);
        prop_assert!(seen.relayed == stream);
    }

    #[test]
    fn any_chunking_of_any_stream_gives_the_same_result(
        frames in valid_frames(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        garbage in prop::collection::vec(any::<u8>(), 0..60),
        settings in (sender(), reserved()),
        max in 0_u64..100_000,
        sizes in prop::collection::vec(1_usize..400, 1..8),
        stop_at in 0_usize..7,
    ) {
        let mut stream = frames.iter().flat_map(|f| f.wire(settings.0)).collect::<Vec<_>>();
        stream.extend(garbage);
        for (at, bits) in flips {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] ^= bits;
            }
        }
        let bounds = Bounds { max_frame: max / 2, max_message: max, max_fragments: u32::MAX };
        let settings = (settings.0, settings.1, bounds);
        let whole = relay(settings, std::iter::once(&stream[..]), |_| false);
        prop_assert!(stream.starts_with(&whole.relayed));
        let parts = relay(settings, cut(&stream, &sizes), |at| at % 7 < stop_at);
        prop_assert_eq!(&parts, &whole);
    }
}
