//! A request on its way to an endpoint of the chosen version, once or more.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::{HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use segue_sidecar_core::balance::round_robin;
use segue_sidecar_core::snapshot::{Cluster, Forward, HttpVersion};
use tokio::time::Instant;
use tracing::debug;

use super::body::ResponseSource;
use super::request_context::RequestContext;
use super::respond::Reject;
use super::retry::{self, Cause, Retries};
use crate::body::RequestBody;
use crate::deadline::Deadline;
use crate::upstream::{ConnectError, EndpointPool, Http2Failure, UpstreamCluster};
use crate::worker::Worker;

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub cluster: &'a Cluster,
    pub living: &'a Rc<UpstreamCluster>,
    /// What the route says; `None` for the local application.
    pub forward: Option<&'a Forward>,
}

/// An attempt without an answer.
struct Failed {
    cause: Cause,
    reject: Reject,
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
    deadline: &mut Deadline,
) -> Result<Response<ResponseSource>, Reject> {
    let endpoints = &target.cluster.endpoints;
    let mut retries = Retries::new(target.forward.and_then(|forward| forward.retry.as_ref()));
    let try_timeout = target.forward.and_then(|forward| forward.try_timeout);
    let mut before: Option<SocketAddr> = None;
    let mut fresh = false;
    loop {
        let turn = target.living.turn();
        let endpoint = match before {
            None => round_robin::pick(endpoints, turn),
            Some(before) => round_robin::pick_other(endpoints, turn, before),
        };
        let address = endpoint.ok_or(Reject::NoEndpoint)?.address;
        let copy = if retries.looks_at_answers() { retry::copy(request) } else { None };
        let pool = target.living.pool(address, target.cluster.http);
        let mut limit =
            try_timeout.map(|limit| worker.deadlines.at(Instant::now().checked_add(limit)));
        let attempted = {
            let mut attempt = pin!(attempt(pool, target.cluster, request, fresh));
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
        let pause = match attempted {
            Ok(Ok(response)) => match (retries.after_answer(response.status()), copy) {
                (Some(pause), Some(copy)) => {
                    *request = copy;
                    pause
                }
                _ => return Ok(response),
            },
            Ok(Err(failed)) => {
                debug!(%address, cause = ?failed.cause, "attempt failed");
                fresh |= failed.cause == Cause::Stale;
                put_back(request, copy, failed.again).ok_or(failed.reject)?;
                retries.after_failure(failed.cause).ok_or(failed.reject)?
            }
            Err(Late::Attempt) => {
                put_back(request, copy, false).ok_or(Reject::Timeout)?;
                retries.after_failure(Cause::Closed).ok_or(Reject::Timeout)?
            }
            Err(Late::Request) => return Err(Reject::Timeout),
        };
        before = Some(address);
        target.living.counters.slot(worker.index).retried();
        rest(pause, deadline).await?;
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
            parts.scheme = Some(Scheme::HTTP);
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

async fn attempt(
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
        () if may_repeat => (Cause::Stale, Reject::UpstreamClosed),
        () => (Cause::Closed, Reject::UpstreamClosed),
    };
    Err(Failed { cause, reject, again: failure.unsent || may_repeat })
}

async fn attempt_http2(
    pool: Rc<EndpointPool>,
    cluster: &Cluster,
    request: &mut Request<RequestBody>,
) -> Result<Response<ResponseSource>, Failed> {
    let copy = retry::copy(request);
    let idempotent = retry::is_idempotent(request.method());
    let failure = loop {
        let connection = pool.http2(cluster).await.map_err(|error| unconnected(&error))?;
        match connection.send(std::mem::take(request)).await {
            Ok(response) => {
                return Ok(response.map(|body| {
                    if body.is_end() { ResponseSource::Empty } else { ResponseSource::Http2(body) }
                }));
            }
            // A connection that takes no more requests is out of the pool now, and nothing was
            // sent: the next one is no retry. Each turn has one connection less.
            Err(Http2Failure { unsent: Some(unsent), .. }) => *request = unsent,
            Err(failure) => break failure,
        }
    };
    let (cause, reject, back) = match () {
        () if failure.callers_fault => (Cause::Final, Reject::BadBody, None),
        () if failure.unprocessed => (Cause::Stale, Reject::UpstreamClosed, copy),
        () if failure.closed && idempotent => (Cause::Stale, Reject::UpstreamClosed, copy),
        () if failure.closed => (Cause::Final, Reject::UpstreamClosed, None),
        () => (Cause::Final, Reject::UpstreamMalformed, None),
    };
    Err(Failed { cause, reject, again: put_back(request, back, false).is_some() })
}

/// The request was not touched.
fn unconnected(error: &ConnectError) -> Failed {
    debug!(%error, "no connection to an upstream");
    let (cause, reject) = match error {
        ConnectError::Overflow(_) => (Cause::Final, Reject::Overflow),
        _ => (Cause::Connect, Reject::ConnectFailed),
    };
    Failed { cause, reject, again: true }
}

/// `None` when the deadline passed first.
async fn within<F: Future>(deadline: &mut Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => deadline.poll(context).map(|()| None),
    })
    .await
}

async fn rest(pause: Duration, deadline: &mut Deadline) -> Result<(), Reject> {
    if pause.is_zero() {
        return Ok(());
    }
    within(deadline, tokio::time::sleep(pause)).await.ok_or(Reject::Timeout)
}
