//! Pending bytes of a stream, which its reader or its socket has not accepted yet; and scratch buffers of a thread,
//! borrowed for one call.

use std::cell::RefCell;
use tokio::io::ReadBuf;

/// Pending bytes; holds no memory while empty.
#[derive(Debug, Default)]
pub(crate) struct PendingBytes {
    bytes: Vec<u8>,
    /// Number of consumed bytes at the front.
    consumed: usize,
}

// === impl PendingBytes ===

impl PendingBytes {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.compact();
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `size` bytes, which `write` fills.
    pub(crate) fn append_with(&mut self, size: usize, write: impl FnOnce(&mut [u8])) {
        self.compact();
        let end = self.bytes.len();
        self.bytes.resize(end + size, 0);
        write(&mut self.bytes[end..]);
    }

    /// Consumes the next `n` bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        self.consumed += n;
        if self.consumed >= self.bytes.len() {
            *self = PendingBytes::default();
        }
    }

    /// Moves bytes to `out` as far as they fit.
    pub(crate) fn fill(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.bytes().len().min(out.remaining());
        out.put_slice(&self.bytes()[..n]);
        self.advance(n);
    }

    /// Removes the consumed bytes; they would otherwise accumulate in a buffer that is never empty.
    fn compact(&mut self) {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Runs `with` on the scratch buffer for received ciphertext.
pub(crate) fn with_read_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    READ_SCRATCH.with(|scratch| with_scratch(scratch, with))
}

/// Runs `with` on the scratch buffer for outgoing ciphertext, which `with` may enlarge.
pub(crate) fn with_write_scratch<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
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

/// Length of each scratch buffer: a message of 64 KiB, its header and the overhead of TLS.
pub(crate) const SCRATCH_LEN: usize = 68 * 1024;
