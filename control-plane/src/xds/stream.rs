//! One stream of a client: moves messages between it and its session.
//!
//! There is no task and no channel of a stream. It is what the response's body is read from, so it
//! runs when the client can take something, and a client that does not read is brought to the
//! newest snapshot when it reads again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use prost::Message;
use segue_control_plane_core::compile::{NodeClass, NodeKind};
use segue_control_plane_core::xds::{self as protocol, Malformed, Response, Session, Variant};
use segue_shared::ids::Revision;
use segue_shared::xds_names::IDENTITY_SECRET;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use super::Settings;
use super::chunks::Chunks;
use super::frames::Requests;
use super::open::{OpenStreams, Place};
use super::pace::Pace;
use super::secrets::NodeSecrets;
use super::snapshot_cache::{SnapshotCache, Snapshots};
use super::status::{acked, introduction};
use super::time_to_live::time_to_live;
use crate::fleet::{Acked, Fleet, Presence, StreamKind};
use crate::identity::Membership;
use crate::metrics::StreamMetrics;

/// Time for the first request of a stream.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Time for a client to ACK or NACK before what comes next no longer waits for it.
const ANSWER: Duration = Duration::from_secs(5);
/// Time for a first configuration to serve. A start takes less; where the store does not answer, or
/// holds what this release refuses, another control plane may have one.
const FIRST_PUBLICATION: Duration = Duration::from_secs(5);
/// Heartbeats within the time to live of a resource, so that one may be late and one be lost.
const HEARTBEATS: u32 = 3;

