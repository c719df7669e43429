//! Bytes that somebody did not take yet.

use tokio::io::ReadBuf;

/// Holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct PendingBytes {
    bytes: Vec<u8>,
    /// How many are gone.
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

    /// So many more bytes at the end, for `write` to fill.
    pub(super) fn append_with(&mut self, size: usize, write: impl FnOnce(&mut [u8])) {
        self.compact();
        let end = self.bytes.len();
        self.bytes.resize(end + size, 0);
        write(&mut self.bytes[end..]);
    }

    /// The next `n` are gone.
    pub(super) fn advance(&mut self, n: usize) {
        self.consumed += n;
        if self.consumed >= self.bytes.len() {
            *self = PendingBytes::default();
        }
    }

    pub(super) fn fill(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.bytes().len().min(out.remaining());
        out.put_slice(&self.bytes()[..n]);
        self.advance(n);
    }

    /// Before more is put: where something is always left, what is gone would add up.
    fn compact(&mut self) {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
