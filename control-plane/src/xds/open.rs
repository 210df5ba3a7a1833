//! The streams that are open: how many, one for each sidecar, and which of them stand still.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use segue_control_plane_core::xds::PART_BYTES;
use segue_shared::ids::ServiceName;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::PollSemaphore;
use tonic::Status;

use super::Settings;
use crate::access::{Addresses, Connections, Member, Share, Ticket, scattered};
use crate::metrics::StreamMetrics;

/// How often streams are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time after which a client that takes nothing no longer holds up others that wait to be served.
const SLOW: Duration = Duration::from_secs(2);

/// The registry of open streams; clones share it.
#[derive(Clone, Debug)]
pub(super) struct OpenStreams {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    drain: DrainSignal,
    metrics: StreamMetrics,
    connections: Connections,
    places: Arc<Semaphore>,
    pushes: Arc<Semaphore>,
    /// Large requests at one time: each is held until all of it is there.
    requests: Arc<Semaphore>,
    begin: Instant,
    /// Time for a client to take a part of a response; then its connection is cut.
    stalled_after: Duration,
    registry: Mutex<Registry>,
}

#[derive(Debug)]
struct Registry {
    serial: u64,
    addresses: Addresses,
    streams: HashMap<u64, Arc<Entry>>,
    nodes: HashMap<Arc<str>, NodeStreams>,
}

/// The streams of one node id.
#[derive(Debug, Default)]
struct NodeStreams {
    newest: u64,
    open: usize,
    /// Who has the id, where that was shown.
    owner: Option<ServiceName>,
    /// How often a newer stream came while one was open.
    duplicates: u64,
}

