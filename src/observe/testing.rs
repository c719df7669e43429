//! Test helper of this module.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

/// A writer into memory; all clones share one buffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

/// Runs `run` and returns the lines that it logs.
pub(crate) fn logged(run: impl FnOnce()) -> String {
    let memory = Memory::default();
    let writer = memory.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    memory.text()
}

// === impl Memory ===

impl Memory {
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().expect("no test panics while it writes");
        String::from_utf8(bytes.clone()).expect("logs are UTF-8")
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock().expect("no test panics while it writes");
        buffer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
