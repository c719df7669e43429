//! Text in lines of limited width.

use rustix::termios::tcgetwinsize;
use std::{fmt::Write, io};

/// Appends `words` in lines of at most [`width`] columns. The first line begins with `start`, the others are indented
/// by its width.
pub(crate) fn write_wrapped(text: &mut String, start: &str, words: &str) {
    let (indent, max) = (start.chars().count(), width());
    let mut column = indent;
    text.push_str(start);
    for (index, word) in words.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > max {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}

/// Returns the width of the terminal, if stdout is one, at most [`MAX_WIDTH`]; otherwise that.
pub(crate) fn width() -> usize {
    let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 {
        MAX_WIDTH
    } else {
        columns.min(MAX_WIDTH)
    }
}

/// Longer lines are hard to read.
const MAX_WIDTH: usize = 100;
