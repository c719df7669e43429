//! Bytes that their receiver, a reader or the socket, has not accepted yet.

use tokio::io::ReadBuf;

/// Pending bytes; holds no memory while empty.
#[derive(Debug, Default)]
pub(super) struct PendingBytes {
    bytes: Vec<u8>,
    /// Number of consumed bytes at the front.
    consumed: usize,
}

// === impl PendingBytes ===

impl PendingBytes {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.compact();
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `size` bytes, which `write` fills.
    pub(super) fn append_with(&mut self, size: usize, write: impl FnOnce(&mut [u8])) {
        self.compact();
        let end = self.bytes.len();
        self.bytes.resize(end + size, 0);
        write(&mut self.bytes[end..]);
    }

    /// Consumes the next `n` bytes.
    pub(super) fn advance(&mut self, n: usize) {
        self.consumed += n;
        if self.consumed >= self.bytes.len() {
            *self = PendingBytes::default();
        }
    }

    /// Moves bytes to `out` as far as they fit.
    pub(super) fn fill(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.bytes().len().min(out.remaining());
        out.put_slice(&self.bytes()[..n]);
        self.advance(n);
    }

    /// Removes the consumed bytes; they would otherwise accumulate in a buffer that is never empty.
    fn compact(&mut self) {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
