//! The program `lockgate`: see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockgate::cli::main()
}
