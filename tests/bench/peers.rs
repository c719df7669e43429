//! Client and backend, in a process of their own that is not counted.

use crate::client;
use std::{
    io::{Read, Write},
    path::Path,
};

/// Sends a message from the client, and once the backend has it whole, one of the same size back.
pub(crate) fn play(ca: &Path, (client, backend): (u16, u16), size: usize, times: usize) {
    let (asks, answers) = (frame(size, true), frame(size, false));
    let mut client = client::secure(&client::config(ca), client::connect(client));
    let mut backend = client::connect(backend);
    let mut room = vec![0; asks.len().max(answers.len())];
    for _ in 0..times {
        relayed(&mut client, &mut backend, &asks, &mut room);
        relayed(&mut backend, &mut client, &answers, &mut room);
    }
}

fn relayed(from: &mut impl Write, to: &mut impl Read, frame: &[u8], room: &mut [u8]) {
    from.write_all(frame).expect("it is taken");
    from.flush().expect("it is taken");
    let came = &mut room[..frame.len()];
    to.read_exact(came).expect("it is relayed");
    assert!(came == frame, "not as it was sent");
}

/// A binary message in one frame (RFC 6455 §5.2); its content is not inspected here.
fn frame(size: usize, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    match size {
        0..=125 => frame.push(size as u8 | mask_bit),
        126..=0xFFFF => {
            frame.push(126 | mask_bit);
            frame.extend((size as u16).to_be_bytes());
        }
        _ => {
            frame.push(127 | mask_bit);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0x12, 0x34, 0x56, 0x78]);
    }
    frame.extend((0..size).map(|n| n as u8));
    frame
}
