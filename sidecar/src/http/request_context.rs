//! The door: what a request must be before anything looks at it, and what it says about itself.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use segue_sidecar_core::canonical::{CanonHost, CanonPath, EscapedSlashes};
use segue_sidecar_core::snapshot::ClusterIndex;
use tokio::time::Instant;

use super::caller::{Caller, Door};
use super::headers::{self, Found};
use super::respond::Reject;
use crate::body::RequestBody;

/// Longest request target.
const MOST_URI_BYTES: usize = 8 * 1024;
const MOST_HEADERS: usize = 100;
/// Cookies of a request, which may come in many pieces that are cheap to send.
const MOST_COOKIE_BYTES: usize = 16 * 1024;

/// What is known of a valid request.
#[derive(Debug)]
pub struct RequestContext {
    /// When it came.
    pub arrival: Instant,
    /// Whom it is for, in the one spelling that is matched and forwarded.
    pub authority: CanonHost,
    /// What it is for, likewise.
    pub path: CanonPath,
    /// Whether it is gRPC, whose callers read `grpc-status`.
    pub grpc: bool,
    /// Whether the caller takes trailers.
    pub wants_trailers: bool,
    /// Whether what follows on the connection may be no request: the caller asked for another
    /// protocol, and may speak it already without waiting for the answer (CVE-2026-73548).
    pub is_last: bool,
    /// The cluster that was chosen, once one was.
    pub chosen: Option<ClusterIndex>,
}

/// Whether a request's caller reads `grpc-status`.
pub fn is_grpc(parts: &Parts) -> bool {
    let content_type = parts.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Checks a head and makes it canonical: one authority, one kind of framing, one path, and nothing
/// that concerns only the caller's connection, that only the mesh may say, or that only a proxy which
/// we trust may tell. The target moves from the head into the context.
pub fn admit(
    parts: &mut Parts,
    body: &RequestBody,
    caller: &Caller,
    escaped_slashes: EscapedSlashes,
) -> Result<RequestContext, Reject> {
    let arrival = Instant::now();
    check_method(&parts.method)?;
    if parts.headers.len() > MOST_HEADERS {
        return Err(Reject::TooLong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let found = Found::scan(&parts.headers);
    check_framing(parts, found)?;
    let authority = take_authority(parts, found)?;
    let path = take_path(&mut parts.uri, escaped_slashes)?;
    check_names(&parts.headers, found, &caller.door)?;
    let wants_trailers = found.has(Found::TE) && headers::wants_trailers(&parts.headers);
    headers::strip_hop_by_hop(&mut parts.headers, found)
        .map_err(|_| Reject::BadRequest("Connection must not name what every hop needs"))?;
    if found.has(Found::EXPECT) {
        let expected = parts.headers.remove(EXPECT);
        if !expected.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Err(Reject::ExpectationFailed);
        }
    }
    if found.has(Found::PROXY_AUTHORIZATION) {
        parts.headers.remove(http::header::PROXY_AUTHORIZATION);
    }
    if found.has(Found::INTERNAL) {
        headers::strip_internal(&mut parts.headers);
    }
    if parts.version == Version::HTTP_2 {
        headers::trim_values(&mut parts.headers);
    }
    if found.has(Found::COOKIE) {
        if headers::cookie_bytes(&parts.headers) > MOST_COOKIE_BYTES {
            return Err(Reject::TooLong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        headers::join_cookies(&mut parts.headers);
    }
    caller.peer.sign(&mut parts.headers, found.has(Found::FORWARDING));
    if let Some(name) = &caller.door.via {
        headers::add_via(&mut parts.headers, parts.version, name);
    }
    let states_length = found.has(Found::CONTENT_LENGTH);
    if body.is_empty() && !states_length && expects_body(&parts.method) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(RequestContext {
        arrival,
        authority,
        path,
        grpc: is_grpc(parts),
        wants_trailers,
        is_last: found.has(Found::UPGRADE) && parts.version != Version::HTTP_2,
        chosen: None,
    })
}

fn check_method(method: &Method) -> Result<(), Reject> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Reject::MethodNotAllowed);
    }
    Ok(())
}

fn expects_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// Names that two who read the request could take for different ones, and values of which they could
/// take different ones.
fn check_names(headers: &HeaderMap, found: Found, door: &Door) -> Result<(), Reject> {
    if found.has(Found::SECOND_SPELLING) || (found.has(Found::UNDERSCORE) && !door.underscores) {
        return Err(Reject::BadRequest("names of headers must not hold an underscore"));
    }
    if headers::repeats_single(headers) {
        return Err(Reject::BadRequest("a header that must have one value has several"));
    }
    Ok(())
}

/// RFC 9112 section 6: two answers to "how long is the body" are none.
fn check_framing(parts: &Parts, found: Found) -> Result<(), Reject> {
    if found.has(Found::TRANSFER_ENCODING) {
        if found.has(Found::CONTENT_LENGTH) {
            return Err(Reject::BadRequest("Content-Length beside Transfer-Encoding"));
        }
        let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
        let only = (codings.next(), codings.next());
        if !matches!(only, (Some(coding), None)
            if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        {
            return Err(Reject::BadRequest("Transfer-Encoding must be chunked and nothing else"));
        }
        if parts.version < Version::HTTP_11 {
            return Err(Reject::BadRequest("Transfer-Encoding in HTTP/1.0"));
        }
    }
    if found.has(Found::CONTENT_LENGTH) {
        let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
        let only = (lengths.next(), lengths.next());
        if !matches!(only, (Some(length), None)
            if !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit))
        {
            return Err(Reject::BadRequest("Content-Length must be one number"));
        }
    }
    Ok(())
}

/// The one authority of a request. An absolute target wins over `Host` in HTTP/1.1 (RFC 9112
/// section 3.2.2); in HTTP/2 the two must agree.
fn take_authority(parts: &mut Parts, found: Found) -> Result<CanonHost, Reject> {
    const INVALID: Reject = Reject::BadRequest("exactly one valid Host is needed");
    let default_port = default_port(&parts.uri)?;
    let canonical = |value| CanonHost::of(value, default_port).map_err(|_| INVALID);
    let mut host = None;
    if found.has(Found::HOST) {
        let mut lines = parts.headers.get_all(HOST).iter();
        host = lines.next().cloned().map(canonical).transpose()?;
        if lines.next().is_some() {
            return Err(INVALID);
        }
    }
    let Some(authority) = parts.uri.authority() else {
        let host = host.ok_or(INVALID)?;
        if parts.headers.get(HOST) != Some(host.value()) {
            parts.headers.insert(HOST, host.value().clone());
        }
        return Ok(host);
    };
    // `GET admin HTTP/1.1` is read as an authority without a scheme: not a target for a proxy.
    if parts.uri.scheme().is_none() {
        return Err(Reject::BadRequest("the request target must begin with a slash"));
    }
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| INVALID)?;
    let authority = canonical(value)?;
    if parts.version == Version::HTTP_2 && host.is_some_and(|host| !host.is(&authority)) {
        return Err(Reject::BadRequest("Host differs from :authority"));
    }
    parts.headers.insert(HOST, authority.value().clone());
    Ok(authority)
}

