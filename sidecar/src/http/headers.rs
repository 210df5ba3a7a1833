//! Which headers may pass from one connection to the next.

use http::Version;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, DATE, FROM, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, ORIGIN, PROXY_AUTHORIZATION, RANGE, REFERER, TE,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};
use segue_sidecar_core::canonical::{INTERNAL_PREFIX, is_forwarding, is_identity};
use segue_sidecar_core::snapshot::HeaderEdits;

/// Fields of requests that have one value and no list syntax (RFC 9110, `Origin` RFC 6454). `Host`,
/// `Content-Length` and `Cookie` have rules of their own.
const SINGLE: [HeaderName; 15] = [
    AUTHORIZATION,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    DATE,
    FROM,
    IF_MODIFIED_SINCE,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    MAX_FORWARDS,
    ORIGIN,
    PROXY_AUTHORIZATION,
    RANGE,
    REFERER,
    USER_AGENT,
];
/// Names that no spelling with `_` may stand for, beside those of the mesh and of proxies: backends
/// that make variables of names (CGI, WSGI) take the two for one.
const NO_SECOND_SPELLING: &[&str] = &[
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What stands in a head, found in one pass over its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    bits: u32,
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
    pub const COOKIE: Self = Self { bits: 1 << 11 };
    /// What proxies tell of callers.
    pub const FORWARDING: Self = Self { bits: 1 << 12 };
    /// A name with `_`.
    pub const UNDERSCORE: Self = Self { bits: 1 << 13 };
    /// A name with `_` that could be taken for one that counts.
    pub const SECOND_SPELLING: Self = Self { bits: 1 << 14 };

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
                "cookie" => Self::COOKIE,
                _ => Self::by_spelling(name),
            };
            bits |= found.bits;
        }
        Self { bits }
    }

    fn by_spelling(name: &str) -> Self {
        if name.as_bytes().contains(&b'_') {
            let dashed = name.replace('_', "-");
            let counts = is_identity(&dashed)
                || is_forwarding(&dashed)
                || NO_SECOND_SPELLING.contains(&dashed.as_str());
            return if counts { Self::SECOND_SPELLING } else { Self::UNDERSCORE };
        }
        match name.as_bytes() {
            [b'x', b'-', ..] if name.starts_with(INTERNAL_PREFIX) => Self::INTERNAL,
            [b'x', b'-', ..] | [b'f', ..] if is_forwarding(name) => Self::FORWARDING,
            _ => Self::default(),
        }
    }

    /// Whether it was found.
    pub fn has(self, what: Self) -> bool {
        self.bits & what.bits != 0
    }
}

/// A `Connection` header that names what must not be taken off, or nothing that is a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionFault;

/// Takes off what concerns one connection only (RFC 9110 section 7.6.1), including what
/// `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, found: Found) -> Result<(), ConnectionFault> {
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

/// Whether a header that must have one value has several.
pub fn repeats_single(headers: &HeaderMap) -> bool {
    headers.len() > headers.keys_len()
        && SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some())
}

/// Takes off blanks around values, which HTTP/1.1 has taken off when it read them. HTTP/2 forbids
/// them (RFC 9113 section 8.2.1), and not all that read requests behind us take them off.
pub fn trim_values(headers: &mut HeaderMap) {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    for value in headers.values_mut() {
        let bytes = value.as_bytes();
        if (is_blank(bytes.first()) || is_blank(bytes.last()))
            && let Ok(trimmed) = HeaderValue::from_bytes(bytes.trim_ascii())
        {
            *value = trimmed;
        }
    }
}

/// Adds this proxy to those that the message came by (RFC 9110 section 7.6.3).
pub fn add_via(headers: &mut HeaderMap, version: Version, name: &str) {
    let version = match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    if let Ok(value) = HeaderValue::try_from(format!("{version} {name}")) {
        headers.append(VIA, value);
    }
}

/// What every hop needs, or what tells who somebody is.
fn is_for_all_hops(name: &HeaderName) -> bool {
    [AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING]
        .contains(name)
        || is_identity(name.as_str())
        || is_forwarding(name.as_str())
}

fn strip_listed(headers: &mut HeaderMap) -> Result<(), ConnectionFault> {
    let ordinary = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
    };
    let mut listed = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in tokens(value).filter(|token| !ordinary(token)) {
            let name = HeaderName::from_bytes(token).map_err(|_| ConnectionFault)?;
            if is_for_all_hops(&name) {
                return Err(ConnectionFault);
            }
            listed.push(name);
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

/// Bytes of all cookies, as one line.
pub fn cookie_bytes(headers: &HeaderMap) -> usize {
    headers.get_all(COOKIE).iter().map(|piece| piece.len() + 2).sum()
}

/// Makes one line of the cookies that an HTTP/2 caller may send in pieces (RFC 9113 section 8.2.3),
/// and that an HTTP/1.1 caller should not: what reads them behind us knows only one.
pub fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return;
    }
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
    fn connection_cannot_take_off_what_every_hop_needs() {
        for listed in
            ["Host", "x, X-Forwarded-For", "Authorization", "x-segue-session", ":authority", "a b"]
        {
            let mut map = headers(&[("connection", listed), ("host", "chat")]);
            let found = Found::scan(&map);
            assert_eq!(strip_hop_by_hop(&mut map, found), Err(ConnectionFault), "{listed}");
        }
    }

    #[test]
    fn names_are_known_in_their_second_spelling() {
        let found = |name| Found::scan(&headers(&[(name, "1")]));
        for reserved in ["x_segue_session", "x-segue_session", "content_length", "x_forwarded_for"]
        {
            assert!(found(reserved).has(Found::SECOND_SPELLING), "{reserved}");
        }
        assert!(found("client_id").has(Found::UNDERSCORE));
        for forwarding in ["forwarded", "x-forwarded-for", "x-envoy-internal", "x-real-ip"] {
            assert!(found(forwarding).has(Found::FORWARDING), "{forwarding}");
        }
        assert_eq!(found("x-user"), Found::default());
    }

    #[test]
    fn a_single_value_is_not_repeated() {
        assert!(repeats_single(&headers(&[("authorization", "a"), ("authorization", "a")])));
        assert!(!repeats_single(&headers(&[("accept", "a"), ("accept", "b"), ("range", "c")])));
    }

    #[test]
    fn values_lose_the_blanks_around_them() {
        let mut map = headers(&[("a", " 1\t"), ("b", "1 2"), ("c", ""), ("d", " ")]);
        trim_values(&mut map);
        assert_eq!(map, headers(&[("a", "1"), ("b", "1 2"), ("c", ""), ("d", "")]));
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
