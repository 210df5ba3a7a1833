//! Fields after a body, of which only some may pass.

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;

use super::field;

/// Most fields after a body.
const MOST_TRAILERS: usize = 50;
/// What only the mesh may say begins so, and comes in heads alone.
const INTERNAL_PREFIX: &str = "x-segue-";

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
        if may_pass(&name) {
            passed.append(name, value);
        }
    }
    Ok(passed)
}

/// Whether a field may come after a body. It may not where it decides on framing, routing, access
/// or the meaning of the body: whoever merges it into the head would be led astray (RFC 9110
/// section 6.5.1).
pub fn may_pass(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_forbidden = matches!(
        name,
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "pragma"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "via"
            | "www-authenticate"
    );
    let is_of_a_kind = ["if-", "proxy-", "x-forwarded-", INTERNAL_PREFIX];
    !is_forbidden && !is_of_a_kind.iter().any(|prefix| name.starts_with(prefix))
}
