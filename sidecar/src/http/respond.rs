//! Answers of our own: refusals, redirects, and fixed bodies.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use segue_sidecar_core::canonical::CanonPath;
use segue_sidecar_core::snapshot::{DirectResponse, PathRewrite, Redirect};

use crate::tcp::Refusal;

use super::body::ResponseSource;

/// Why a request got no answer from an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The request itself is not valid; says what is.
    BadRequest(&'static str),
    /// The target or the head is longer than allowed.
    TooLong(StatusCode),
    /// `CONNECT` and `TRACE` are not for this port.
    MethodNotAllowed,
    /// Only `100-continue` can be expected.
    ExpectationFailed,
    /// The caller's body broke off or was malformed.
    BadBody,
    /// The caller's body did not come on.
    SlowBody,
    /// No configuration has arrived yet.
    NoConfiguration,
    /// No route matches.
    NoRoute,
    /// The version has no endpoint.
    NoEndpoint,
    /// The caps of the cluster are reached.
    Overflow,
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// The upstream closed the connection before it answered.
    UpstreamClosed,
    /// The upstream's answer is not valid.
    UpstreamMalformed,
    /// The upstream speaks HTTP/2 without WebSocket (RFC 8441).
    NoWebSocket,
    /// The route's time is over.
    Timeout,
    /// Memory is short.
    Overloaded,
    /// The request met a fault that is made on purpose, with this status.
    Fault(StatusCode),
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoute => Self::NoRoute,
            Refusal::NoEndpoint => Self::NoEndpoint,
            Refusal::Overflow => Self::Overflow,
            Refusal::ConnectFailed => Self::ConnectFailed,
        }
    }
}

/// All of them; a new one belongs here.
const ALL: [Reject; 17] = [
    Reject::BadRequest("what is wrong"),
    Reject::TooLong(StatusCode::URI_TOO_LONG),
    Reject::MethodNotAllowed,
    Reject::ExpectationFailed,
    Reject::BadBody,
    Reject::SlowBody,
    Reject::NoConfiguration,
    Reject::NoRoute,
    Reject::NoEndpoint,
    Reject::Overflow,
    Reject::ConnectFailed,
    Reject::UpstreamClosed,
    Reject::UpstreamMalformed,
    Reject::NoWebSocket,
    Reject::Timeout,
    Reject::Overloaded,
    Reject::Fault(StatusCode::SERVICE_UNAVAILABLE),
];

/// Envoy's word for a reason that something was refused or given up.
pub fn flag_of(reason: &str) -> &'static str {
    match reason {
        "send_blocked" => "SI",
        "keepalive" => "DC",
        "fault_delay" => "DI",
        "http2_flood" | "http2_resets" => "DPE",
        other => ALL.into_iter().find(|it| it.reason() == other).map_or("", Reject::flag),
    }
}

/// What a 405 says may be used; others pass as well, where the upstream knows them.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Caller,
    Sidecar,
    Upstream,
}

