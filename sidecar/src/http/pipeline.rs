//! The steps of a request, in their order: admit, route, version, pick and forward with retries,
//! respond. One load of the snapshot serves them all.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use segue_sidecar_core::routing::RequestParts;
use segue_sidecar_core::snapshot::{Forward, PathMatcher, Route, RouteAction, RouteTable};

use super::body::ResponseBody;
use super::forward::{Target, forward, prepare};
use super::headers::{self, Found};
use super::request_context::{Direction, RequestContext, admit, is_grpc};
use super::respond::{self, Reject};
use crate::body::RequestBody;
use crate::outcome::Outcome;
use crate::worker::Worker;

/// Serves one request. Whatever happens, there is an answer.
pub async fn serve(
    worker: &Worker,
    direction: Direction,
    request: Request<RequestBody>,
) -> Response<ResponseBody> {
    let (mut parts, body) = request.into_parts();
    let context = match admit(&mut parts, &body) {
        Ok(context) => context,
        Err(reject) => return refuse(worker, reject, is_grpc(&parts)),
    };
    let grpc = context.grpc;
    let mut request = Request::from_parts(parts, body);
    let answered = match direction {
        Direction::Outbound => serve_outbound(worker, &mut request, &context).await,
        Direction::Inbound => serve_inbound(worker, &mut request, &context).await,
    };
    answered.unwrap_or_else(|reject| refuse(worker, reject, grpc))
}

async fn serve_outbound(
    worker: &Worker,
    request: &mut Request<RequestBody>,
    context: &RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let view = worker.view();
    let route = match route(&view.snapshot.routes, request, context)? {
        Some(route) => route,
        None if view.snapshot.generation == 0 => return Err(Reject::NoConfiguration),
        None => return Err(Reject::NoRoute),
    };
    let mut response = match &route.action {
        RouteAction::Forward(to) => {
            let chosen = to.split.choose(request.headers(), worker.draw());
            let (cluster, living) =
                view.cluster(chosen, &worker.upstreams).ok_or(Reject::NoEndpoint)?;
            headers::edit(request.headers_mut(), &route.request_headers);
            rewrite_path(request, to, route)?;
            let target = Target { cluster, living, forward: Some(to) };
            send(worker, target, request, context).await?
        }
        RouteAction::Direct(answer) => respond::direct(answer).map(ResponseBody::of),
        RouteAction::Redirect(to) => {
            let authority = context.authority.to_str().unwrap_or_default();
            let prefix = matched_prefix(&route.matcher.path);
            respond::redirect(to, authority, request.uri(), prefix).map(ResponseBody::of)
        }
    };
    headers::edit(response.headers_mut(), &route.response_headers);
    Ok(response)
}

async fn serve_inbound(
    worker: &Worker,
    request: &mut Request<RequestBody>,
    context: &RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let (cluster, living) = worker.app(context.grpc).ok_or(Reject::NoEndpoint)?;
    send(worker, Target { cluster, living, forward: None }, request, context).await
}

fn route<'a>(
    routes: &'a RouteTable,
    request: &Request<RequestBody>,
    context: &RequestContext,
) -> Result<Option<&'a Arc<Route>>, Reject> {
    let authority = context.authority.to_str().map_err(|_| Reject::NoRoute)?;
    let Some(host) = routes.virtual_host(authority) else { return Ok(None) };
    Ok(host.route(&RequestParts {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }))
}

/// Admission by the cluster's caps, the attempts, and the end of the answer's head.
async fn send(
    worker: &Worker,
    target: Target<'_>,
    request: &mut Request<RequestBody>,
    context: &RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let counters = &target.living.counters;
    if !counters.admits_request(worker.index, target.cluster.limits.max_requests) {
        return Err(Reject::Overflow);
    }
    let arrival = context.arrival;
    prepare(request, context, target.cluster, target.forward)?;
    let mut outcome = Outcome::begin(Arc::clone(counters), worker.index, arrival);
    let timeout = target.forward.and_then(|forward| forward.timeout);
    let mut deadline =
        worker.deadlines.at(timeout.and_then(|timeout| arrival.checked_add(timeout)));
    match forward(worker, target, request, &mut deadline).await {
        Ok(response) => {
            let (mut parts, source) = response.into_parts();
            outcome.answered(parts.status);
            let found = Found::scan(&parts.headers);
            if headers::strip_hop_by_hop(&mut parts.headers, found).is_err() {
                parts.headers.remove(CONNECTION);
            }
            let body = ResponseBody::tracked(source, deadline, outcome);
            Ok(Response::from_parts(parts, body))
        }
        Err(reject) => {
            outcome.end(false);
            Err(reject)
        }
    }
}

/// The answer to a request that is refused, which counts as that.
pub fn refuse(worker: &Worker, reject: Reject, grpc: bool) -> Response<ResponseBody> {
    worker.counters.refused(reject.reason());
    let mut response = reject.respond(grpc).map(ResponseBody::of);
    if reject.closes_connection() {
        // Taken off again where the caller speaks HTTP/2.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn rewrite_path(
    request: &mut Request<RequestBody>,
    to: &Forward,
    route: &Route,
) -> Result<(), Reject> {
    let Some(rewrite) = &to.path_rewrite else { return Ok(()) };
    let uri = request.uri();
    let mut path =
        respond::rewritten_path(rewrite, uri.path(), matched_prefix(&route.matcher.path));
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let target = PathAndQuery::try_from(path)
        .map_err(|_| Reject::BadRequest("the rewritten request target is not valid"))?;
    *request.uri_mut() = Uri::from(target);
    Ok(())
}

fn matched_prefix(path: &PathMatcher) -> Option<&str> {
    match path {
        PathMatcher::Prefix(prefix) | PathMatcher::SegmentPrefix(prefix) => Some(prefix),
        PathMatcher::Exact(_) | PathMatcher::Regex(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::Counters;
    use crate::snapshot_handle::SnapshotHandle;

    /// The codec moves the future of each request once: its size is a cost of each request.
    #[tokio::test]
    async fn the_future_of_a_request_stays_small() {
        let counters = Arc::new(Counters::new(1));
        let worker = Worker::new(0, &SnapshotHandle::new(), &counters, None);
        let request = Request::new(RequestBody::Empty);
        let serving = serve(&worker, Direction::Outbound, request);
        let size = size_of_val(&serving);
        assert!(size <= 3200, "{size} bytes");
    }
}
