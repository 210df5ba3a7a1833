//! One field line (RFC 9112 section 5), of a head or of trailers.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

/// Reads the line at `line` of a field section, its line end excluded. The value shares the memory
/// of the section. `Err`: what is wrong with it.
pub fn parse(
    section: &Bytes,
    line: Range<usize>,
) -> Result<(HeaderName, HeaderValue), &'static str> {
    let bytes = &section[line.clone()];
    if matches!(bytes.first(), Some(b' ' | b'\t')) {
        return Err("a field is folded over several lines");
    }
    let colon = memchr::memchr(b':', bytes).ok_or("a field has no colon")?;
    let name = &bytes[..colon];
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err("a blank stands before the colon of a field");
    }
    let name = HeaderName::from_bytes(name).map_err(|_| "the name of a field is not valid")?;
    let (from, to) = trimmed(bytes, colon + 1);
    let value = section.slice(line.start + from..line.start + to);
    let value = HeaderValue::from_maybe_shared(value)
        .map_err(|_| "the value of a field holds a control character")?;
    Ok((name, value))
}

/// The value without the blanks around it.
fn trimmed(bytes: &[u8], mut from: usize) -> (usize, usize) {
    let mut to = bytes.len();
    while from < to && matches!(bytes[from], b' ' | b'\t') {
        from += 1;
    }
    while to > from && matches!(bytes[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    (from, to)
}
