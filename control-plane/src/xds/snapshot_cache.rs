//! Compiled snapshots, one for each class of node, shared by all streams.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use segue_control_plane_core::compile::{
    Compiler, MAX_RESOURCE_BYTES, NodeClass, NodeKind, Problems, ResolvedEndpoints,
};
use segue_control_plane_core::config::mesh::MeshConfig;
use segue_control_plane_core::snapshot::XdsSnapshot;
use segue_shared::ids::Revision;
use segue_shared::spiffe::TrustDomain;
use tokio::sync::watch;

use crate::metrics::StreamMetrics;

/// Most kinds of node at one time: addresses of outbound listeners, in the main. Each is compiled.
const MAX_KINDS: usize = 64;
/// Most classes at one time: instances of so many services, of all kinds.
const MAX_CLASSES: usize = 16_384;

/// The snapshots. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SnapshotCache {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    metrics: StreamMetrics,
    /// Who compiles holds this, so one at a time. Taken before `classes`, and only on threads that
    /// may block.
    compiled: Mutex<Compiled>,
    /// Held for moments: streams that open look here first.
    classes: RwLock<HashMap<NodeClass, watch::Sender<Published>>>,
    published: watch::Sender<bool>,
    withheld: watch::Sender<Vec<Withheld>>,
}

/// A configuration that nodes of one kind are not sent. They keep the last good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    pub kind: NodeKind,
    pub revision: Revision,
    /// The revision that they keep.
    pub kept: Revision,
    pub problems: Problems,
}

/// What the snapshots are compiled of, and by whom.
#[derive(Debug)]
struct Compiled {
    domain: TrustDomain,
    config: Arc<MeshConfig>,
    endpoints: Arc<ResolvedEndpoints>,
    compilers: HashMap<NodeKind, Compiler>,
    max_resource_bytes: usize,
    /// Kinds of node that are not sent the newest configuration.
    withheld: BTreeMap<NodeKind, Withheld>,
}

#[derive(Clone, Debug, Default)]
struct Published {
    /// Counts the snapshots of a class.
    serial: u64,
    snapshot: Arc<XdsSnapshot>,
}

/// The snapshots of a class: the newest now, and every one that is newest at some later look.
#[derive(Debug)]
pub struct Snapshots {
    receiver: watch::Receiver<Published>,
    seen: u64,
}

impl SnapshotCache {
    pub fn new(metrics: StreamMetrics) -> Self {
        Self { shared: Arc::new(Shared { metrics, ..Shared::default() }) }
    }

    /// For a mesh of this trust domain, before anything is published.
    #[must_use]
    pub fn of_trust_domain(self, domain: TrustDomain) -> Self {
        self.shared.compiled().domain = domain;
        self
    }

    /// With another limit than [`MAX_RESOURCE_BYTES`].
    #[cfg(test)]
    pub fn limited(max_resource_bytes: usize) -> Self {
        let compiled = Compiled { max_resource_bytes, ..Compiled::default() };
        Self { shared: Arc::new(Shared { compiled: Mutex::new(compiled), ..Shared::default() }) }
    }

    /// The snapshots of a class. Compiles it where it is a new one; `None` where all places for
    /// classes are taken.
    pub async fn watch(&self, class: NodeClass) -> Option<Snapshots> {
        if let Some(snapshots) = self.shared.known(&class) {
            return Some(snapshots);
        }
        let shared = Arc::clone(&self.shared);
        // An error is the end of the process.
        tokio::task::spawn_blocking(move || shared.learn(class)).await.ok().flatten()
    }

