//! The fleet: every node that is connected or lately was, what it accepted and what it runs.
//!
//! Two streams tell of a node. Its xDS stream says which revision it ACKed whole and what it
//! refused; the report stream of a sidecar says what requests really run on, which an ACK cannot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use segue_shared::ids::Revision;
use tokio::sync::watch;
use tokio::time::Instant;

/// Most nodes that are kept at one time.
const MAX_NODES: usize = 20_000;
/// Time after which a node that is gone is forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// The registry of nodes. Clones share it.
#[derive(Clone, Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
}

/// One node as `segue.admin.v1.Sidecar` tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarStatus {
    pub node_id: String,
    /// Service that it stands next to, `namespace/name`; empty for other xDS clients.
    pub service: String,
    /// Version of that service.
    pub version: String,
    /// Release of Segue, or the client's own name.
    pub release: String,
    /// Where it is connected from; empty where unknown.
    pub address: String,
    /// Whether a stream is open.
    pub connected: bool,
    /// Since when it is connected, or gone.
    pub since: SystemTime,
    /// Newest revision that it ACKed whole.
    pub accepted_revision: Revision,
    /// Newest revision that its requests run on; none for clients without a report stream.
    pub activated_revision: Revision,
    /// What it refuses now.
    pub rejections: Vec<Rejection>,
    /// Requests that it sent to each version since it started.
    pub traffic: Vec<VersionTraffic>,
    /// Whether it tells its activated revision, or is one of our sidecars and about to.
    pub reports: bool,
}

/// One resource that a node refuses. Its last good version serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub type_url: String,
    pub resource: String,
    /// Path of the field; empty where unknown.
    pub field_path: String,
    pub reason: String,
    /// The revision with which it came; none where unknown.
    pub revision: Revision,
}

/// Requests to one version, counted since the sidecar started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTraffic {
    /// `namespace/name`.
    pub service: String,
    pub version: String,
    pub requests: u64,
    /// No answer, or 5xx.
    pub failures: u64,
}

/// How a node introduces itself on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    pub node_id: String,
    /// Empty where the stream does not say.
    pub service: String,
    /// Empty where the stream does not say.
    pub version: String,
    /// Empty where the stream does not say.
    pub release: String,
    /// Empty where unknown.
    pub address: String,
    /// Whether it is one of our sidecars: a report stream will follow, or is this one.
    pub is_sidecar: bool,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Xds,
    Report,
}

/// An open stream of a node. Dropping it closes the stream in the registry. Where a node has
/// opened a newer stream of the same kind, what the older one tells is ignored.
#[derive(Debug)]
pub struct Presence {
    fleet: Fleet,
    node_id: String,
    kind: StreamKind,
    generation: u64,
}

#[derive(Debug)]
struct Shared {
    registry: Mutex<Registry>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Registry {
    nodes: BTreeMap<String, Node>,
    generation: u64,
}

#[derive(Debug)]
struct Node {
    introduction: Introduction,
    since: SystemTime,
    /// `None` while a stream is open.
    gone: Option<Instant>,
    xds: Option<u64>,
    report: Option<u64>,
    /// Whether a report has come since the node last appeared.
    reports: bool,
    acked: Acked,
    delivery: Delivery,
    traffic: Vec<VersionTraffic>,
}

/// What the ACKs and NACKs of an xDS stream say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    pub accepted: Revision,
    pub rejections: Vec<Rejection>,
}

