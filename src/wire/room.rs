//! Scratch buffers that all connections of a thread share, each lent for the duration of one call.

use std::cell::RefCell;

/// Length of each buffer: a message of 64 KiB, its header and the overhead of TLS.
pub(super) const SCRATCH_LEN: usize = 68 * 1024;

/// Runs `with` on the scratch buffer for received ciphertext.
pub(super) fn with_read_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    RECEIVING.with(|room| with_scratch(room, with))
}

/// Runs `with` on the scratch buffer for outgoing ciphertext, which `with` may enlarge.
pub(super) fn with_write_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SENDING.with(|room| with_scratch(room, with))
}

/// Takes the buffer out and puts it back, so that TLS inside TLS uses a buffer of its own.
fn with_scratch<T>(room: &RefCell<Vec<u8>>, with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut lent = room.take();
    if lent.is_empty() {
        lent = vec![0; SCRATCH_LEN];
    }
    let result = with(&mut lent);
    room.replace(lent);
    result
}

thread_local! {
    static RECEIVING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SENDING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