#[derive(Debug)]
struct Entry {
    peer: Option<SocketAddr>,
    ticket: Ticket,
    /// Ends the stream. The drain does so too.
    stop: DrainSignal,
    /// Why, where it is not the drain.
    why: OnceLock<Status>,
    sending: Turn,
    receiving: Turn,
    /// Whether its connection was cut because of it.
    cut: AtomicBool,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Turn {
    /// Since when the client is waited for, in milliseconds since the beginning; 0 while it is not.
    since: AtomicU64,
    /// The right to a large message.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The right to read large requests of a stream.
#[derive(Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    turns: PollSemaphore,
}

/// An open stream. Dropping it leaves the registry.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    serial: u64,
    entry: Arc<Entry>,
    known: Option<(Arc<str>, &'static str)>,
    _permit: OwnedSemaphorePermit,
}

impl OpenStreams {
    pub fn new(
        settings: &Settings,
        connections: Connections,
        metrics: StreamMetrics,
        drain: DrainSignal,
    ) -> Self {
        let share = Share::of(settings.xds_max_streams, settings.xds_max_streams_per_address);
        let semaphore = |most: u32| Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(0)));
        let shared = Shared {
            drain,
            metrics,
            connections,
            places: semaphore(settings.xds_max_streams),
            pushes: semaphore(settings.xds_max_pushes),
            requests: semaphore(settings.xds_max_pushes),
            begin: Instant::now(),
            stalled_after: Duration::from_secs(u64::from(settings.xds_stalled_seconds)),
            registry: Mutex::new(Registry::new(share)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A registry of its own.
    #[cfg(test)]
    pub fn alone(settings: &Settings, metrics: &StreamMetrics) -> Self {
        let connections = Connections::new(settings.limits(), metrics.connections.clone());
        Self::new(settings, connections, metrics.clone(), DrainSignal::new())
    }

    /// A place for a stream, whose client has yet to say who it is.
    pub fn enter(&self, peer: Option<SocketAddr>, ticket: Ticket) -> Result<Place, Status> {
        let shared = Arc::clone(&self.shared);
        let permit = Arc::clone(&shared.places).try_acquire_owned().map_err(|_| {
            shared.metrics.refused("streams");
            Status::resource_exhausted("this control plane serves as many streams as it may")
        })?;
        let entry = Arc::new(Entry {
            peer,
            ticket,
            stop: shared.drain.child_token(),
            why: OnceLock::new(),
            sending: Turn::default(),
            receiving: Turn::default(),
            cut: AtomicBool::new(false),
        });
        let mut registry = shared.registry();
        if peer.is_some_and(|peer| !registry.addresses.enter(peer.ip())) {
            drop(registry);
            shared.metrics.refused("streams_of_address");
            return Err(Status::resource_exhausted(
                "this control plane serves as many streams of one address as it may \
                 (--xds-max-streams-per-address)",
            ));
        }
        registry.serial += 1;
        let serial = registry.serial;
        registry.streams.insert(serial, Arc::clone(&entry));
        drop(registry);
        Ok(Place { shared, serial, entry, known: None, _permit: permit })
    }

    /// Watches for clients that take nothing and for those that may be here no more, without end.
    pub async fn watch(&self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        let now = self.shared.now();
        let mut stalled = 0;
        let mut cut = Vec::new();
        for entry in self.shared.registry().streams.values() {
            if entry.ticket.is_revoked() {
                let why = Status::unauthenticated("the join token is not a valid one any more");
                entry.end(why, "revoked", &self.shared.metrics);
            }
            let waited = [&entry.sending, &entry.receiving].map(|turn| turn.waited(now));
            let waited = waited.into_iter().max().unwrap_or_default();
            if waited < SLOW.min(self.shared.stalled_after) {
                continue;
            }
            stalled += 1;
            entry.sending.release();
            entry.receiving.release();
            if waited >= self.shared.stalled_after && !entry.cut.swap(true, Ordering::Relaxed) {
                cut.extend(entry.peer);
            }
        }
        self.shared.metrics.stalled.set(stalled);
        for peer in cut {
            tracing::warn!(%peer, "a client takes nothing: it is cut off");
            self.shared.metrics.ended("stalled");
            self.shared.connections.cut(peer);
        }
    }
}

impl Place {
    /// The client says who it is. Where it is the `only` stream that its node may have, an older
    /// one of the same node ends: it belongs to a connection that is dead and does not know it yet.
    /// Other nodes may share an id: replicas of an Envoy do, and so do the channels of one gRPC
    /// process.
    ///
    /// An id that a workload has shown to be its own is refused to all others.
    pub fn introduce(
        &mut self,
        node_id: &str,
        kind: &'static str,
        only: bool,
    ) -> Result<(), Status> {
        let mut registry = self.shared.registry();
        let node_id = match registry.nodes.get_key_value(node_id) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(node_id),
        };
        let mine = self.entry.ticket.member().map(|member| &member.service);
        let node = registry.nodes.entry(Arc::clone(&node_id)).or_default();
        if node.open > 0 && node.owner.is_some() && node.owner.as_ref() != mine {
            self.shared.metrics.refused("node_id");
            return Err(Status::permission_denied(
                "a workload of another identity has this node id: give each node one of its own",
            ));
        }
        node.owner = mine.cloned();
        let older = (node.open > 0).then_some(node.newest);
        node.open += 1;
        node.newest = self.serial;
        if let Some(older) = older {
            node.duplicates += 1;
            let duplicates = node.duplicates;
            let older = registry.streams.get(&older).cloned();
            self.told_of_duplicate(&node_id, duplicates, only, older.as_deref());
        }
        drop(registry);
        self.shared.metrics.opened(kind);
        self.known = Some((node_id, kind));
        Ok(())
    }

    /// Who the client has shown to be.
    pub fn member(&self) -> Option<&Member> {
        self.entry.ticket.member()
    }

    /// Whether the client may say that it is an instance of a service.
    pub fn may_be(&self, service: Option<&ServiceName>) -> Result<(), Status> {
        let Some(member) = self.entry.ticket.member() else { return Ok(()) };
        if service == Some(&member.service) {
            return Ok(());
        }
        self.shared.metrics.refused("other_service");
        let own = &member.service;
        Err(Status::permission_denied(format!(
            "the client has shown that it is an instance of {own}, and says to be one of another \
             service: node.cluster is {own:?} then",
            own = own.to_string(),
        )))
    }

    fn told_of_duplicate(&self, node: &str, count: u64, only: bool, older: Option<&Entry>) {
        self.shared.metrics.duplicate_nodes.inc();
        let (peer, other) = (self.entry.peer, older.and_then(|older| older.peer));
        if only && let Some(older) = older {
            let why = Status::aborted("a newer stream of this node took over");
            older.end(why, "newer_stream", &self.shared.metrics);
        }
        // Two nodes that fight over an id do it for ever.
        if only && count > 1 && count.is_power_of_two() {
            tracing::warn!(
                node,
                ?peer,
                ?other,
                count,
                "this node id is taken over again and again: give each node an id of its own"
            );
        } else {
            tracing::debug!(node, ?peer, ?other, count, "a second stream of this node id");
        }
    }

    /// Does some work unless the stream must end; then says why.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Status> {
        self.entry.stop.run_until_cancelled(work).await.ok_or_else(|| {
            self.entry.why.get().cloned().unwrap_or_else(|| {
                Status::unavailable("this control plane serves no more: connect again")
            })
        })
    }

