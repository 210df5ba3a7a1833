//! Captured requests to hosts that no service has: they go where they wanted to go.

use std::net::SocketAddr;
use std::rc::Rc;

use http::{Request, Uri, Version};
use segue_sidecar_core::snapshot::HttpVersion;

use super::request_context::RequestContext;
use super::respond::Reject;
use crate::body::RequestBody;
use crate::upstream::Original;
use crate::worker::Worker;

/// The upstream of a request, which goes on in the protocol that it came in.
pub fn prepare(
    worker: &Worker,
    original: SocketAddr,
    request: &mut Request<RequestBody>,
    context: &mut RequestContext,
) -> Result<Rc<Original>, Reject> {
    let http = match request.version() {
        Version::HTTP_2 => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    *request.uri_mut() = Uri::from(context.path.take_target());
    worker.originals.get(original, http, &worker.upstreams).ok_or(Reject::Overflow)
}
