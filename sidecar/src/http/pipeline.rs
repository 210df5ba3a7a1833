//! The steps of a request, in their order: admit, route, version, pick and forward with retries,
//! respond. One load of the snapshot serves them all.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use segue_sidecar_core::grpc_timeout;
use segue_sidecar_core::routing::RequestParts;
use segue_sidecar_core::snapshot::{Forward, PathMatcher, Route, RouteAction, RouteTable};

use super::body::{Limits, ResponseBody};
use super::forward::{Answered, GRPC_TIMEOUT, Target, forward, prepare, within};
use super::headers::{self, Found};
use super::mirror::mirror;
use super::request_context::{Direction, RequestContext, admit, is_grpc};
use super::respond::{self, Reject};
use crate::body::RequestBody;
use crate::deadline::Deadline;
use crate::outcome::Outcome;
use crate::worker::Worker;

/// Longest time without a byte of an answer of the local application.
const STREAM_IDLE: Duration = Duration::from_mins(5);

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
            if !to.mirrors.is_empty() {
                mirror(worker, &view, to, request, context);
            }
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
    let living = &target.living.cluster;
    let (counters, limits) = (&living.counters, &target.cluster.limits);
    let arrival = context.arrival;
    let timeout = timeout(target, request, context);
    let mut deadline =
        worker.deadlines.at(timeout.and_then(|timeout| arrival.checked_add(timeout)));
    if !living.line.is_empty() || !counters.admits_request(worker.index, limits.max_requests) {
        // In a box, because few requests wait.
        Box::pin(room(worker, target, &mut deadline)).await?;
    }
    prepare(request, context, target.cluster, target.forward)?;
    let idle_timeout = target.forward.map_or(Some(STREAM_IDLE), |forward| forward.idle_timeout);
    living.requested();
    let mut outcome = Outcome::begin(Arc::clone(counters), worker.index, arrival);
    match forward(worker, target, request, context.grpc, &mut deadline).await {
        Ok(Answered { response, running }) => {
            let (mut parts, source) = response.into_parts();
            outcome.answered(parts.status);
            let found = Found::scan(&parts.headers);
            if headers::strip_hop_by_hop(&mut parts.headers, found).is_err() {
                parts.headers.remove(CONNECTION);
            }
            let limits = Limits {
                whole: deadline,
                idle: worker.deadlines.at(None),
                idle_timeout,
                grpc: context.grpc,
            };
            let body = ResponseBody::tracked(source, limits, outcome, running);
            Ok(Response::from_parts(parts, body))
        }
        Err(reject) => {
            outcome.end(false);
            living.line.moved();
            Err(reject)
        }
    }
}

/// How long a request may take: as its route allows, and not longer than a caller of gRPC waits.
fn timeout(
    target: Target<'_>,
    request: &Request<RequestBody>,
    context: &RequestContext,
) -> Option<Duration> {
    let of_route = target.forward.and_then(|forward| forward.timeout);
    if !context.grpc {
        return of_route;
    }
    let asked = request.headers().get(GRPC_TIMEOUT);
    let asked = asked.and_then(|value| grpc_timeout::parse(value.as_bytes()));
    of_route.into_iter().chain(asked).min()
}

/// Waits in line until the cluster has room for one more request.
async fn room(worker: &Worker, target: Target<'_>, deadline: &mut Deadline) -> Result<(), Reject> {
    let (living, limits) = (&target.living.cluster, &target.cluster.limits);
    let counters = &living.counters;
    let place = living.line.enter(counters, worker.index, limits.max_pending_requests);
    let place = place.ok_or(Reject::Overflow)?;
    while within(deadline, place.next()).await.ok_or(Reject::Timeout)? {
        if counters.admits_request(worker.index, limits.max_requests) {
            return Ok(());
        }
    }
    Err(Reject::Overflow)
}

fn refuse(worker: &Worker, reject: Reject, grpc: bool) -> Response<ResponseBody> {
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
    use crate::vitals::Vitals;

    /// The codec moves the future of each request once: its size is a cost of each request.
    #[tokio::test]
    async fn the_future_of_a_request_stays_small() {
        let counters = Arc::new(Counters::new(1));
        let vitals = Arc::new(Vitals::new(1));
        let worker = Worker::new(0, &SnapshotHandle::new(), &counters, &vitals, None);
        let request = Request::new(RequestBody::Empty);
        let serving = serve(&worker, Direction::Outbound, request);
        let size = size_of_val(&serving);
        assert!(size <= 3200, "{size} bytes");
    }
}