/// What a sidecar reports about its revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub accepted: Revision,
    pub activated: Revision,
    pub rejections: Vec<Rejection>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    pub fn new() -> Self {
        let shared = Shared { registry: Mutex::default(), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Every node that is connected, or has been within the last hour, in the order of service,
    /// version and node id.
    pub fn sidecars(&self) -> Vec<SidecarStatus> {
        let mut registry = self.registry();
        registry.forget(Instant::now());
        let mut all: Vec<SidecarStatus> = registry.nodes.values().map(Node::status).collect();
        drop(registry);
        all.sort_by(|a, b| {
            (&a.service, &a.version, &a.node_id).cmp(&(&b.service, &b.version, &b.node_id))
        });
        all
    }

    /// A number that grows when a node comes or goes, accepts, activates or refuses. Counts of
    /// requests do not move it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Enters a stream. `None` where the registry is full of connected nodes: such a node is
    /// served, and only missing in the status.
    pub fn enter(&self, introduction: Introduction, kind: StreamKind) -> Option<Presence> {
        let node_id = introduction.node_id.clone();
        let generation = self.registry().enter(introduction, kind, Instant::now());
        if generation.is_none() {
            tracing::warn!(node = node_id, "too many nodes: this one is missing in the status");
        }
        self.tell();
        Some(Presence { fleet: self.clone(), node_id, kind, generation: generation? })
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
        self.note(|node| {
            let news = node.acked != acked;
            node.acked = acked;
            news
        });
    }

    /// Notes a report about revisions.
    pub fn delivered(&self, delivery: Delivery) {
        self.note(|node| {
            let news = !node.reports || node.delivery != delivery;
            node.reports = true;
            node.delivery = delivery;
            news
        });
    }

    /// Notes a report of totals.
    pub fn counted(&self, traffic: Vec<VersionTraffic>) {
        self.note(|node| {
            node.traffic = traffic;
            false
        });
    }

    /// Changes the node unless a newer stream speaks for it; `change` says whether it is news.
    fn note(&self, change: impl FnOnce(&mut Node) -> bool) {
        let mut registry = self.fleet.registry();
        let news = registry.nodes.get_mut(&self.node_id).is_some_and(|node| {
            let current = *node.stream(self.kind) == Some(self.generation);
            current && change(node)
        });
        drop(registry);
        if news {
            self.fleet.tell();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.note(|node| {
            *node.stream(self.kind) = None;
            let gone = node.xds.is_none() && node.report.is_none();
            if gone {
                node.gone = Some(Instant::now());
                node.since = SystemTime::now();
            }
            gone
        });
    }
}

impl Registry {
    fn enter(&mut self, new: Introduction, kind: StreamKind, now: Instant) -> Option<u64> {
        if !self.nodes.contains_key(&new.node_id) && !self.make_room(now) {
            return None;
        }
        self.generation += 1;
        let generation = self.generation;
        let node = self.nodes.entry(new.node_id.clone()).or_insert_with(|| Node::unknown(now));
        if node.gone.take().is_some() {
            node.since = SystemTime::now();
            node.reports = false;
            node.acked = Acked::default();
            node.delivery = Delivery::default();
        }
        node.introduction.learn(new);
        *node.stream(kind) = Some(generation);
        Some(generation)
    }

    /// Forgets nodes that are long gone, and where that is not enough the one gone longest.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.nodes.len() < MAX_NODES {
            return true;
        }
        self.forget(now);
        if self.nodes.len() < MAX_NODES {
            return true;
        }
        let gone = self.nodes.iter().filter_map(|(id, node)| Some((node.gone?, id.clone())));
        match gone.min() {
            Some((_, id)) => self.nodes.remove(&id).is_some(),
            None => false,
        }
    }

    fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, node| {
            node.gone.is_none_or(|gone| now.saturating_duration_since(gone) < FORGET_AFTER)
        });
    }
}

impl Node {
    fn unknown(now: Instant) -> Self {
        Self {
            introduction: Introduction::default(),
            since: SystemTime::now(),
            gone: Some(now),
            xds: None,
            report: None,
            reports: false,
            acked: Acked::default(),
            delivery: Delivery::default(),
            traffic: Vec::new(),
        }
    }

    fn stream(&mut self, kind: StreamKind) -> &mut Option<u64> {
        match kind {
            StreamKind::Xds => &mut self.xds,
            StreamKind::Report => &mut self.report,
        }
    }

    fn status(&self) -> SidecarStatus {
        let who = self.introduction.clone();
        // A sidecar names the field that it refuses, so its own report is the better one.
        let rejections = if self.reports && !self.delivery.rejections.is_empty() {
            self.delivery.rejections.clone()
        } else {
            self.acked.rejections.clone()
        };
        let accepted = if self.reports { self.delivery.accepted } else { self.acked.accepted };
        SidecarStatus {
            node_id: who.node_id,
            service: who.service,
            version: who.version,
            release: who.release,
            address: who.address,
            connected: self.gone.is_none(),
            since: self.since,
            accepted_revision: accepted,
            activated_revision: self.delivery.activated,
            rejections,
            traffic: self.traffic.clone(),
            reports: self.reports || self.introduction.is_sidecar,
        }
    }
}

impl Introduction {
    /// Takes over what `new` says and keeps what it is silent about.
    fn learn(&mut self, new: Self) {
        let take = |old: &mut String, new: String| {
            if !new.is_empty() {
                *old = new;
            }
        };
        take(&mut self.node_id, new.node_id);
        take(&mut self.service, new.service);
        take(&mut self.version, new.version);
        take(&mut self.release, new.release);
        take(&mut self.address, new.address);
        self.is_sidecar |= new.is_sidecar;
    }
}

#[cfg(test)]
mod tests;