impl Reject {
    /// The status that the caller sees.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::TooLong(status) | Self::Fault(status) => status,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoConfiguration
            | Self::NoEndpoint
            | Self::Overflow
            | Self::ConnectFailed
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamClosed | Self::UpstreamMalformed | Self::NoWebSocket => {
                StatusCode::BAD_GATEWAY
            }
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for machines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::TooLong(_) => "too_long",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::BadBody => "bad_body",
            Self::SlowBody => "slow_body",
            Self::NoConfiguration => "no_configuration",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::NoWebSocket => "upstream_no_websocket",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Fault(_) => "fault_abort",
        }
    }

    /// Envoy's word for it in access logs.
    pub fn flag(self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::TooLong(_)
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::BadBody => "DPE",
            Self::SlowBody => "SI",
            Self::NoConfiguration | Self::NoRoute => "NR",
            Self::NoEndpoint => "UH",
            Self::Overflow => "UO",
            Self::ConnectFailed => "UF",
            Self::UpstreamClosed => "UC",
            Self::UpstreamMalformed | Self::NoWebSocket => "UPE",
            Self::Timeout => "UT",
            Self::Overloaded => "OM",
            Self::Fault(_) => "FI",
        }
    }

    /// A sentence for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(what) => what,
            Self::TooLong(_) => "the request's head is too long",
            Self::MethodNotAllowed => "this method is not served here",
            Self::ExpectationFailed => "only 100-continue can be expected",
            Self::BadBody => "the request's body broke off or is malformed",
            Self::SlowBody => "the request's body came too slowly",
            Self::NoConfiguration => "no configuration has arrived from the control plane yet",
            Self::NoRoute => "no route matches this host and request",
            Self::NoEndpoint => "the version that was chosen has no endpoint",
            Self::Overflow => "the version that was chosen has as many requests as it may",
            Self::ConnectFailed => "no endpoint accepted a connection",
            Self::UpstreamClosed => "the upstream closed the connection before it answered",
            Self::UpstreamMalformed => "the upstream's answer is not valid",
            Self::NoWebSocket => "the upstream speaks HTTP/2, and takes no WebSocket over it",
            Self::Timeout => "the upstream did not answer in the time that the route allows",
            Self::Overloaded => "this proxy is short of memory",
            Self::Fault(_) => "a fault is made on purpose",
        }
    }

    /// Who is at fault.
    pub fn origin(self) -> Origin {
        match self {
            Self::BadRequest(_)
            | Self::TooLong(_)
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::BadBody
            | Self::SlowBody
            | Self::NoRoute => Origin::Caller,
            Self::NoConfiguration | Self::Overflow | Self::Overloaded | Self::Fault(_) => {
                Origin::Sidecar
            }
            Self::NoEndpoint
            | Self::ConnectFailed
            | Self::UpstreamClosed
            | Self::UpstreamMalformed
            | Self::NoWebSocket
            | Self::Timeout => Origin::Upstream,
        }
    }

    /// Whether no upstream has seen the request, so that the caller may safely send it again.
    pub fn retry_safe(self) -> bool {
        matches!(
            self,
            Self::NoConfiguration
                | Self::NoEndpoint
                | Self::Overflow
                | Self::ConnectFailed
                | Self::Overloaded
                | Self::Fault(_)
        )
    }

    /// Whether bytes that follow on the connection cannot be trusted.
    pub fn closes_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::TooLong(_)
                | Self::MethodNotAllowed
                | Self::BadBody
                | Self::SlowBody
                | Self::ExpectationFailed
        )
    }

    fn grpc_status(self) -> &'static str {
        match self {
            Self::NoRoute | Self::MethodNotAllowed => "12",
            Self::Timeout => "4",
            Self::Overflow | Self::TooLong(_) => "8",
            Self::BadRequest(_) | Self::BadBody | Self::ExpectationFailed => "13",
            _ => "14",
        }
    }

    /// The answer: problem details (RFC 9457), or what gRPC clients understand.
    pub fn respond(self, grpc: bool) -> Response<ResponseSource> {
        if grpc {
            return self.respond_grpc();
        }
        let (status, reason) = (self.status(), self.reason());
        let origin = match self.origin() {
            Origin::Caller => "caller",
            Origin::Sidecar => "sidecar",
            Origin::Upstream => "upstream",
        };
        let body = format!(
            r#"{{"type":"urn:segue:problem:{reason}","title":"{}","status":{},"detail":"{}","reason":"{reason}","origin":"{origin}","retrySafe":{}}}"#,
            status.canonical_reason().unwrap_or_default(),
            status.as_u16(),
            self.detail(),
            self.retry_safe(),
        );
        let mut response = Response::new(ResponseSource::Whole(Some(Bytes::from(body))));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self == Self::MethodNotAllowed {
            // RFC 9110 section 15.5.6 asks for it.
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        response
    }

    fn respond_grpc(self) -> Response<ResponseSource> {
        let mut response = Response::new(ResponseSource::Empty);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(self.grpc_status()));
        headers.insert("grpc-message", HeaderValue::from_static(self.detail()));
        response
    }
}

/// A fixed answer of a route.
pub fn direct(direct: &DirectResponse) -> Response<ResponseSource> {
    let body = if direct.body.is_empty() {
        ResponseSource::Empty
    } else {
        ResponseSource::Whole(Some(Bytes::copy_from_slice(&direct.body)))
    };
    let mut response = Response::new(body);
    *response.status_mut() = direct.status;
    response
}

