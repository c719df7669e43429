//! The program `lockgate`: see the library's documentation.

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// glibc's keeps what a peak of sessions took; this one gives it back within seconds (`.cargo/config.toml`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    lockgate::cli::main()
}
