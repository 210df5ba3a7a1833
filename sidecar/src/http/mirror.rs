//! Copies of requests for another version: sent beside the request, their answers dropped. Nothing
//! that happens to a copy is told to the caller or counted as the version's own requests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::Authority;
use http::{Request, Uri};
use http_body_util::BodyExt as _;
use segue_sidecar_core::balance::Ask;
use segue_sidecar_core::snapshot::{Cluster, Forward, HttpVersion, Mirror};
use tokio::sync::oneshot;
use tracing::debug;

use super::body::ResponseBody;
use super::forward::{attempt, prepare};
use super::request_context::RequestContext;
use crate::body::RequestBody;
use crate::outcome::ClusterCounters;
use crate::upstream::{Instances, SnapshotView};
use crate::worker::Worker;

/// A copy whose route has no limit ends after this time.
const LONGEST_TIME: Duration = Duration::from_mins(1);
/// Answers up to this size are read to their end, so that the connection can be used again.
const MOST_READ_BYTES: usize = 1 << 20;

/// Sends copies of a request to the mirrors of its route. A body is copied on its way through; where
/// it turns out to be large, there is no copy.
pub fn mirror(
    worker: &Worker,
    view: &SnapshotView,
    to: &Forward,
    request: &mut Request<RequestBody>,
    context: &RequestContext,
) {
    for mirror in &to.mirrors {
        if worker.draw() % 1_000_000 >= u64::from(mirror.share_millionths) {
            continue;
        }
        let Some(cluster) = view.snapshot.clusters.get(mirror.cluster) else { continue };
        let Some((_, living)) = view.cluster(mirror.cluster, &worker.upstreams) else { continue };
        let counters = &living.cluster.counters;
        let Some(copying) = Copying::begin(counters, worker.index, cluster) else { continue };
        let Some(copy) = head(request, context, cluster, to, mirror) else { continue };
        let (done, body) = oneshot::channel();
        if request.body().is_empty() {
            // Nobody has gone away yet.
            let _ = done.send(Bytes::new());
        } else {
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = body.copied(done);
        }
        let sending = Sending {
            cluster: Arc::clone(cluster),
            instances: Rc::clone(&living.instances),
            ask: Ask { turn: living.cluster.turn(), draw: worker.draw(), ..Ask::default() },
            copy,
            copying,
        };
        // Owned by the worker; it ends with the time of the request.
        tokio::task::spawn_local(sending.run(body, to.timeout.unwrap_or(LONGEST_TIME)));
    }
}

/// The request without its body, as the mirror shall see it.
fn head(
    request: &Request<RequestBody>,
    context: &RequestContext,
    cluster: &Cluster,
    to: &Forward,
    mirror: &Mirror,
) -> Option<Request<RequestBody>> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    prepare(&mut copy, context, cluster, Some(to)).ok()?;
    if mirror.keeps_host {
        return Some(copy);
    }
    match cluster.http {
        HttpVersion::Http1 => {
            let host = shadow(copy.headers().get(HOST)?.to_str().ok()?);
            copy.headers_mut().insert(HOST, HeaderValue::try_from(host).ok()?);
        }
        HttpVersion::Http2 => {
            let mut parts = copy.uri().clone().into_parts();
            let host = shadow(parts.authority.as_ref()?.as_str());
            parts.authority = Some(Authority::try_from(host).ok()?);
            *copy.uri_mut() = Uri::from_parts(parts).ok()?;
        }
    }
    Some(copy)
}

/// As Envoy names the host of a copy: the port stays behind it.
fn shadow(authority: &str) -> String {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => format!("{host}-shadow:{port}"),
        _ => format!("{authority}-shadow"),
    }
}

/// A copy on its way.
struct Sending {
    cluster: Arc<Cluster>,
    instances: Rc<Instances>,
    ask: Ask,
    copy: Request<RequestBody>,
    copying: Copying,
}

impl Sending {
    async fn run(mut self, body: oneshot::Receiver<Bytes>, limit: Duration) {
        let sending = async {
            // Without a body the request was given up, or is too large.
            let Ok(body) = body.await else { return };
            if !body.is_empty() {
                *self.copy.body_mut() = RequestBody::Whole(body);
            }
            let ask = self.ask;
            let Some((_, instance)) = self.instances.pick(&self.cluster, ask) else { return };
            let running = instance.run();
            let pool = Rc::clone(&instance.pool);
            let Ok(answer) = attempt(pool, &self.cluster, &mut self.copy, false).await else {
                return;
            };
            self.copying.answered = true;
            let mut body = ResponseBody::of(answer.into_body());
            let mut left = MOST_READ_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let read = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(read) else { break };
                left = rest;
            }
            drop(running);
        };
        if tokio::time::timeout(limit, sending).await.is_err() {
            debug!(cluster = %self.cluster.name, "a copy of a request took too long");
        }
    }
}

/// Counts a copy until it is dropped.
struct Copying {
    counters: Arc<ClusterCounters>,
    worker: usize,
    answered: bool,
}

impl Copying {
    /// `None` where the cluster has as many copies on their way as it may have requests.
    fn begin(counters: &Arc<ClusterCounters>, worker: usize, cluster: &Cluster) -> Option<Self> {
        if !counters.admits_copy(worker, cluster.limits.max_requests) {
            return None;
        }
        counters.slot(worker).copies();
        Some(Self { counters: Arc::clone(counters), worker, answered: false })
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.counters.slot(self.worker).copied(self.answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_copy_is_told_apart() {
        for (host, expected) in
            [("chat", "chat-shadow"), ("chat:80", "chat-shadow:80"), ("[::1]", "[::1]-shadow")]
        {
            assert_eq!(shadow(host), expected);
        }
    }
}