/// The answer that sends the caller elsewhere. `prefix` is what the route's path matched.
pub fn redirect(
    redirect: &Redirect,
    authority: &str,
    path: &CanonPath,
    prefix: Option<&str>,
) -> Response<ResponseSource> {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let (host, own_port) = split_port(authority);
    let moved = redirect.scheme.is_some() || redirect.host.is_some();
    let mut location = format!("{scheme}://{}", redirect.host.as_deref().unwrap_or(host));
    let own_port = own_port.filter(|_| !moved).map(str::to_owned);
    if let Some(port) = redirect.port.map(|port| port.to_string()).or(own_port) {
        location.push(':');
        location.push_str(&port);
    }
    match &redirect.path {
        Some(rewrite) => location.push_str(&rewritten_path(rewrite, path, prefix)),
        None => location.push_str(path.path()),
    }
    if let Some(query) = path.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(ResponseSource::Empty);
    *response.status_mut() = redirect.status;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A path after a route's rewrite. `prefix` is what the route's path matched.
pub fn rewritten_path(rewrite: &PathRewrite, path: &CanonPath, prefix: Option<&str>) -> String {
    match rewrite {
        PathRewrite::Full(full) => full.to_string(),
        PathRewrite::Prefix(new) => {
            let rest = prefix.and_then(|prefix| path.after(prefix)).unwrap_or_default();
            let new = if rest.starts_with('/') { new.trim_end_matches('/') } else { new };
            let slash = if new.ends_with('/') || rest.is_empty() || rest.starts_with('/') {
                ""
            } else {
                "/"
            };
            match format!("{new}{slash}{rest}") {
                empty if empty.is_empty() => "/".to_owned(),
                whole => whole,
            }
        }
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;
    use segue_sidecar_core::canonical::EscapedSlashes;

    use super::*;

    fn path(text: &'static str) -> CanonPath {
        CanonPath::of(PathAndQuery::from_static(text), EscapedSlashes::Reject).unwrap()
    }

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        let rewrite = |new: &str, prefix, from| {
            rewritten_path(&PathRewrite::Prefix(new.into()), &path(from), Some(prefix))
        };
        assert_eq!(rewrite("/v2", "/v1", "/v1;a=b/users;c"), "/v2/users;c");
        assert_eq!(rewrite("/v2", "/v1", "/v1/users"), "/v2/users");
        assert_eq!(rewrite("/", "/v1", "/v1/users"), "/users");
        assert_eq!(rewrite("/", "/v1", "/v1"), "/");
        assert_eq!(rewrite("/v2/", "/v1/", "/v1/users"), "/v2/users");
        assert_eq!(rewrite("/v2", "/v1/", "/v1/users"), "/v2/users");
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        let to = Redirect {
            status: StatusCode::FOUND,
            scheme: None,
            host: None,
            port: None,
            path: None,
        };
        let location = |to: &Redirect| {
            let answer = redirect(to, "chat:8080", &path("/a?b=c"), None);
            answer.headers()[LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(location(&to), "http://chat:8080/a?b=c");
        let to = Redirect { scheme: Some("https".into()), ..to };
        assert_eq!(location(&to), "https://chat/a?b=c");
        let to = Redirect { host: Some("new".into()), port: Some(1), ..to };
        assert_eq!(location(&to), "https://new:1/a?b=c");
    }

    #[test]
    fn every_refusal_says_what_it_is_in_the_callers_words() {
        let mut reasons: Vec<&str> = ALL.iter().map(|reject| reject.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), ALL.len());
        for reject in ALL {
            let answer = reject.respond(false);
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
            let ResponseSource::Whole(Some(body)) = answer.body() else { unreachable!() };
            let problem: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(problem["reason"], reject.reason());
            assert_eq!(problem["status"], answer.status().as_u16());
            assert!(answer.status().is_client_error() || answer.status().is_server_error());
            let answer = reject.respond(true);
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
            assert!(answer.headers()["grpc-status"] != "0");
        }
        assert!(Reject::MethodNotAllowed.respond(false).headers().contains_key(ALLOW));
    }

    #[test]
    fn grpc_callers_get_a_status_that_they_understand() {
        let answer = Reject::ConnectFailed.respond(true);
        assert_eq!(
            (answer.status(), &answer.headers()["grpc-status"]),
            (StatusCode::OK, &"14".parse().unwrap())
        );
    }
}
