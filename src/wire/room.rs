//! Per-thread scratch buffers, borrowed for one call.

use std::cell::RefCell;

/// Length of each buffer: a message of 64 KiB, its header and the overhead of TLS.
pub(super) const SCRATCH_LEN: usize = 68 * 1024;

/// Runs `with` on the scratch buffer for received ciphertext.
pub(super) fn with_read_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    READ_SCRATCH.with(|scratch| with_scratch(scratch, with))
}

/// Runs `with` on the scratch buffer for outgoing ciphertext, which `with` may enlarge.
pub(super) fn with_write_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    WRITE_SCRATCH.with(|scratch| with_scratch(scratch, with))
}

/// Takes the buffer out and puts it back, so that a nested call, as for TLS inside TLS, uses a separate buffer.
fn with_scratch<T>(scratch: &RefCell<Vec<u8>>, with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buf = scratch.take();
    if buf.is_empty() {
        buf = vec![0; SCRATCH_LEN];
    }
    let result = with(&mut buf);
    scratch.replace(buf);
    result
}

thread_local! {
    static READ_SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WRITE_SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
