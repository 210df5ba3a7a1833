//! Captured requests to hosts that no service has: they go where they wanted to go.

use std::net::SocketAddr;

use http::{Request, Response, Uri, Version};
use segue_sidecar_core::snapshot::HttpVersion;

use super::body::ResponseBody;
use super::forward::Target;
use super::pipeline;
use super::request_context::RequestContext;
use super::respond::Reject;
use crate::body::RequestBody;
use crate::worker::Worker;

/// Sends a request on in the protocol that it came in.
pub async fn pass(
    worker: &Worker,
    original: SocketAddr,
    request: &mut Request<RequestBody>,
    context: &mut RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let http = match request.version() {
        Version::HTTP_2 => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    let to = worker.originals.get(original, http, &worker.upstreams).ok_or(Reject::Overflow)?;
    *request.uri_mut() = Uri::from(context.path.take_target());
    let target = Target { cluster: &to.cluster, living: &to.living, forward: None };
    pipeline::send(worker, target, request, context).await
}
