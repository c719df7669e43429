//! Parses headers given on the command line.

use ::http::{HeaderName, HeaderValue};
use anyhow::Context;

/// Parses "Name: value".
pub(super) fn read(line: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = line
        .split_once(':')
        .with_context(|| format!("`{line}` is not a header: write it as \"Name: value\""))?;
    let parsed = name.trim().parse();
    let name: HeaderName = parsed.with_context(|| format!("`{name}` is not a header name"))?;
    let value = HeaderValue::from_str(value.trim())
        .with_context(|| format!("`{value}` is not a valid header value"))?;
    Ok((name, value))
}