    /// Compiles what changed for every watched class and hands the snapshots to their streams;
    /// classes that nobody watches are dropped. Says whether the configuration is offered: `false`
    /// where it is withheld from every kind of node that there is. Blocks: call it where that is
    /// allowed.
    pub fn publish(&self, config: Arc<MeshConfig>, endpoints: Arc<ResolvedEndpoints>) -> bool {
        let shared = &self.shared;
        let mut compiled = shared.compiled();
        let begin = Instant::now();
        (compiled.config, compiled.endpoints) = (config, endpoints);
        let watched = shared.drop_idle();
        compiled.retain(&watched);
        compiled.update();
        let mut offered = watched.is_empty();
        for class in &watched {
            let next = compiled.snapshot(class);
            offered |= next.revision == compiled.config.revision;
            let classes = shared.classes.read().unwrap_or_else(PoisonError::into_inner);
            let Some(sender) = classes.get(class) else { continue };
            sender.send_if_modified(|current| {
                let is_new = current.snapshot.digest != next.digest || !self.is_published();
                if is_new {
                    *current = Published { serial: current.serial + 1, snapshot: next };
                }
                is_new
            });
        }
        shared.tell_withheld(&compiled);
        drop(compiled);
        shared.metrics.publish_seconds.observe(begin.elapsed().as_secs_f64());
        shared.published.send_replace(true);
        offered
    }

    /// What nodes are not sent, kind by kind. It changes with a publication, and when a kind of
    /// node comes that was not there before.
    pub fn withheld(&self) -> watch::Receiver<Vec<Withheld>> {
        self.shared.withheld.subscribe()
    }

    /// Whether there has been a first [`SnapshotCache::publish`]. Before it streams wait, because
    /// an empty snapshot would take away what clients run on.
    pub fn is_published(&self) -> bool {
        *self.shared.published.borrow()
    }

    /// Waits for the first [`SnapshotCache::publish`].
    pub async fn published(&self) {
        // The sender lives as long as this cache.
        let _ = self.shared.published.subscribe().wait_for(|published| *published).await;
    }
}

impl Shared {
    fn known(&self, class: &NodeClass) -> Option<Snapshots> {
        let classes = self.classes.read().unwrap_or_else(PoisonError::into_inner);
        classes.get(class).map(Snapshots::of)
    }

    fn learn(&self, class: NodeClass) -> Option<Snapshots> {
        let mut compiled = self.compiled();
        // Another stream may have been faster.
        if let Some(snapshots) = self.known(&class) {
            return Some(snapshots);
        }
        if self.is_full(&compiled, class.kind) {
            let watched = self.drop_idle();
            compiled.retain(&watched);
            if self.is_full(&compiled, class.kind) {
                return None;
            }
        }
        let first = compiled.snapshot(&class);
        self.tell_withheld(&compiled);
        let sender = watch::Sender::new(Published { serial: 0, snapshot: first });
        let snapshots = Snapshots::of(&sender);
        let mut classes = self.classes.write().unwrap_or_else(PoisonError::into_inner);
        classes.insert(class, sender);
        self.metrics.classes.set(classes.len() as u64);
        Some(snapshots)
    }

    /// Whether there is no place for another class of a kind.
    fn is_full(&self, compiled: &Compiled, kind: NodeKind) -> bool {
        let classes = self.classes.read().unwrap_or_else(PoisonError::into_inner);
        let new_kind = !compiled.compilers.contains_key(&kind);
        classes.len() >= MAX_CLASSES || new_kind && compiled.compilers.len() >= MAX_KINDS
    }

    /// Drops the classes that nobody watches; what is left.
    fn drop_idle(&self) -> HashSet<NodeClass> {
        let mut classes = self.classes.write().unwrap_or_else(PoisonError::into_inner);
        classes.retain(|_, sender| sender.receiver_count() > 0);
        self.metrics.classes.set(classes.len() as u64);
        classes.keys().cloned().collect()
    }

    fn tell_withheld(&self, compiled: &Compiled) {
        let problems: usize = compiled.withheld.values().map(|it| it.problems.0.len()).sum();
        self.metrics.compile_problems.set(problems as u64);
        self.withheld.send_if_modified(|told| {
            let is_news = !told.iter().eq(compiled.withheld.values());
            if is_news {
                *told = compiled.withheld.values().cloned().collect();
            }
            is_news
        });
    }

