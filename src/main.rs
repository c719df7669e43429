//! The program `lockgate`; the library documents it.

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// jemalloc returns the memory of a peak of sessions within seconds (`.cargo/config.toml`); glibc's allocator keeps it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    lockgate::cli::main()
}