fn default_port(uri: &Uri) -> Result<u16, Reject> {
    match uri.scheme() {
        None => Ok(80),
        Some(scheme) if *scheme == Scheme::HTTP => Ok(80),
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(443),
        Some(_) => Err(Reject::BadRequest("the scheme must be http or https")),
    }
}

fn take_path(uri: &mut Uri, escaped_slashes: EscapedSlashes) -> Result<CanonPath, Reject> {
    let target = std::mem::take(uri).into_parts().path_and_query;
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if target.as_str().len() > MOST_URI_BYTES {
        return Err(Reject::TooLong(StatusCode::URI_TOO_LONG));
    }
    CanonPath::of(target, escaped_slashes).map_err(|fault| Reject::BadRequest(fault.reason()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use segue_sidecar_core::canonical::{Peer, Trust};

    use super::*;
    use crate::http::caller::Direction;

    fn admitted(request: http::request::Builder) -> Result<(Parts, RequestContext), Reject> {
        admitted_by(&Door::default(), request)
    }

    fn admitted_by(
        door: &Door,
        request: http::request::Builder,
    ) -> Result<(Parts, RequestContext), Reject> {
        let peer = Peer::new([10, 0, 0, 7].into(), "http", Trust::Edge, door.tells);
        let door = Arc::new(door.clone());
        let caller =
            Caller { direction: Direction::Inbound, peer, door, original: None, identity: None };
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let slashes = caller.door.escaped_slashes;
        let context = admit(&mut parts, &RequestBody::Empty, &caller, slashes)?;
        Ok((parts, context))
    }

    #[test]
    fn exactly_one_valid_host_is_needed() {
        let ask = || Request::builder().uri("/");
        assert!(admitted(ask()).is_err());
        assert!(admitted(ask().header("host", "a").header("host", "a")).is_err());
        for bad in ["", "a b", "a/b", "u@a", "a:b:c"] {
            assert!(admitted(ask().header("host", bad)).is_err(), "{bad}");
        }
        for (good, canonical) in [
            ("chat", "chat"),
            ("Chat.default.", "chat.default"),
            ("chat:80", "chat"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            let (parts, context) = admitted(ask().header("host", good)).unwrap();
            assert_eq!(context.authority.as_str(), canonical);
            assert_eq!(parts.headers[HOST], canonical);
        }
    }

    #[test]
    fn an_absolute_target_wins_over_the_host() {
        let ask = Request::builder().uri("http://chat/a?b").header("host", "evil");
        let (parts, context) = admitted(ask).unwrap();
        assert_eq!(context.path.target(), "/a?b");
        assert_eq!((context.authority.as_str(), &parts.headers[HOST] == "chat"), ("chat", true));
        let bare = Request::builder().uri("http://chat").header("host", "chat");
        assert_eq!(admitted(bare).unwrap().1.path.target(), "/");
        let secure = Request::builder().uri("https://chat:443/").header("host", "chat");
        assert_eq!(admitted(secure).unwrap().1.authority.as_str(), "chat");
        let odd = Request::builder().uri("ftp://chat/").header("host", "chat");
        assert!(admitted(odd).is_err());
    }

    #[test]
    fn http2_host_and_authority_must_agree() {
        let ask = |host| {
            Request::builder().version(Version::HTTP_2).uri("http://chat/").header("host", host)
        };
        for same in ["chat", "CHAT", "chat.", "chat:80"] {
            assert!(admitted(ask(same)).is_ok(), "{same}");
        }
        assert!(admitted(ask("evil")).is_err());
        assert!(admitted(ask("chat").header("host", "chat")).is_err());
    }

    #[test]
    fn the_path_is_canonical_before_anybody_looks_at_it() {
        let ask = |path: &str| Request::builder().uri(path).header("host", "chat");
        assert_eq!(admitted(ask("/a/..;x/%61dmin?q")).unwrap().1.path.target(), "/admin?q");
        assert!(admitted(ask("/a%2fb")).is_err());
        let door = Door { escaped_slashes: EscapedSlashes::Keep, ..Door::default() };
        assert_eq!(admitted_by(&door, ask("/a%2fb")).unwrap().1.path.target(), "/a%2Fb");
    }

    #[test]
    fn names_and_values_have_one_meaning() {
        let ask = |name: &str| Request::builder().uri("/").header("host", "chat").header(name, "1");
        assert!(admitted(ask("client_id")).is_err());
        assert!(admitted(ask("authorization").header("authorization", "1")).is_err());
        let door = Door { underscores: true, ..Door::default() };
        assert!(admitted_by(&door, ask("client_id")).is_ok());
        assert!(admitted_by(&door, ask("x_segue_session")).is_err());
    }

    #[test]
    fn cookies_become_one_line_that_is_not_too_long() {
        let ask = || Request::builder().uri("/").header("host", "chat").header("cookie", "a=1");
        let (parts, _) = admitted(ask().header("cookie", "b=2")).unwrap();
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
        let long = admitted(ask().header("cookie", "c".repeat(16 * 1024)));
        assert_eq!(long.unwrap_err(), Reject::TooLong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }

    #[test]
    fn the_door_tells_who_called() {
        let ask = Request::builder().uri("/").header("host", "chat");
        let ask = ask.header("x-forwarded-for", "6.6.6.6").header("via", "1.1 other");
        let door = Door { via: Some("segue".to_owned()), ..Door::default() };
        let (parts, _) = admitted_by(&door, ask).unwrap();
        assert_eq!(parts.headers["x-forwarded-for"], "10.0.0.7");
        let via: Vec<_> = parts.headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.1 other", "1.1 segue"]);
    }

    #[test]
    fn targets_begin_with_a_slash() {
        for bad in ["admin", "*"] {
            let ask = Request::builder().uri(bad).header("host", "chat");
            assert!(admitted(ask).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_lengths_are_none() {
        let ask = || Request::builder().method("POST").uri("/").header("host", "chat");
        assert!(
            admitted(ask().header("content-length", "1").header("transfer-encoding", "chunked"))
                .is_err()
        );
        assert!(admitted(ask().header("transfer-encoding", "identity, chunked")).is_err());
        assert!(admitted(ask().header("content-length", "1, 1")).is_err());
        assert!(admitted(ask().header("content-length", "+1")).is_err());
        assert!(admitted(ask().header("expect", "the-best")).is_err());
        assert_eq!(admitted(ask()).unwrap().0.headers[CONTENT_LENGTH], "0");
    }

    #[test]
    fn tunnels_and_traces_are_refused() {
        for method in ["CONNECT", "TRACE"] {
            let ask = Request::builder().method(method).uri("http://chat/").header("host", "chat");
            assert_eq!(admitted(ask).unwrap_err(), Reject::MethodNotAllowed);
        }
    }
}
