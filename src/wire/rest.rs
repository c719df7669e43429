//! Bytes that somebody did not take yet.

use tokio::io::ReadBuf;

/// Holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Rest {
    bytes: Vec<u8>,
    /// How many are gone.
    gone: usize,
}

// === impl Rest ===

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.forget();
        self.bytes.extend_from_slice(bytes);
    }

    /// So many more bytes at the end, for `write` to fill.
    pub(super) fn put_with(&mut self, size: usize, write: impl FnOnce(&mut [u8])) {
        self.forget();
        let end = self.bytes.len();
        self.bytes.resize(end + size, 0);
        write(&mut self.bytes[end..]);
    }

    /// The next `n` are gone.
    pub(super) fn advance(&mut self, n: usize) {
        self.gone += n;
        if self.gone >= self.bytes.len() {
            *self = Rest::default();
        }
    }

    pub(super) fn fill(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.bytes().len().min(out.remaining());
        out.put_slice(&self.bytes()[..n]);
        self.advance(n);
    }

    /// Before more is put: where something is always left, what is gone would add up.
    fn forget(&mut self) {
        self.bytes.drain(..self.gone);
        self.gone = 0;
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
