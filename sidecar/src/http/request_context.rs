//! The door: what a request must be before anything looks at it, and what it says about itself.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::headers::{self, Found};
use super::respond::Reject;
use crate::body::RequestBody;

/// Longest request target.
const MOST_URI_BYTES: usize = 8 * 1024;
const MOST_HEADERS: usize = 100;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the local application.
    Outbound,
    /// For the local application.
    Inbound,
}

/// What is known of a valid request.
#[derive(Debug)]
pub struct RequestContext {
    /// When it came.
    pub arrival: Instant,
    /// Whom it is for, as the caller wrote it.
    pub authority: HeaderValue,
    /// Whether it is gRPC, whose callers read `grpc-status`.
    pub grpc: bool,
    /// Whether the caller takes trailers.
    pub wants_trailers: bool,
}

/// Whether a request's caller reads `grpc-status`.
pub fn is_grpc(parts: &Parts) -> bool {
    let content_type = parts.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Checks a head and makes it canonical: one authority, one kind of framing, a path in origin form,
/// and nothing that concerns only the caller's connection or that only the mesh may say.
pub fn admit(parts: &mut Parts, body: &RequestBody) -> Result<RequestContext, Reject> {
    let arrival = Instant::now();
    check_method(&parts.method)?;
    if parts.headers.len() > MOST_HEADERS {
        return Err(Reject::TooLong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let found = Found::scan(&parts.headers);
    check_framing(parts, found)?;
    let authority = take_authority(parts, found)?;
    check_target(&parts.uri)?;
    let wants_trailers = found.has(Found::TE) && headers::wants_trailers(&parts.headers);
    headers::strip_hop_by_hop(&mut parts.headers, found)
        .map_err(|_| Reject::BadRequest("Connection must not name Host or Content-Length"))?;
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
        headers::join_cookies(&mut parts.headers);
    }
    let states_length = found.has(Found::CONTENT_LENGTH);
    if body.is_empty() && !states_length && expects_body(&parts.method) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(RequestContext { arrival, authority, grpc: is_grpc(parts), wants_trailers })
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
fn take_authority(parts: &mut Parts, found: Found) -> Result<HeaderValue, Reject> {
    const INVALID: Reject = Reject::BadRequest("exactly one valid Host is needed");
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = if found.has(Found::HOST) { hosts.next() } else { None };
    if host.is_some() && hosts.next().is_some() {
        return Err(INVALID);
    }
    if host.is_some_and(|host| !is_authority(host.as_bytes())) {
        return Err(INVALID);
    }
    let Some(authority) = parts.uri.authority() else {
        return host.cloned().ok_or(INVALID);
    };
    // `GET admin HTTP/1.1` is read as an authority without a scheme: not a target for a proxy.
    if parts.uri.scheme().is_none() {
        return Err(Reject::BadRequest("the request target must begin with a slash"));
    }
    if !is_authority(authority.as_str().as_bytes()) {
        return Err(INVALID);
    }
    if parts.version == Version::HTTP_2
        && host.is_some_and(|host| {
            !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        })
    {
        return Err(Reject::BadRequest("Host differs from :authority"));
    }
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| INVALID)?;
    let target = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    parts.headers.insert(HOST, value.clone());
    Ok(value)
}

fn check_target(uri: &Uri) -> Result<(), Reject> {
    let Some(target) = uri.path_and_query() else {
        return Err(Reject::BadRequest("the request target must begin with a slash"));
    };
    if !target.as_str().starts_with('/') {
        return Err(Reject::BadRequest("the request target must begin with a slash"));
    }
    if target.as_str().len() > MOST_URI_BYTES {
        return Err(Reject::TooLong(StatusCode::URI_TOO_LONG));
    }
    Ok(())
}

/// A host with an optional port and nothing else: no user, no path, no blank.
fn is_authority(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    !bytes.is_empty() && bytes.iter().all(plain) && Authority::try_from(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn admitted(request: http::request::Builder) -> Result<(Parts, RequestContext), Reject> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let context = admit(&mut parts, &RequestBody::Empty)?;
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
        for good in ["chat", "Chat.default", "chat:80", "127.0.0.1:1", "[::1]:80"] {
            assert_eq!(admitted(ask().header("host", good)).unwrap().1.authority, good);
        }
    }

    #[test]
    fn an_absolute_target_wins_over_the_host() {
        let ask = Request::builder().uri("http://chat/a?b").header("host", "evil");
        let (parts, context) = admitted(ask).unwrap();
        assert_eq!(
            (parts.uri.to_string().as_str(), &parts.headers[HOST]),
            ("/a?b", &context.authority)
        );
        assert_eq!(context.authority, "chat");
    }

    #[test]
    fn http2_host_and_authority_must_agree() {
        let ask = |host| {
            Request::builder().version(Version::HTTP_2).uri("http://chat/").header("host", host)
        };
        assert!(admitted(ask("chat")).is_ok());
        assert!(admitted(ask("evil")).is_err());
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
