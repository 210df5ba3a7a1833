//! Which headers may pass from one connection to the next.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use segue_sidecar_core::snapshot::HeaderEdits;

/// What only the mesh may say begins so; callers' own are taken off.
pub const INTERNAL_PREFIX: &str = "x-segue-";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What stands in a head, found in one pass over its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    bits: u16,
}

impl Found {
    pub const CONNECTION: Self = Self { bits: 1 };
    pub const KEEP_ALIVE: Self = Self { bits: 1 << 1 };
    pub const PROXY_CONNECTION: Self = Self { bits: 1 << 2 };
    pub const TE: Self = Self { bits: 1 << 3 };
    pub const TRANSFER_ENCODING: Self = Self { bits: 1 << 4 };
    pub const UPGRADE: Self = Self { bits: 1 << 5 };
    pub const HOST: Self = Self { bits: 1 << 6 };
    pub const CONTENT_LENGTH: Self = Self { bits: 1 << 7 };
    pub const EXPECT: Self = Self { bits: 1 << 8 };
    pub const INTERNAL: Self = Self { bits: 1 << 9 };
    pub const PROXY_AUTHORIZATION: Self = Self { bits: 1 << 10 };

    /// Looks once at each name.
    pub fn scan(headers: &HeaderMap) -> Self {
        let mut bits = 0;
        for name in headers.keys() {
            let name = name.as_str();
            let found = match name {
                "host" => Self::HOST,
                "connection" => Self::CONNECTION,
                "content-length" => Self::CONTENT_LENGTH,
                "transfer-encoding" => Self::TRANSFER_ENCODING,
                "te" => Self::TE,
                "upgrade" => Self::UPGRADE,
                "expect" => Self::EXPECT,
                "keep-alive" => Self::KEEP_ALIVE,
                "proxy-connection" => Self::PROXY_CONNECTION,
                "proxy-authorization" => Self::PROXY_AUTHORIZATION,
                _ if name.starts_with(INTERNAL_PREFIX) => Self::INTERNAL,
                _ => continue,
            };
            bits |= found.bits;
        }
        Self { bits }
    }

    /// Whether it was found.
    pub fn has(self, what: Self) -> bool {
        self.bits & what.bits != 0
    }
}

/// A `Connection` header that names what must not be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionNamesHost;

/// Takes off what concerns one connection only (RFC 9110 section 7.6.1), including what
/// `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, found: Found) -> Result<(), ConnectionNamesHost> {
    if found.has(Found::CONNECTION) {
        strip_listed(headers)?;
        headers.remove(CONNECTION);
    }
    if found.has(Found::KEEP_ALIVE) {
        headers.remove(KEEP_ALIVE);
    }
    if found.has(Found::PROXY_CONNECTION) {
        headers.remove(PROXY_CONNECTION);
    }
    if found.has(Found::TE) {
        headers.remove(TE);
    }
    if found.has(Found::TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
    }
    if found.has(Found::UPGRADE) {
        headers.remove(UPGRADE);
    }
    Ok(())
}

/// Takes off what callers must not say.
pub fn strip_internal(headers: &mut HeaderMap) {
    let internal: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
}

/// Whether `TE` asks for trailers, which gRPC does.
pub fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| tokens(value).any(|token| token == b"trailers"))
}

/// Applies a route's changes, in the order remove, set, add.
pub fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for edit in &edits.edits {
        if edit.append {
            headers.append(&edit.name, edit.value.clone());
        } else {
            headers.insert(&edit.name, edit.value.clone());
        }
    }
}

fn strip_listed(headers: &mut HeaderMap) -> Result<(), ConnectionNamesHost> {
    let ordinary = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
    };
    let mut listed = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in tokens(value).filter(|token| !ordinary(token)) {
            if let Ok(name) = HeaderName::from_bytes(token) {
                if name == HOST || name == CONTENT_LENGTH {
                    return Err(ConnectionNamesHost);
                }
                listed.push(name);
            }
        }
    }
    for name in listed {
        headers.remove(name);
    }
    Ok(())
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}

/// Makes one line of the cookies that an HTTP/2 caller may send in pieces (RFC 9113 section 8.2.3):
/// what reads them behind us knows only one.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::snapshot::HeaderEdit;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        let found = Found::scan(&map);
        strip_hop_by_hop(&mut map, found).unwrap();
        assert_eq!(map, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn connection_cannot_take_off_the_host() {
        let mut map = headers(&[("connection", "Host"), ("host", "chat")]);
        let found = Found::scan(&map);
        assert_eq!(strip_hop_by_hop(&mut map, found), Err(ConnectionNamesHost));
    }

    #[test]
    fn callers_cannot_speak_for_the_mesh() {
        let mut map = headers(&[("x-segue-version", "v2"), ("x-user", "7")]);
        assert!(Found::scan(&map).has(Found::INTERNAL));
        strip_internal(&mut map);
        assert_eq!(map, headers(&[("x-user", "7")]));
    }

    #[test]
    fn edits_remove_then_set_then_add() {
        let mut map = headers(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let change = |name, append| HeaderEdit {
            name: HeaderName::from_static(name),
            value: HeaderValue::from_static("2"),
            append,
        };
        let remove = vec![HeaderName::from_static("a")];
        edit(&mut map, &HeaderEdits { remove, edits: vec![change("b", false), change("c", true)] });
        assert_eq!(map, headers(&[("b", "2"), ("c", "1"), ("c", "2")]));
    }

    #[test]
    fn cookies_in_pieces_become_one_line() {
        let mut map = headers(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]);
        join_cookies(&mut map);
        assert_eq!(map, headers(&[("cookie", "a=1; b=2"), ("x", "y")]));
    }

    #[test]
    fn only_te_trailers_asks_for_trailers() {
        assert!(wants_trailers(&headers(&[("te", "gzip, trailers")])));
        assert!(!wants_trailers(&headers(&[("te", "gzip")])));
    }
}
