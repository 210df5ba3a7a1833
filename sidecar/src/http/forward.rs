//! A request on its way to an endpoint of the chosen version, once or more.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use segue_sidecar_core::balance::{Ask, Tried};
use segue_sidecar_core::grpc_timeout;
use segue_sidecar_core::snapshot::{Algorithm, Cluster, Forward, HttpVersion};
use tokio::time::Instant;
use tracing::debug;

use super::body::ResponseSource;
use super::request_context::RequestContext;
use super::respond::Reject;
use super::retry::{self, Again, Cause, Retries};
use crate::body::RequestBody;
use crate::deadline::Deadline;
use crate::outcome::ClusterCounters;
use crate::upstream::{ConnectError, EndpointPool, Http2Failure, Living, Place, Running};
use crate::vitals::Sign;
use crate::worker::Worker;

/// How long a caller of gRPC waits.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub cluster: &'a Cluster,
    pub living: &'a Living,
    /// What the route says; `None` for the local application.
    pub forward: Option<&'a Forward>,
}

/// The head of an answer, and what keeps the request counted on its endpoint.
pub struct Answered {
    pub response: Response<ResponseSource>,
    pub running: Running,
}

/// An attempt without an answer.
pub struct Failed {
    pub cause: Cause,
    pub reject: Reject,
    /// Whether the request is back in its place, for another attempt.
    again: bool,
}

/// Which time was over.
enum Late {
    Request,
    Attempt,
}

/// Sends a request, again where that is safe, until an answer's head comes or the deadline passes.
/// The request is taken out of its place when it is sent: passing it down by value would make the
/// future of each request several times as large.
pub async fn forward(
    worker: &Worker,
    target: Target<'_>,
    request: &mut Request<RequestBody>,
    grpc: bool,
    deadline: &mut Deadline,
) -> Result<Answered, Reject> {
    let Target { cluster, living, forward } = target;
    let retry = forward.and_then(|forward| forward.retry.as_ref());
    let mut retries = Retries::new(retry, request.method());
    let try_timeout = forward.and_then(|forward| forward.try_timeout);
    let hash = hash(target, request);
    let mut tried = Tried::default();
    let mut fresh = false;
    let mut repeating: Option<Repeating> = None;
    let mut place: Option<Place> = None;
    loop {
        let ask = Ask { turn: living.cluster.turn(), draw: worker.draw(), hash, not: tried };
        let (at, instance) = living.instances.pick(cluster, ask).ok_or(Reject::NoEndpoint)?;
        let running = instance.run();
        if living.instances.is_elsewhere(at) {
            living.cluster.counters.slot(worker.index).left_locality();
        }
        let begun = living.instances.measures().then(Instant::now);
        if grpc {
            tell_deadline(request, deadline);
        }
        let copy = retries.needs_copy(try_timeout.is_some()).then(|| retry::keep(request));
        let mut limit =
            try_timeout.map(|limit| worker.deadlines.at(Instant::now().checked_add(limit)));
        let attempted = {
            let pool = Rc::clone(&instance.pool);
            let mut attempt = pin!(attempt(pool, cluster, request, fresh));
            poll_fn(|context| {
                if let Poll::Ready(attempted) = attempt.as_mut().poll(context) {
                    return Poll::Ready(Ok(attempted));
                }
                if deadline.poll(context).is_ready() {
                    return Poll::Ready(Err(Late::Request));
                }
                match &mut limit {
                    Some(limit) => limit.poll(context).map(|()| Err(Late::Attempt)),
                    None => Poll::Pending,
                }
            })
            .await
        };
        if living.instances.are_judged()
            && let Some(sign) = sign(&attempted, fresh)
        {
            living.instances.observe(cluster, at, worker.index, sign);
        }
        let copy = copy.filter(|copy| !copy.body().is_lost());
        let again = match attempted {
            Ok(Ok(response)) => {
                if let Some(begun) = begun {
                    instance.answered(begun);
                }
                let again = match &copy {
                    Some(_) => retries.after_answer(response.status(), response.headers()),
                    None => None,
                };
                match again.filter(|again| allowed(target, worker, *again)).zip(copy) {
                    Some((again, copy)) => {
                        *request = *copy;
                        again
                    }
                    None => return Ok(Answered { response, running }),
                }
            }
            Ok(Err(failed)) if failed.cause == Cause::Full && failed.again => {
                running.found_no_room();
                let waiting = place.take().map_or_else(|| line_up(target, worker), Ok)?;
                // In a box, as every wait that few requests have.
                if !Box::pin(within(deadline, waiting.next())).await.ok_or(Reject::Timeout)? {
                    return Err(Reject::Overflow);
                }
                place = Some(waiting);
                continue;
            }
            Ok(Err(failed)) => {
                debug!(address = %instance.address, cause = ?failed.cause, "attempt failed");
                fresh |= failed.cause == Cause::Stale;
                put_back(request, copy.map(|copy| *copy), failed.again).ok_or(failed.reject)?;
                let again = retries.after_failure(failed.cause);
                again.filter(|again| allowed(target, worker, *again)).ok_or(failed.reject)?
            }
            Err(Late::Attempt) => {
                put_back(request, copy.map(|copy| *copy), false).ok_or(Reject::Timeout)?;
                let again = retries.after_failure(Cause::Closed);
                again.filter(|again| allowed(target, worker, *again)).ok_or(Reject::Timeout)?
            }
            Err(Late::Request) => return Err(Reject::Timeout),
        };
        tried = tried.with(at);
        living.cluster.counters.slot(worker.index).retried();
        if let Again::Paid(pause) = again {
            repeating.get_or_insert_with(|| Repeating::begin(target, worker));
            Box::pin(rest(retry::jittered(pause, worker.draw()), deadline)).await?;
        }
    }
}

