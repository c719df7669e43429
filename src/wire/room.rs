//! Room that all connections of a thread share, for as long as one call lasts.

use std::cell::RefCell;

/// How much there is of each: a message of 64 KiB, its header, and what TLS adds.
pub(super) const SCRATCH_LEN: usize = 68 * 1024;

/// Runs `with` in the room for ciphertext that comes.
pub(super) fn with_read_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    RECEIVING.with(|room| with_scratch(room, with))
}

/// Runs `with` in the room for ciphertext that goes; it may make it larger.
pub(super) fn with_write_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SENDING.with(|room| with_scratch(room, with))
}

/// Taken out and put back: TLS inside TLS gets room of its own.
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
