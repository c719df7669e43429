//! Client and backend. They run in a separate process, whose instructions are not counted.

use crate::client;
use std::{
    io::{Read, Write},
    path::Path,
};

/// Sends a message from the client, and one of the same size back when the backend has received it completely.
pub(crate) fn play(ca: &Path, (client, backend): (u16, u16), size: usize, times: usize) {
    let (request, response) = (frame(size, true), frame(size, false));
    let mut client = client::secure(&client::config(ca), client::connect(client));
    let mut backend = client::connect(backend);
    let mut buf = vec![0; request.len().max(response.len())];
    for _ in 0..times {
        relay(&mut client, &mut backend, &request, &mut buf);
        relay(&mut backend, &mut client, &response, &mut buf);
    }
}

fn relay(from: &mut impl Write, to: &mut impl Read, frame: &[u8], buf: &mut [u8]) {
    from.write_all(frame).expect("sent");
    from.flush().expect("sent");
    let received = &mut buf[..frame.len()];
    to.read_exact(received).expect("relayed");
    assert!(received == frame, "the frame has changed");
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
