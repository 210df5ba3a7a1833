//! Fields behind a body.

use http::HeaderMap;
use http::header::HeaderName;

use super::forwarded::{is_forwarding, is_identity};

/// What must not stand behind a body, because it would have had to be known before it (RFC 9110
/// section 6.5.1), or because nobody looks for it there.
const NEVER: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
];

/// Takes off what must not stand behind a body.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let odd: Vec<HeaderName> =
        trailers.keys().filter(|name| !may_trail(name.as_str())).cloned().collect();
    for name in odd {
        trailers.remove(name);
    }
}

/// Whether a field may stand behind a body. It may not where it decides on framing, routing, access
/// or the meaning of the body: whoever merges it into the head would be led astray.
pub fn may_trail(name: &str) -> bool {
    !NEVER.contains(&name)
        && !name.starts_with("if-")
        && !is_identity(name)
        && !is_forwarding(name)
        && !name.contains('_')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trailers_cannot_speak_for_the_head() {
        let mut trailers = HeaderMap::new();
        let odd = ["content-length", "host", "x-segue-version", "x_segue_version", "forwarded"];
        for name in odd.iter().chain(&["x-forwarded-for", "grpc-status", "x-checksum"]) {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        clean_trailers(&mut trailers);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-checksum"]);
    }
}
