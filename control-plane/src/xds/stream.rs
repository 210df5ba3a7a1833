//! One stream of a client: moves messages between it and its session.
//!
//! There is no task and no channel of a stream. It is what the response's body is read from, so it
//! runs when the client can take something, and a client that does not read is brought to the
//! newest snapshot when it reads again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use prost::Message;
use segue_control_plane_core::compile::{NodeClass, NodeKind};
use segue_control_plane_core::xds::{self as protocol, Malformed, Session, Variant};
use segue_shared::ids::Revision;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use super::Settings;
use super::frames::{self, Requests};
use super::open::{OpenStreams, Place};
use super::pace::Pace;
use super::snapshot_cache::{SnapshotCache, Snapshots};
use super::status::{acked, introduction};
use crate::fleet::{Acked, Fleet, Presence, StreamKind};
use crate::metrics::StreamMetrics;

/// Time for the first request of a stream.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Time for a client to ACK or NACK before what comes next no longer waits for it.
const ANSWER: Duration = Duration::from_secs(5);
/// A part of a response that is handed to the connection. A client that does not read holds up two.
const CHUNK_BYTES: usize = 32 * 1024;

/// What all streams share.
#[derive(Clone, Debug)]
pub(super) struct Ads {
    pub cache: SnapshotCache,
    pub fleet: Fleet,
    pub open: OpenStreams,
    pub metrics: StreamMetrics,
    pub settings: Arc<Settings>,
}