    /// Where the client connects from.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.entry.peer
    }

    /// A number that differs from stream to stream, and says nothing else.
    pub fn draw(&self) -> u64 {
        scattered(self.serial)
    }

    /// Waits until a response of so many bytes may be sent; until [`Place::sent`].
    pub async fn may_push(&self, bytes: usize) {
        if bytes <= PART_BYTES {
            return;
        }
        // Never closed.
        if let Ok(permit) = Arc::clone(&self.shared.pushes).acquire_owned().await {
            *self.entry.sending.permit() = Some(permit);
        }
    }

    /// A part of a response is handed over.
    pub fn sending(&self) {
        self.entry.sending.begin(self.shared.now());
    }

    /// The client took the part before last: there is room for another.
    pub fn took(&self) {
        self.entry.sending.end();
    }

    /// All of a response is handed over.
    pub fn sent(&self) {
        self.entry.sending.release();
    }

    /// The right to read large requests of this stream.
    pub fn inbox(&self) -> Inbox {
        let turns = PollSemaphore::new(Arc::clone(&self.shared.requests));
        Inbox { shared: Arc::clone(&self.shared), entry: Arc::clone(&self.entry), turns }
    }
}

impl Inbox {
    /// Waits for the turn of a large request; until [`Inbox::end`].
    pub fn poll_begin(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Never closed.
        let permit = ready!(self.turns.poll_acquire(context));
        *self.entry.receiving.permit() = permit;
        self.entry.receiving.begin(self.shared.now());
        Poll::Ready(())
    }

    /// All of the request is there.
    pub fn end(&self) {
        self.entry.receiving.end();
        self.entry.receiving.release();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entry.sending.release();
        self.entry.receiving.release();
        let mut registry = self.shared.registry();
        registry.streams.remove(&self.serial);
        if let Some(peer) = self.entry.peer {
            registry.addresses.leave(peer.ip());
        }
        let Some((node_id, kind)) = self.known.take() else { return };
        if let Some(node) = registry.nodes.get_mut(&node_id) {
            node.open -= 1;
            if node.open == 0 {
                registry.nodes.remove(&node_id);
            }
        }
        drop(registry);
        self.shared.metrics.closed(kind);
    }
}

impl Registry {
    fn new(share: Share) -> Self {
        let (streams, nodes) = (HashMap::new(), HashMap::new());
        Self { serial: 0, addresses: Addresses::new(share), streams, nodes }
    }
}

impl Entry {
    /// Ends the stream, for the first reason that there is.
    fn end(&self, why: Status, word: &'static str, metrics: &StreamMetrics) {
        if self.why.set(why).is_ok() {
            metrics.ended(word);
            self.stop.cancel();
        }
    }
}

impl Turn {
    fn begin(&self, now: u64) {
        self.since.store(now.max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// How long the client has been waited for.
    fn waited(&self, now: u64) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now.saturating_sub(since)),
        }
    }

    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets another stream have its turn.
    fn release(&self) {
        self.permit().take();
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
