//! Fields after a body, of which only some may pass.

use bytes::Bytes;
use http::HeaderMap;

use super::field;
use crate::canonical::may_trail;

/// Most fields after a body.
const MOST_TRAILERS: usize = 50;

/// Reads a complete section, its empty line included, all of whose lines end with CR LF, and leaves
/// out what must not pass.
pub fn parse(section: &Bytes) -> Result<HeaderMap, &'static str> {
    let mut passed = HeaderMap::new();
    let mut from = 0;
    for (count, end) in memchr::memchr_iter(b'\n', section).enumerate() {
        let line = from..end.saturating_sub(1);
        from = end + 1;
        if line.is_empty() {
            break;
        }
        if count == MOST_TRAILERS {
            return Err("there are more than 50");
        }
        let (name, value) = field::parse(section, line)?;
        if may_trail(name.as_str()) {
            passed.append(name, value);
        }
    }
    Ok(passed)
}