/// The responses of a stream, until it ends.
pub(super) fn responses<V>(
    ads: Ads,
    mut place: Place,
    mut requests: Requests<V::Request>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send
where
    V: Variant + Send + 'static,
    V::Request: Message + Default + 'static,
{
    async_stream::try_stream! {
        let Some(mut client) = Client::<V>::meet(&ads, &mut place, &mut requests).await? else {
            return;
        };
        loop {
            while let Some(response) = client.session.respond() {
                let bytes = V::encoded_len(&response);
                place.unless_stopped(place.may_push(bytes)).await?;
                let mut frame = frames::frame(bytes, |to| V::encode(&response, to))?;
                drop(response);
                while !frame.is_empty() {
                    place.sending();
                    yield frame.split_to(frame.len().min(CHUNK_BYTES));
                    place.took();
                }
                place.sent();
                client.pushed();
            }
            client.tell_fleet();
            match place.unless_stopped(client.next_event(&mut requests)).await? {
                Event::Request(request) => match request? {
                    Some(request) => client.receive(request, &ads.metrics)?,
                    None => return,
                },
                Event::Snapshot => client.offer_newest(&ads.metrics),
                Event::NoAnswer => client.stop_waiting(&ads.metrics),
                Event::OldAge => {
                    ads.metrics.ended("age");
                    Err(Status::unavailable("the stream has reached its age: connect again"))?;
                }
            }
        }
    }
}

/// What a stream waits for.
enum Event<R> {
    Request(Result<Option<R>, Status>),
    Snapshot,
    /// The client owes an ACK or a NACK for too long.
    NoAnswer,
    OldAge,
}

/// The client of a stream.
struct Client<V: Variant> {
    node_id: Arc<str>,
    session: Session<V>,
    snapshots: Snapshots,
    presence: Option<Presence>,
    told: Acked,
    answer_until: Instant,
    /// When the stream ends.
    until: Instant,
    pace: Pace,
    /// When the next request may be read, where that is later than now.
    read_after: Option<Instant>,
}

impl<V> Client<V>
where
    V: Variant,
    V::Request: Message + Default,
{
    /// Reads the first request, which says who the client is. `None` where it left without one.
    async fn meet(
        ads: &Ads,
        place: &mut Place,
        requests: &mut Requests<V::Request>,
    ) -> Result<Option<Self>, Status> {
        let first = place.unless_stopped(timeout(FIRST_REQUEST, requests.next())).await?;
        let first = first.map_err(|_| {
            ads.metrics.refused("silent");
            Status::deadline_exceeded("no request came")
        })??;
        let Some(first) = first else { return Ok(None) };
        let node = V::node(&first).cloned().unwrap_or_default();
        let class = NodeClass::of(&node).map_err(|error| {
            ads.metrics.refused("node");
            Status::invalid_argument(error.to_string())
        })?;
        let (kind, only) = match class.kind {
            NodeKind::Sidecar => ("sidecar", true),
            NodeKind::Envoy { .. } => ("envoy", false),
            NodeKind::Grpc => ("grpc", false),
        };
        place.introduce(&node.id, kind, only);
        place.unless_stopped(ads.cache.published()).await?;
        let presence = ads.fleet.enter(introduction(&node, place.peer()), StreamKind::Xds);
        tracing::debug!(node = node.id, peer = ?place.peer(), ?class, "stream opened");

        let snapshots = place.unless_stopped(ads.cache.watch(class)).await?;
        let mut snapshots = snapshots.ok_or_else(|| {
            ads.metrics.refused("classes");
            Status::resource_exhausted(
                "too many classes of nodes: let nodes share node.cluster and node.metadata's \
                 outbound_address",
            )
        })?;
        let (snapshot, _) = snapshots.newest();
        if V::brings_along(&first) && snapshot.revision == Revision::NONE {
            // A lost or wrong data directory must not take a running mesh down.
            tracing::warn!(
                node = node.id,
                "the client has a configuration and this store was never written to: the client \
                 keeps what it has until something is applied"
            );
        }
        let now = Instant::now();
        let mut client = Self {
            node_id: node.id.as_str().into(),
            session: Session::new(snapshot, protocol::Client::of(&node, None)),
            snapshots,
            presence,
            told: Acked::default(),
            answer_until: now + ANSWER,
            until: now + ads.settings.stream_age(place.draw()),
            pace: Pace::new(now),
            read_after: None,
        };
        client.receive(first, &ads.metrics)?;
        Ok(Some(client))
    }

    fn receive(&mut self, request: V::Request, metrics: &StreamMetrics) -> Result<(), Status> {
        let (nonce, error) = V::answer_of(&request);
        if !nonce.is_empty() {
            metrics.answered(V::type_url(&request), error.is_none());
        }
        self.read_after = self.pace.spend(Instant::now());
        if self.read_after.is_some() {
            metrics.delayed_requests.inc();
        }
        self.session.receive(request).map_err(|error| {
            metrics.ended("malformed");
            malformed(&error)
        })
    }

    /// A response is on its way; a newer snapshot may have come while the client took it.
    fn pushed(&mut self) {
        self.answer_until = Instant::now() + ANSWER;
    }

    fn offer_newest(&mut self, metrics: &StreamMetrics) {
        let (newest, skipped) = self.snapshots.newest();
        metrics.merged_forward.inc_by(skipped);
        self.session.offer(newest);
    }

    fn stop_waiting(&mut self, metrics: &StreamMetrics) {
        tracing::warn!(node = &*self.node_id, "no ACK or NACK within {ANSWER:?}: going on");
        metrics.unanswered.inc();
        self.session.stop_waiting();
    }

    fn tell_fleet(&mut self) {
        let Some(presence) = &self.presence else { return };
        if !self.session.is_waiting() {
            presence.holds(self.session.holding());
        }
        let now = acked(&self.session);
        if now != self.told {
            presence.acked(now.clone());
            self.told = now;
        }
    }

    async fn next_event(&mut self, requests: &mut Requests<V::Request>) -> Event<V::Request> {
        let (read_after, waiting) = (self.read_after, self.session.is_waiting());
        let alarm = if waiting { self.until.min(self.answer_until) } else { self.until };
        tokio::select! {
            request = async {
                if let Some(at) = read_after {
                    sleep_until(at).await;
                }
                requests.next().await
            } => Event::Request(request),
            true = self.snapshots.changed() => Event::Snapshot,
            () = sleep_until(alarm) => {
                if alarm == self.until { Event::OldAge } else { Event::NoAnswer }
            }
        }
    }
}

fn malformed(error: &Malformed) -> Status {
    match error {
        Malformed::NoType | Malformed::LongName => Status::invalid_argument(error.to_string()),
        Malformed::TooManyTypes | Malformed::TooManyNames => {
            Status::resource_exhausted(error.to_string())
        }
    }
}