/// What all streams share, those of reports and loads among them.
#[derive(Clone, Debug)]
pub(super) struct Ads {
    pub cache: SnapshotCache,
    pub fleet: Fleet,
    pub open: OpenStreams,
    pub metrics: StreamMetrics,
    pub settings: Arc<Settings>,
    /// `None`: this control plane is no authority.
    pub membership: Option<Arc<Membership>>,
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
        // Boxed, as what it needs goes when it ends.
        let met = Box::pin(Conversation::<V>::meet(&ads, &mut place, &mut requests)).await?;
        let Some(mut client) = met else {
            return;
        };
        loop {
            if client.has_new_secrets() {
                Box::pin(client.refresh_secrets()).await;
            }
            while let Some(response) = client.respond() {
                let type_url = Arc::clone(&response.type_url);
                let mut chunks = Chunks::<V>::of(response);
                place.unless_stopped(pin!(place.may_push(chunks.bytes()))).await?;
                ads.metrics.pushed(&type_url, chunks.bytes());
                while let Some(chunk) = chunks.next()? {
                    place.sending();
                    yield chunk;
                    place.took();
                }
                place.sent();
                client.pushed();
            }
            client.tell_fleet();
            let event = {
                let event = pin!(client.next_event(&mut requests));
                place.unless_stopped(event).await?
            };
            match event {
                Event::Request(request) => match request? {
                    Some(request) => client.receive(request, &ads.metrics)?,
                    None => return,
                },
                Event::Snapshot => client.offer_newest(&ads.metrics),
                // They are looked at before each response.
                Event::Secrets | Event::Alarm(Alarm::Secrets) => {}
                Event::Alarm(Alarm::NoAnswer) => client.stop_waiting(&ads.metrics),
                Event::Alarm(Alarm::Heartbeat) => client.beat(&ads.metrics),
                Event::Alarm(Alarm::OldAge) => {
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
    Secrets,
    Alarm(Alarm),
}

/// What time alone brings.
#[derive(Clone, Copy)]
enum Alarm {
    /// The client owes an ACK or a NACK for too long.
    NoAnswer,
    /// Resources with a time to live are to be renewed.
    Heartbeat,
    /// An identity that was given is to be renewed.
    Secrets,
    OldAge,
}

/// When heartbeats are sent.
struct Beat {
    every: Duration,
    at: Instant,
}

/// What a stream knows of its client.
struct Conversation<V: Variant> {
    node_id: Arc<str>,
    session: Session<V>,
    /// Heartbeats that wait to be sent.
    beats: Vec<Response>,
    beat: Option<Beat>,
    snapshots: Snapshots,
    /// Whether the session was offered a snapshot that it may not have begun.
    offered: bool,
    presence: Option<Presence>,
    secrets: Option<Box<NodeSecrets>>,
    told: Acked,
    /// When what the session waits for is given up; counted from when it began to wait, or from the
    /// last response.
    answer_until: Option<Instant>,
    /// Whether it has been late with an answer, which is logged once.
    owes: bool,
    /// When the stream ends.
    until: Instant,
    pace: Pace,
    /// When the next request may be read, where that is later than now.
    read_after: Option<Instant>,
}

impl<V> Conversation<V>
where
    V: Variant,
    V::Request: Message + Default,
{
    /// Reads the first request, which says who the client is. `None` where it left without one.
    async fn meet(
        ads: &Ads,
        place: &mut Place,
        requests: &mut Requests<V::Request>,
    ) -> Result<Option<Box<Self>>, Status> {
        let first = loop {
            match place.unless_stopped(timeout(FIRST_REQUEST, requests.next())).await? {
                Ok(first) => break first?,
                // It is we who have not read it yet.
                Err(_) if requests.is_large() => {}
                Err(_) => {
                    ads.metrics.refused("silent");
                    return Err(Status::deadline_exceeded("no request came"));
                }
            }
        };
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
        let ttl = time_to_live(&node).map_err(|error| {
            ads.metrics.refused("node");
            Status::invalid_argument(error.to_string())
        })?;
        let able = protocol::Client { asks_in_part: !only, ..protocol::Client::of(&node, ttl) };
        place.may_be(class.service.as_ref())?;
        place.introduce(&node.id, kind, only)?;
        let published = timeout(FIRST_PUBLICATION, ads.cache.published());
        if place.unless_stopped(published).await?.is_err() {
            ads.metrics.refused("unpublished");
            return Err(Status::unavailable(
                "this control plane has no configuration to serve yet: try another one, or again",
            ));
        }
        let presence = ads.fleet.enter(introduction(&node, &class, place.peer()), StreamKind::Xds);
        tracing::debug!(node = node.id, peer = ?place.peer(), ?class, "stream opened");

        let member = place.member().cloned();
        let secrets = ads.membership.as_ref().map(|membership| {
            let (id, service) = (&node.id, class.service.clone());
            Box::new(NodeSecrets::of(membership, id, service, member.as_ref()))
        });
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
            tracing::warn!(
                node = node.id,
                "the client has a configuration and this store was never written to: the client \
                 keeps what it has until something is applied"
            );
        }
        let now = Instant::now();
        let mut client = Box::new(Self {
            node_id: node.id.into(),
            session: Session::new(snapshot, able),
            beats: Vec::new(),
            beat: able.ttl.map(|ttl| Beat { every: ttl / HEARTBEATS, at: now + ttl / HEARTBEATS }),
            offered: false,
            snapshots,
            presence,
            secrets,
            told: Acked::default(),
            answer_until: None,
            owes: false,
            until: now + ads.settings.stream_age(place.draw()),
            pace: Pace::new(now),
            read_after: None,
        });
        if let Some(secrets) = &client.secrets {
            client.session.show_secrets(secrets.shown());
        }
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

    fn respond(&mut self) -> Option<Response> {
        self.beats.pop().or_else(|| self.session.respond())
    }

    fn has_new_secrets(&self) -> bool {
        let wants_identity = self.session.wants_secret(IDENTITY_SECRET);
        self.secrets.as_ref().is_some_and(|secrets| secrets.are_due(wants_identity))
    }

    async fn refresh_secrets(&mut self) {
        let Some(secrets) = &mut self.secrets else { return };
        let wants_identity = self.session.wants_secret(IDENTITY_SECRET);
        if secrets.refresh(wants_identity).await {
            self.session.show_secrets(secrets.shown());
        }
    }

    fn pushed(&mut self) {
        self.answer_until = None;
        self.offered = false;
    }

    /// What was offered before and not begun is skipped, as is what came while nobody looked.
    fn offer_newest(&mut self, metrics: &StreamMetrics) {
        let (newest, skipped) = self.snapshots.newest();
        let replaced = u64::from(self.offered);
        metrics.merged_forward.inc_by(skipped + replaced);
        self.offered = self.session.is_waiting();
        self.session.offer(newest);
    }

    fn beat(&mut self, metrics: &StreamMetrics) {
        self.beats = self.session.heartbeat();
        metrics.heartbeats.inc_by(self.beats.len() as u64);
        if let Some(beat) = &mut self.beat {
            beat.at = Instant::now() + beat.every;
        }
    }

    fn stop_waiting(&mut self, metrics: &StreamMetrics) {
        if !std::mem::replace(&mut self.owes, true) {
            tracing::warn!(
                node = &*self.node_id,
                "no ACK, NACK or request that must follow within {ANSWER:?}: going on"
            );
        }
        metrics.unanswered.inc();
        self.session.stop_waiting();
    }

    fn tell_fleet(&mut self) {
        if let Some(secrets) = &self.secrets {
            secrets.taken(&self.session);
        }
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
        let read_after = self.read_after;
        let (at, alarm) = self.alarm();
        let secrets = async {
            match &mut self.secrets {
                Some(secrets) => secrets.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = async {
                if let Some(at) = read_after {
                    sleep_until(at).await;
                }
                requests.next().await
            } => Event::Request(request),
            true = self.snapshots.changed() => Event::Snapshot,
            () = secrets => Event::Secrets,
            () = sleep_until(at) => Event::Alarm(alarm),
        }
    }

    /// What time alone brings next, and when.
    fn alarm(&mut self) -> (Instant, Alarm) {
        let until = self.answer_until.unwrap_or_else(|| Instant::now() + ANSWER);
        self.answer_until = self.session.is_waiting().then_some(until);
        let answer = self.answer_until.map(|until| (until, Alarm::NoAnswer));
        let beat = self.beat.as_ref().map(|beat| (beat.at, Alarm::Heartbeat));
        let due = self.secrets.as_ref().and_then(|secrets| secrets.due());
        let due = due.map(|due| (due, Alarm::Secrets));
        let first = [answer, beat, due].into_iter().flatten().min_by_key(|(at, _)| *at);
        first.filter(|(at, _)| *at < self.until).unwrap_or((self.until, Alarm::OldAge))
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

#[cfg(test)]
mod tests;