/// What is left of the time is what the upstream should count with.
fn tell_deadline(request: &mut Request<RequestBody>, deadline: &Deadline) {
    match deadline.moment() {
        Some(at) => {
            let left = at.saturating_duration_since(Instant::now());
            request.headers_mut().insert(GRPC_TIMEOUT, grpc_timeout::value(left));
        }
        // One that could not be read.
        None => drop(request.headers_mut().remove(GRPC_TIMEOUT)),
    }
}

/// Hash of the request's key, where the cluster hashes.
pub fn hash(target: Target<'_>, request: &Request<RequestBody>) -> Option<u64> {
    let Algorithm::Hash(hashing) = &target.cluster.traffic.algorithm else { return None };
    let of_route = || target.forward.map(|forward| &forward.hash_key);
    hashing.key.as_ref().or_else(of_route)?.hash(request.headers())
}

/// What an attempt says of its endpoint; `None` where it was not the endpoint's fault, or no more
/// than the end of a connection that had rested.
fn sign(
    attempted: &Result<Result<Response<ResponseSource>, Failed>, Late>,
    fresh: bool,
) -> Option<Sign> {
    match attempted {
        Ok(result) => sign_of(result, fresh),
        Err(_) => Some(Sign::GatewayError),
    }
}

/// The same of an attempt that was not given up.
pub fn sign_of(result: &Result<Response<ResponseSource>, Failed>, fresh: bool) -> Option<Sign> {
    match result {
        Ok(response) => Some(match (response.status().as_u16(), response.headers()) {
            (502..=504, _) => Sign::GatewayError,
            (500.., _) => Sign::Error,
            // As Envoy reads gRPC's statuses: UNAVAILABLE is 503, DEADLINE_EXCEEDED 504.
            (_, headers) => match retry::grpc_status(headers) {
                Some(4 | 14) => Sign::GatewayError,
                Some(2 | 13 | 15) => Sign::Error,
                _ => Sign::Good,
            },
        }),
        Err(failed) => match failed.cause {
            Cause::Full => None,
            Cause::Stale if !fresh => None,
            Cause::Final if failed.reject == Reject::BadBody => None,
            _ => Some(Sign::GatewayError),
        },
    }
}

/// Whether a repetition is free, or its cluster's budget pays for it.
pub fn allowed(target: Target<'_>, worker: &Worker, again: Again) -> bool {
    let living = &target.living.cluster;
    let allowed = again == Again::Free || living.may_repeat(&target.cluster.traffic);
    if !allowed {
        living.counters.slot(worker.index).retry_refused();
    }
    allowed
}

/// A place in the line of those who wait for a connection.
fn line_up(target: Target<'_>, worker: &Worker) -> Result<Place, Reject> {
    let living = &target.living.cluster;
    let most = target.cluster.limits.max_pending_requests;
    living.line.enter(&living.counters, worker.index, most).ok_or(Reject::Overflow)
}

/// Counts a request that is repeated until it has its answer.
struct Repeating {
    counters: Arc<ClusterCounters>,
    worker: usize,
}

impl Repeating {
    fn begin(target: Target<'_>, worker: &Worker) -> Self {
        let counters = Arc::clone(&target.living.cluster.counters);
        counters.slot(worker.index).retrying();
        Self { counters, worker: worker.index }
    }
}

impl Drop for Repeating {
    fn drop(&mut self) {
        self.counters.slot(self.worker).retries_no_more();
    }
}

/// Puts the copy in the place of a request that is gone; `None`: there is nothing to send again.
fn put_back(
    request: &mut Request<RequestBody>,
    copy: Option<Request<RequestBody>>,
    is_back: bool,
) -> Option<()> {
    if !is_back {
        *request = copy?;
    }
    Some(())
}

