//! A header as it is given on the command line.

use ::http::{HeaderName, HeaderValue};
use anyhow::Context;

/// Reads "Name: value".
pub(super) fn read(line: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = line
        .split_once(':')
        .with_context(|| format!("`{line}` is no header: write it as \"Name: value\""))?;
    let parsed = name.trim().parse();
    let name: HeaderName = parsed.with_context(|| format!("`{name}` is no header's name"))?;
    let value = HeaderValue::from_str(value.trim())
        .with_context(|| format!("`{value}` cannot stand in a header"))?;
    Ok((name, value))
}
