//! The fleet: every node that is connected or lately was, what it accepted and what it runs.
//!
//! Three streams tell of a node. Its xDS stream says which revision it ACKed whole and what it
//! refused; the report stream of a sidecar says what requests really run on, which an ACK cannot;
//! Envoys and gRPC clients report their load on a stream of its own. Each node is one small record,
//! and how many run on which revision is counted as they tell it, so that a wait and a scrape cost
//! what they answer, not what is connected.

mod held_back;
mod index;
mod loads;
mod node;
mod progress;
mod published;
mod record;
mod registry;
mod replicas;
mod streams;
mod summary;
mod unsettled;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use segue_control_plane_core::config::MeshConfig;
use segue_control_plane_core::xds::Holding;
use segue_shared::ids::Revision;
use tokio::sync::watch;
use tokio::time::Instant;

use node::Node;
use registry::Registry;
use replicas::Replicas;

pub use held_back::Gate;
pub use progress::{Counts, Group, Progress, Standings};
pub use record::{
    Acked, Delivery, Holder, Introduction, Load, Place, Refused, Rejection, SidecarStatus,
    VersionTraffic,
};
pub use replicas::{MOST_REPLICAS, ReplicaId};
pub use summary::Summary;
pub use unsettled::{Unsettled, Why};

/// Longest node id that is registered, in bytes.
const MAX_NODE_ID_BYTES: usize = 1024;

/// What operators choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time on an old revision after which a connected node counts as stale. Default 15 s.
    pub stale_after: Duration,
    /// Time between reports of counts that nodes are asked for. Default 1 s.
    pub report_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(15), report_interval: Duration::from_secs(1) }
    }
}

/// The registry of nodes. Clones share it.
#[derive(Clone, Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Xds,
    Report,
    /// Load reports of other xDS clients.
    Load,
}

/// An open stream of a node. Dropping it closes the stream in the registry. Where a sidecar has
/// opened a newer stream of the same kind, what the older one tells is ignored.
#[derive(Debug)]
pub struct Presence {
    fleet: Fleet,
    node_id: Arc<str>,
    /// The number of the stream.
    stream: u64,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    known_since: SystemTime,
    /// Taken before `replicas` where both are.
    registry: Mutex<Registry>,
    replicas: Mutex<Replicas>,
    changed: watch::Sender<u64>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// An empty registry with default settings.
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            known_since: SystemTime::now(),
            registry: Mutex::default(),
            replicas: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn settings(&self) -> Settings {
        self.shared.settings
    }

    /// Since when nodes are registered: one that was connected before and has not come back is
    /// not known here.
    pub fn known_since(&self) -> SystemTime {
        self.shared.known_since
    }

    /// A configuration is offered to nodes from now on. Those that stay on an earlier revision are
    /// behind.
    pub fn published(&self, config: Arc<MeshConfig>) {
        let mut registry = self.registry();
        registry.published.note(config.revision, Instant::now());
        registry.config = config;
    }

    /// The newest revision that nodes are offered.
    pub fn published_revision(&self) -> Revision {
        self.registry().config.revision
    }

    /// What this control plane keeps from nodes from now on, as far as one gate decides it.
    pub fn hold_back(&self, gate: Gate, held: Vec<Refused>) {
        if self.registry().held_back.replace(gate, held) {
            self.tell();
        }
    }

    /// What this control plane keeps from nodes.
    pub fn held_back(&self) -> Vec<Refused> {
        self.registry().held_back.iter().cloned().collect()
    }

    /// Every node that is connected, or has been within the last hour, in the order of service,
    /// version and node id.
    pub fn sidecars(&self) -> Vec<SidecarStatus> {
        self.page(None, None, usize::MAX).0
    }

    /// The first `most` nodes behind a place, of one service where one is named, and whether more
    /// follow.
    pub fn page(
        &self,
        service: Option<&str>,
        after: Option<&Place>,
        most: usize,
    ) -> (Vec<SidecarStatus>, bool) {
        let stale_after = self.shared.settings.stale_after;
        let now = Instant::now();
        let mut registry = self.registry();
        registry.forget(now);
        let tell = |node: &Node| node.status(&registry.published, now, stale_after);
        registry.page(service, after, most, tell)
    }

    /// How far a revision is, on the nodes of all control planes.
    pub fn progress(&self, revision: Revision) -> Progress {
        self.progress_of_all(revision)
    }

    /// What is held back or refused of nodes that do not run on a revision yet, with whichever
    /// revision it came, on all control planes.
    pub fn in_the_way(&self, revision: Revision) -> Vec<Refused> {
        self.in_the_way_of_all(revision)
    }

    /// How many there are of what, on this control plane.
    pub fn counts(&self) -> Counts {
        let (now, stale_after) = (Instant::now(), self.shared.settings.stale_after);
        self.registry().counts(now, stale_after)
    }

    /// Which revisions the nodes of each service have reached, and what is refused, on all control
    /// planes.
    pub fn standings(&self) -> Standings {
        self.standings_of_all()
    }

    /// What the clients of xDS streams hold, of nodes whose id is asked for, in the order of ids.
    pub fn holders(&self, is_asked: impl Fn(&str) -> bool) -> Vec<Holder> {
        self.registry().holders(is_asked)
    }

    /// A number that grows when a node comes or goes, accepts, activates or refuses, and when
    /// something is held back. Counts of requests do not move it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Enters a stream. `None` where the registry is full of connected nodes: such a node is
    /// served, and only missing in the status.
    pub fn enter(&self, introduction: Introduction, kind: StreamKind) -> Option<Presence> {
        let node_id: Arc<str> = introduction.node_id.as_str().into();
        let fits = node_id.len() <= MAX_NODE_ID_BYTES;
        let stream = fits
            .then(|| self.registry().enter(&node_id, introduction, kind, Instant::now()))
            .flatten();
        if stream.is_none() {
            let node = &node_id[..node_id.floor_char_boundary(MAX_NODE_ID_BYTES)];
            tracing::warn!(node, "too many nodes, or too long an id: missing in the status");
        }
        self.tell();
        Some(Presence { fleet: self.clone(), node_id, stream: stream? })
    }

    fn tell(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Notes what the xDS stream ACKed and refused.
    pub fn acked(&self, acked: Acked) {
        self.note(|node| node.acked(self.stream, acked));
    }

    /// Notes what the client of the xDS stream asked for and holds.
    pub fn holds(&self, holding: Holding) {
        self.note(|node| {
            node.holds(self.stream, holding);
            false
        });
    }

    /// Notes a report about revisions.
    pub fn delivered(&self, delivery: Delivery) {
        self.note(|node| node.delivered(self.stream, delivery));
    }

    /// Notes a report of totals.
    pub fn counted(&self, traffic: Vec<VersionTraffic>) {
        self.note(|node| {
            node.counted(self.stream, traffic);
            false
        });
    }

    /// Notes a load report: what came on top of what was reported before, and how many clusters of
    /// it stand for no version.
    pub fn loaded(&self, loads: Vec<Load>, ignored: usize) {
        let mut left_out = 0;
        self.note(|node| {
            left_out = node.loaded(self.stream, loads);
            false
        });
        if left_out + ignored > 0 {
            self.fleet.registry().loads_ignored += left_out + ignored;
        }
    }

    /// Changes the node; `change` says whether it is news.
    fn note(&self, change: impl FnOnce(&mut Node) -> bool) {
        if self.fleet.registry().note(&self.node_id, change) {
            self.fleet.tell();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let now = Instant::now();
        self.note(|node| node.leave(self.stream, now));
    }
}

#[cfg(test)]
mod tests;
