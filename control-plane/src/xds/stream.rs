//! ADS: one task a stream that moves messages between the client and its session. Nothing is
//! queued: a client that does not read gets the newest snapshot when it reads again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use segue_control_plane_core::compile::NodeClass;
use segue_control_plane_core::snapshot::XdsSnapshot;
use segue_control_plane_core::xds::{Delta, Malformed, Session, StateOfTheWorld, Variant};
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::SnapshotCache;
use super::status::{acked, introduction};
use crate::fleet::{Fleet, StreamKind};

/// Time for the first request of a stream.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Time for a client to take a response.
const SEND: Duration = Duration::from_secs(30);
/// Time for a client to ACK or NACK before what comes next no longer waits for it.
const ANSWER: Duration = Duration::from_secs(5);

/// The aggregated discovery service.
#[derive(Clone, Debug)]
pub struct Ads {
    cache: SnapshotCache,
    fleet: Fleet,
    drain: DrainSignal,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(Response::new(self.open::<StateOfTheWorld>(request)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(Response::new(self.open::<Delta>(request)))
    }
}

impl Ads {
    pub fn new(cache: SnapshotCache, fleet: Fleet, drain: DrainSignal) -> Self {
        Self { cache, fleet, drain }
    }

    /// Starts the task of a stream. It ends with the stream, or when the control plane drains.
    fn open<V>(
        &self,
        request: Request<Streaming<V::Request>>,
    ) -> ReceiverStream<Result<V::Response, Status>>
    where
        V: Variant + Send + 'static,
        V::Request: Send + 'static,
        V::Response: Send + 'static,
    {
        let (responses, receiver) = mpsc::channel(1);
        let address = request.remote_addr();
        let requests = request.into_inner();
        let ads = self.clone();
        let span = tracing::info_span!("xds", ?address);
        let task = async move {
            let closed = responses.clone();
            let ended = tokio::select! {
                ended = ads.serve::<V>(requests, &responses, address) => ended,
                () = ads.drain.cancelled() => {
                    Err(Status::unavailable("the control plane is stopping: connect again"))
                }
                () = closed.closed() => Ok(()),
            };
            if let Err(status) = ended {
                tracing::info!(code = ?status.code(), reason = status.message(), "stream ended");
                // The client may be gone; then there is nobody to tell.
                let _ = timeout(ANSWER, responses.send(Err(status))).await;
            }
        };
        tokio::spawn(task.instrument(span));
        ReceiverStream::new(receiver)
    }

    async fn serve<V>(
        &self,
        mut requests: Streaming<V::Request>,
        responses: &mpsc::Sender<Result<V::Response, Status>>,
        address: Option<SocketAddr>,
    ) -> Result<(), Status>
    where
        V: Variant,
    {
        let first = timeout(FIRST_REQUEST, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))??;
        let Some(first) = first else { return Ok(()) };
        let node = V::node(&first).cloned().unwrap_or_default();
        let class =
            NodeClass::of(&node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.cache.published().await;
        let presence = self.fleet.enter(introduction(&node, address), StreamKind::Xds);
        tracing::info!(node = node.id, ?class, "stream opened");

        let mut snapshots = self.cache.watch(class).ok_or_else(|| {
            Status::resource_exhausted(
                "too many different listener addresses: let nodes share node.metadata's \
                 outbound_address",
            )
        })?;
        let is_empty = |snapshot: &XdsSnapshot| snapshot.revision == Revision::NONE;
        if V::holds_resources(&first) && is_empty(&snapshots.borrow()) {
            // A lost or wrong data directory must not take a running mesh down.
            tracing::warn!(
                node = node.id,
                "the client has a configuration and this store was never written to: the client \
                 keeps what it has until something is applied"
            );
            let written = snapshots.wait_for(|snapshot| !is_empty(snapshot)).await;
            written.map_err(|_| Status::unavailable("the control plane is stopping"))?;
        }
        let mut session = Session::<V>::new(Arc::clone(&snapshots.borrow_and_update()));
        session.receive(first).map_err(|error| malformed(&error))?;
        let mut answer_until = Instant::now() + ANSWER;
        loop {
            while let Some(response) = session.respond() {
                timeout(SEND, responses.send(Ok(response)))
                    .await
                    .map_err(|_| Status::deadline_exceeded("the client does not read"))?
                    .map_err(|_| Status::cancelled("the client is gone"))?;
                answer_until = Instant::now() + ANSWER;
            }
            if let Some(presence) = &presence {
                presence.acked(acked(&session));
            }
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => session.receive(request).map_err(|error| malformed(&error))?,
                    None => return Ok(()),
                },
                changed = snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane is stopping"))?;
                    let newest = Arc::clone(&snapshots.borrow_and_update());
                    session.offer(newest);
                }
                () = sleep_until(answer_until), if session.is_waiting() => {
                    tracing::warn!(node = node.id, "no ACK or NACK within {ANSWER:?}: going on");
                    session.stop_waiting();
                }
            }
        }
    }
}

fn malformed(error: &Malformed) -> Status {
    match error {
        Malformed::NoType => Status::invalid_argument(error.to_string()),
        Malformed::TooManyTypes | Malformed::TooManyNames => {
            Status::resource_exhausted(error.to_string())
        }
    }
}
