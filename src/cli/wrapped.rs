//! Text in lines of limited width.

use std::fmt::Write;

/// Appends `words` in lines of at most [`WIDTH`] columns. The first line begins with `start`, the others are indented
/// by its width.
pub(crate) fn write_wrapped(text: &mut String, start: &str, words: &str) {
    let indent = start.chars().count();
    let mut column = indent;
    text.push_str(start);
    for (index, word) in words.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
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

/// The width of the text, in columns.
const WIDTH: usize = 100;
