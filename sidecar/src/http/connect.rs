//! `CONNECT` over HTTP/1.1: how an application reaches a service of protocol `tcp` by name, through
//! the outbound listener as its proxy (RFC 9110 section 9.3.6).

use std::rc::Rc;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request};
use segue_sidecar_core::canonical::CanonHost;
use segue_sidecar_core::routing::Wanted;
use tracing::debug;

use super::caller::{Caller, Direction};
use super::pipeline;
use super::respond::Reject;
use super::server_http1::{respond, uncut};
use crate::http1::{ServerBody, ServerConnection};
use crate::listener::ConnectionWatch;
use crate::tcp;
use crate::worker::Worker;

/// Whether a request is for here.
pub fn is_meant<B>(caller: &Caller, request: &Request<B>) -> bool {
    caller.direction == Direction::Outbound && *request.method() == Method::CONNECT
}

/// Serves the last request of a connection, to the end of the tunnel that it opens. Bytes that the
/// caller sent behind it go through once there is one, and nowhere where there is none.
pub async fn serve(
    worker: &Worker,
    mut connection: ServerConnection,
    request: &Request<Option<ServerBody>>,
    watch: &Rc<ConnectionWatch>,
) {
    let opened = match target(request) {
        Ok((host, port)) => {
            let wanted = Wanted { name: Some(host.name()), port: Some(port), ..Wanted::default() };
            match uncut(tcp::open(worker, wanted), watch).await {
                None => return,
                Some(None) => Err(Reject::MethodNotAllowed),
                Some(Some(opened)) => opened.map_err(Reject::from),
            }
        }
        Err(reject) => Err(reject),
    };
    let mut passage = match opened {
        Ok(passage) => passage,
        Err(reject) => {
            let response = pipeline::refuse(worker, reject, false);
            if respond(worker, &mut connection, response, true, watch).await.is_some() {
                connection.close().await;
            }
            return;
        }
    };
    let (upstream, tunnel) = passage.parts();
    if let Some(Err(error)) = uncut(connection.pass_through(upstream, tunnel), watch).await {
        debug!(%error, "a tunnel broke off");
    }
}

/// The authority of the target counts (RFC 9112 section 3.2.3). `Host` must be one that says the
/// same, as far as it is there.
fn target(request: &Request<Option<ServerBody>>) -> Result<(CanonHost, u16), Reject> {
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
