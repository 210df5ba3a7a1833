//! `CONNECT` over HTTP/1.1: how an application reaches a service of protocol `tcp` by name, through
//! the outbound listener as its proxy (RFC 9110 section 9.3.6).

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request};
use segue_sidecar_core::canonical::CanonHost;
use segue_sidecar_core::routing::Wanted;

use super::caller::{Caller, Direction};
use super::respond::Reject;
use crate::tcp::{self, Passage};
use crate::worker::Worker;

/// Whether a request is for here.
pub fn is_meant<B>(caller: &Caller, request: &Request<B>) -> bool {
    caller.direction == Direction::Outbound && *request.method() == Method::CONNECT
}

/// Opens the way that a request asks for.
pub async fn open<B>(worker: &Worker, request: &Request<B>) -> Result<Passage, Reject> {
    let (host, port) = target(request)?;
    let wanted = Wanted { name: Some(host.name()), port: Some(port), ..Wanted::default() };
    match tcp::open(worker, wanted).await {
        None => Err(Reject::MethodNotAllowed),
        Some(opened) => opened.map_err(Reject::from),
    }
}

/// The authority of the target counts (RFC 9112 section 3.2.3). `Host` must be one that says the
/// same, as far as it is there.
fn target<B>(request: &Request<B>) -> Result<(CanonHost, u16), Reject> {
    const INVALID: Reject = Reject::BadRequest("CONNECT needs a host and a port");
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Reject::BadRequest("CONNECT has no body"));
    }
    let uri = request.uri();
    let authority = uri.authority().filter(|_| uri.scheme().is_none()).ok_or(INVALID)?;
    let port = authority.port_u16().filter(|port| *port > 0).ok_or(INVALID)?;
    let canonical = |value| CanonHost::of(value, 0).map_err(|_| INVALID);
    let named = canonical(HeaderValue::from_str(authority.as_str()).map_err(|_| INVALID)?)?;
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().cloned().map(canonical).transpose()?;
    if hosts.next().is_some() || host.is_some_and(|host| host.name() != named.name()) {
        return Err(Reject::BadRequest("Host differs from the target of CONNECT"));
    }
    Ok((named, port))
}
