//! The steps of a request, in their order: admit, route, version, pick and forward with retries,
//! respond. One load of the snapshot serves them all.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use segue_sidecar_core::canonical::{CanonPath, EscapedSlashes, Trust};
use segue_sidecar_core::grpc_timeout;
use segue_sidecar_core::overload::Step;
use segue_sidecar_core::routing::RequestParts;
use segue_sidecar_core::snapshot::{Forward, PathMatcher, Route, RouteAction, RouteTable};

use super::access::{self, Trace};
use super::body::{Limits, ResponseBody};
use super::caller::{Caller, Direction};
use super::fault;
use super::forward::{Answered, GRPC_TIMEOUT, Target, forward, prepare, within};
use super::headers::{self, Found};
use super::hedge;
use super::mirror::mirror;
use super::original;
use super::request_context::{RequestContext, admit, is_grpc};
use super::respond::{self, Reject};
use crate::body::{Pace, Paced, RequestBody};
use crate::deadline::Deadline;
use crate::outcome::Outcome;
use crate::upstream::SnapshotView;
use crate::worker::Worker;

/// Longest time without a byte of an answer of the local application.
const STREAM_IDLE: Duration = Duration::from_mins(5);

/// Serves one request. Whatever happens, there is an answer.
pub async fn serve(
    worker: &Worker,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Response<ResponseBody> {
    // The one load of the snapshot; requests for the application need none.
    let view = (caller.direction == Direction::Outbound).then(|| worker.view());
    let told = view.as_ref().and_then(|view| view.snapshot.escaped_slashes);
    let escaped_slashes = told.unwrap_or(caller.door.escaped_slashes);
    let (mut parts, body) = request.into_parts();
    if worker.overload.step() == Step::Refuse {
        return refuse_unread(worker, caller, Reject::Overloaded, is_grpc(&parts));
    }
    let mut context = match admit(&mut parts, &body, caller, escaped_slashes) {
        Ok(context) => context,
        Err(reject) => return refuse_unread(worker, caller, reject, is_grpc(&parts)),
    };
    let trace = caller.door.access_log.is_some().then(|| Trace::of(&parts, &context));
    let grpc = context.grpc;
    let (body, pace) = paced(worker, caller, body, grpc);
    let mut request = Request::from_parts(parts, body);
    let mut answered = match &view {
        Some(view) => serve_outbound(worker, caller, view, &mut request, &mut context).await,
        None => serve_inbound(worker, &mut request, &mut context).await,
    };
    if let Some(pace) = pace {
        pace.answered();
        answered =
            answered.map_err(|reject| if pace.is_too_slow() { Reject::SlowBody } else { reject });
    }
    let reject = answered.as_ref().err().copied();
    let mut response = answered.unwrap_or_else(|reject| refuse(worker, reject, grpc));
    if let (Some(log), Some(trace)) = (&caller.door.access_log, &trace)
        && log.wants(response.status().as_u16(), reject.is_some())
    {
        let chosen = view.as_ref().zip(context.chosen);
        let cluster = chosen.and_then(|(view, chosen)| view.snapshot.clusters.get(chosen));
        let cluster = cluster.map(|cluster| Arc::clone(&cluster.name));
        log.push(trace.entry(caller, &context, response.status().as_u16(), reject, cluster));
    }
    if context.is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A stranger's body must come on until the answer begins; streams of gRPC may rest.
fn paced(
    worker: &Worker,
    caller: &Caller,
    body: RequestBody,
    grpc: bool,
) -> (RequestBody, Option<Rc<Pace>>) {
    if grpc || body.is_empty() || caller.peer.trust() != Trust::Edge {
        return (body, None);
    }
    let pace = Rc::new(Pace::default());
    let paced = Paced::new(body, Rc::clone(&pace), &worker.deadlines);
    (RequestBody::Paced(Box::new(paced)), Some(pace))
}

async fn serve_outbound(
    worker: &Worker,
    caller: &Caller,
    view: &SnapshotView,
    request: &mut Request<RequestBody>,
    context: &mut RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let route = match route(&view.snapshot.routes, request, context) {
        Some(route) => route,
        None if let Some(original) = caller.passes_to() => {
            let to = original::prepare(worker, original, request, context)?;
            let target = Target { cluster: &to.cluster, living: &to.living, forward: None };
            // In a box, because few requests do.
            return Box::pin(send(worker, target, request, context)).await;
        }
        None if view.snapshot.generation == 0 => return Err(Reject::NoConfiguration),
        None => return Err(Reject::NoRoute),
    };
    if let Some(fault) = &route.fault {
        // In a box, because few requests meet one.
        Box::pin(fault::inject(worker, fault)).await?;
    }
    let mut response = match &route.action {
        RouteAction::Forward(to) => {
            let chosen = to.split.choose(request.headers(), worker.draw());
            context.chosen = Some(chosen);
            let (cluster, living) =
                view.cluster(chosen, &worker.upstreams).ok_or(Reject::NoEndpoint)?;
            headers::edit(request.headers_mut(), &route.request_headers);
            *request.uri_mut() = Uri::from(target(context, to, route)?);
            if !to.mirrors.is_empty() {
                mirror(worker, view, to, request, context);
            }
            let target = Target { cluster, living, forward: Some(to) };
            send(worker, target, request, context).await?
        }
        RouteAction::Direct(answer) => respond::direct(answer).map(ResponseBody::of),
        RouteAction::Redirect(to) => {
            let prefix = matched_prefix(&route.matcher.path);
            respond::redirect(to, context.authority.as_str(), &context.path, prefix)
                .map(ResponseBody::of)
        }
    };
    headers::edit(response.headers_mut(), &route.response_headers);
    Ok(response)
}

async fn serve_inbound(
    worker: &Worker,
    request: &mut Request<RequestBody>,
    context: &mut RequestContext,
) -> Result<Response<ResponseBody>, Reject> {
    let (cluster, living) = worker.app(context.grpc).ok_or(Reject::NoEndpoint)?;
    *request.uri_mut() = Uri::from(context.path.take_target());
    send(worker, Target { cluster, living, forward: None }, request, context).await
}

fn route<'a>(
    routes: &'a RouteTable,
    request: &Request<RequestBody>,
    context: &RequestContext,
) -> Option<&'a Arc<Route>> {
    let host = routes.virtual_host_of(&context.authority)?;
    host.route(&RequestParts::new(request.method(), &context.path, request.headers()))
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
    let answered = if hedge::applies(target, request) {
        // In a box, because few requests do.
        Box::pin(hedge::forward(worker, target, request, &mut deadline)).await
    } else {
        forward(worker, target, request, context.grpc, &mut deadline).await
    };
    match answered {
        // Nobody asked it to change the protocol.
        Ok(Answered { response, .. })
            if response.status() == StatusCode::SWITCHING_PROTOCOLS
                && !response.body().has_switched() =>
        {
            outcome.end(false);
            living.line.moved();
            Err(Reject::UpstreamMalformed)
        }
        Ok(Answered { response, running }) => {
            let (mut parts, source) = response.into_parts();
            outcome.answered(parts.status);
            let found = Found::scan(&parts.headers);
            if headers::strip_hop_by_hop(&mut parts.headers, found).is_err() {
                parts.headers.remove(CONNECTION);
            }
            // The application is no part of the mesh.
            if target.forward.is_none() && found.has(Found::INTERNAL) {
                headers::strip_internal(&mut parts.headers);
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

/// The answer to what cannot be read as a request, or is none that may be served.
pub fn refuse_unread(
    worker: &Worker,
    caller: &Caller,
    reject: Reject,
    grpc: bool,
) -> Response<ResponseBody> {
    let response = refuse(worker, reject, grpc);
    let status = response.status().as_u16();
    if let Some(log) = caller.door.access_log.as_ref().filter(|log| log.wants(status, true)) {
        log.push(access::unreadable(caller, status, Some(reject)));
    }
    response
}

/// What the upstream is asked for.
fn target(
    context: &mut RequestContext,
    to: &Forward,
    route: &Route,
) -> Result<PathAndQuery, Reject> {
    const INVALID: Reject = Reject::BadRequest("the rewritten request target is not valid");
    let path = &context.path;
    let Some(rewrite) = &to.path_rewrite else { return Ok(context.path.take_target()) };
    let mut target = respond::rewritten_path(rewrite, path, matched_prefix(&route.matcher.path));
    if let Some(query) = path.query() {
        target.push('?');
        target.push_str(query);
    }
    // `/a` made `/` turns `/a../b` into dots that were none when the rules looked.
    if has_dots(&target) {
        return Err(INVALID);
    }
    let target = PathAndQuery::try_from(target).map_err(|_| INVALID)?;
    let mut canonical = CanonPath::of(target, EscapedSlashes::Keep).map_err(|_| INVALID)?;
    Ok(canonical.take_target())
}

fn has_dots(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
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

    use segue_sidecar_core::canonical::Peer;

    use super::*;
    use crate::http::caller::Door;
    use crate::outcome::Counters;
    use crate::snapshot_handle::SnapshotHandle;
    use crate::tls::Mesh;
    use crate::vitals::Vitals;

    #[test]
    fn dots_that_a_rewrite_makes_are_seen() {
        assert!(has_dots("/../b") && has_dots("/a/.;x?c"));
        assert!(!has_dots("/a../b?x=/../") && !has_dots("/...;x"));
    }

    /// The codec moves the future of each request once: its size is a cost of each request.
    #[tokio::test]
    async fn the_future_of_a_request_stays_small() {
        let counters = Arc::new(Counters::new(1));
        let vitals = Arc::new(Vitals::new(1));
        let worker =
            Worker::new(0, &SnapshotHandle::new(), &counters, &vitals, Mesh::default(), None);
        let request = Request::new(RequestBody::Empty);
        let door = Arc::new(Door::default());
        let peer = Peer::new([127, 0, 0, 1].into(), "http", Trust::Application, door.tells);
        let caller =
            Caller { direction: Direction::Outbound, peer, door, original: None, identity: None };
        let serving = serve(&worker, &caller, request);
        let size = size_of_val(&serving);
        assert!(size <= 3450, "{size} bytes");
    }
}