    fn compiled(&self) -> MutexGuard<'_, Compiled> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    fn of(sender: &watch::Sender<Published>) -> Self {
        let receiver = sender.subscribe();
        let seen = receiver.borrow().serial;
        Self { receiver, seen }
    }

    /// The newest snapshot, and how many came and went since the last look.
    pub fn newest(&mut self) -> (Arc<XdsSnapshot>, u64) {
        let newest = self.receiver.borrow_and_update();
        let skipped = newest.serial.saturating_sub(self.seen + 1);
        self.seen = newest.serial;
        (Arc::clone(&newest.snapshot), skipped)
    }

    /// Waits for a newer snapshot than at the last look. `false` where none will ever come.
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }

    /// Whether there is a newer snapshot than at the last look.
    pub fn has_changed(&self) -> bool {
        self.receiver.has_changed().unwrap_or(false)
    }
}

impl Compiled {
    /// Forgets compilers and scopes that no class needs.
    fn retain(&mut self, classes: &HashSet<NodeClass>) {
        let kinds: HashSet<NodeKind> = classes.iter().map(|class| class.kind).collect();
        self.compilers.retain(|kind, _| kinds.contains(kind));
        self.withheld.retain(|kind, _| kinds.contains(kind));
        for (kind, compiler) in &mut self.compilers {
            compiler.retain_scopes(|service| {
                classes.contains(&NodeClass { kind: *kind, service: Some(service.clone()) })
            });
        }
    }

    fn update(&mut self) {
        self.withheld.clear();
        let (config, endpoints) = (&self.config, &self.endpoints);
        for (kind, compiler) in &mut self.compilers {
            if let Err(withheld) = compile(*kind, compiler, config, endpoints) {
                self.withheld.insert(*kind, withheld);
            }
        }
    }

    /// What nodes of a class get now.
    fn snapshot(&mut self, class: &NodeClass) -> Arc<XdsSnapshot> {
        let kind = class.kind;
        let compiler = self.compilers.entry(kind).or_insert_with(|| {
            let most = self.max_resource_bytes;
            let domain = self.domain.clone();
            let compiler = Compiler::new(kind).of_trust_domain(domain);
            let mut compiler = compiler.with_max_resource_bytes(most);
            if let Err(withheld) = compile(kind, &mut compiler, &self.config, &self.endpoints) {
                self.withheld.insert(kind, withheld);
            }
            compiler
        });
        let snapshot = match &class.service {
            Some(service) => compiler.scoped(service),
            None => compiler.whole(),
        };
        if let Some(problem) = compiler.withheld(class.service.as_ref()) {
            let (revision, kept) = (self.config.revision, snapshot.revision);
            self.withheld.entry(kind).or_insert_with(|| {
                let problems = Problems(vec![problem.clone()]);
                Withheld::new(kind, revision, kept, problems)
            });
        }
        snapshot
    }
}

impl Default for Compiled {
    fn default() -> Self {
        Self {
            domain: TrustDomain::default(),
            config: Arc::default(),
            endpoints: Arc::default(),
            compilers: HashMap::new(),
            max_resource_bytes: MAX_RESOURCE_BYTES,
            withheld: BTreeMap::new(),
        }
    }
}

/// Brings a compiler up to date, as far as nodes can take it.
fn compile(
    kind: NodeKind,
    compiler: &mut Compiler,
    config: &Arc<MeshConfig>,
    endpoints: &Arc<ResolvedEndpoints>,
) -> Result<(), Withheld> {
    compiler.update(config, endpoints).map_err(|problems| {
        Withheld::new(kind, config.revision, compiler.whole().revision, problems)
    })
}

impl Withheld {
    fn new(kind: NodeKind, revision: Revision, kept: Revision, problems: Problems) -> Self {
        tracing::error!(?kind, %revision, %kept, %problems, "a configuration is not sent");
        Self { kind, revision, kept, problems }
    }
}