/// The request as the upstream shall see it.
pub fn prepare(
    request: &mut Request<RequestBody>,
    context: &RequestContext,
    cluster: &Cluster,
    forward: Option<&Forward>,
) -> Result<(), Reject> {
    let rewrite = forward.and_then(|forward| forward.host_rewrite.as_ref());
    match cluster.http {
        HttpVersion::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            if let Some(host) = rewrite {
                request.headers_mut().insert(HOST, host.clone());
            }
        }
        HttpVersion::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
            let authority = rewrite.unwrap_or(context.authority.value());
            let authority = Authority::try_from(authority.as_bytes())
                .map_err(|_| Reject::BadRequest("exactly one valid Host is needed"))?;
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if cluster.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(authority);
            parts.path_and_query = Some(target(request.uri()));
            *request.uri_mut() = Uri::from_parts(parts)
                .map_err(|_| Reject::BadRequest("the request target is not valid"))?;
            if context.wants_trailers {
                request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
            }
        }
    }
    Ok(())
}

fn target(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// One attempt on one endpoint.
pub async fn attempt(
    pool: Rc<EndpointPool>,
    cluster: &Cluster,
    request: &mut Request<RequestBody>,
    fresh: bool,
) -> Result<Response<ResponseSource>, Failed> {
    match cluster.http {
        HttpVersion::Http1 => attempt_http1(pool, cluster, request, fresh).await,
        HttpVersion::Http2 => attempt_http2(pool, cluster, request).await,
    }
}

async fn attempt_http1(
    pool: Rc<EndpointPool>,
    cluster: &Cluster,
    request: &mut Request<RequestBody>,
    fresh: bool,
) -> Result<Response<ResponseSource>, Failed> {
    // Only the body is taken out of the request: one without it is whole for another attempt.
    let may_repeat = request.body().is_empty() && retry::is_idempotent(request.method());
    let kept = if fresh { None } else { pool.take_idle(!may_repeat).await };
    let was_kept = kept.is_some();
    let connection = match kept {
        Some(connection) => connection,
        None => pool.open_http1(cluster).await.map_err(|error| unconnected(&error))?,
    };
    let failure = match connection.send(request, pool).await {
        Ok(response) => {
            return Ok(response.map(|body| {
                if body.is_end() { ResponseSource::Empty } else { ResponseSource::Http1(body) }
            }));
        }
        Err(failure) => failure,
    };
    debug!(error = %failure.error, "HTTP/1.1 upstream");
    let (cause, reject) = match () {
        () if failure.unsent && was_kept => (Cause::Stale, Reject::UpstreamClosed),
        () if failure.unsent => (Cause::Connect, Reject::ConnectFailed),
        () if failure.callers_fault => (Cause::Final, Reject::BadBody),
        () if failure.malformed => (Cause::Final, Reject::UpstreamMalformed),
        () if was_kept && may_repeat => (Cause::Stale, Reject::UpstreamClosed),
        () => (Cause::Closed, Reject::UpstreamClosed),
    };
    Err(Failed { cause, reject, again: failure.unsent || may_repeat })
}

async fn attempt_http2(
    pool: Rc<EndpointPool>,
    cluster: &Cluster,
    request: &mut Request<RequestBody>,
) -> Result<Response<ResponseSource>, Failed> {
    // Only the body is taken out of the request: one without it is whole for another attempt.
    let may_repeat = request.body().is_empty();
    let idempotent = retry::is_idempotent(request.method());
    let failure = loop {
        let connection = pool.http2(cluster).await.map_err(|error| unconnected(&error))?;
        match connection.send(request).await {
            Ok(response) => {
                return Ok(response.map(|body| {
                    if body.is_end() { ResponseSource::Empty } else { ResponseSource::Http2(body) }
                }));
            }
            // A connection that takes no more requests is out of the pool now, and nothing was
            // sent: the next one is no retry. Each turn has one connection less.
            Err(Http2Failure { unsent: true, .. }) => {}
            Err(failure) => break failure,
        }
    };
    let (cause, reject, again) = match () {
        () if failure.callers_fault => (Cause::Final, Reject::BadBody, false),
        () if failure.no_websocket => (Cause::Final, Reject::NoWebSocket, false),
        () if failure.unprocessed => (Cause::Stale, Reject::UpstreamClosed, may_repeat),
        () if failure.closed && idempotent => (Cause::Stale, Reject::UpstreamClosed, may_repeat),
        () if failure.closed => (Cause::Final, Reject::UpstreamClosed, false),
        () => (Cause::Final, Reject::UpstreamMalformed, false),
    };
    Err(Failed { cause, reject, again })
}

/// The request was not touched.
fn unconnected(error: &ConnectError) -> Failed {
    debug!(%error, "no connection to an upstream");
    let (cause, reject) = match error {
        ConnectError::Overflow(_) => (Cause::Full, Reject::Overflow),
        _ => (Cause::Connect, Reject::ConnectFailed),
    };
    Failed { cause, reject, again: true }
}

/// `None` when the deadline passed first.
pub async fn within<F: Future>(deadline: &mut Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => deadline.poll(context).map(|()| None),
    })
    .await
}

pub async fn rest(pause: Duration, deadline: &mut Deadline) -> Result<(), Reject> {
    if pause.is_zero() {
        return Ok(());
    }
    within(deadline, tokio::time::sleep(pause)).await.ok_or(Reject::Timeout)
}
