//! Output of the commands, and the exit code that several of them return.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints to stdout. A closed pipe, as in `lockgate schema | head`, is not an error.
pub(crate) fn print(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints to stderr; errors are ignored, because a server's terminal may be closed.
pub(crate) fn eprint(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The exit code for an invalid command line or configuration.
pub(crate) const EX_USAGE: u8 = 64;
