//! Compiled snapshots, one for each class of node, shared by all streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segue_control_plane_core::compile::{Compiler, NodeClass, NodeKind, ResolvedEndpoints};
use segue_control_plane_core::config::mesh::MeshConfig;
use segue_control_plane_core::snapshot::XdsSnapshot;
use tokio::sync::watch;

/// Most classes that are kept compiled. Beyond it, classes that no stream watches make room.
const MAX_CLASSES: usize = 256;

/// The snapshots. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SnapshotCache {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    compiled: Mutex<Compiled>,
    published: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Compiled {
    config: Arc<MeshConfig>,
    endpoints: Arc<ResolvedEndpoints>,
    compilers: BTreeMap<NodeKind, Compiler>,
    classes: BTreeMap<NodeClass, watch::Sender<Arc<XdsSnapshot>>>,
}

impl SnapshotCache {
    pub fn new() -> Self {
        Self::default()
    }

    /// The snapshots of a class: the newest now, and every one that is newest at some later look.
    /// Compiles the class where it is a new one; `None` where all places for classes are taken.
    pub fn watch(&self, class: NodeClass) -> Option<watch::Receiver<Arc<XdsSnapshot>>> {
        let mut compiled = self.compiled();
        if let Some(sender) = compiled.classes.get(&class) {
            return Some(sender.subscribe());
        }
        if compiled.classes.len() >= MAX_CLASSES {
            compiled.classes.retain(|_, sender| sender.receiver_count() > 0);
        }
        if compiled.classes.len() >= MAX_CLASSES {
            return None;
        }
        let first = compiled.snapshot(&class);
        let (sender, receiver) = watch::channel(first);
        compiled.classes.insert(class, sender);
        Some(receiver)
    }

    /// Compiles what changed for every known class and hands the snapshots to their streams.
    pub fn publish(&self, config: Arc<MeshConfig>, endpoints: Arc<ResolvedEndpoints>) {
        let mut compiled = self.compiled();
        let compiled = &mut *compiled;
        (compiled.config, compiled.endpoints) = (config, endpoints);
        for compiler in compiled.compilers.values_mut() {
            if let Err(problems) = compiler.update(&compiled.config, &compiled.endpoints) {
                tracing::error!(%problems, "a configuration is not sent; the last good one stays");
            }
        }
        for (class, sender) in &compiled.classes {
            let Some(compiler) = compiled.compilers.get_mut(&class.kind) else { continue };
            let next = snapshot(compiler, class);
            sender.send_if_modified(|current| {
                let is_new = current.digest != next.digest || !self.is_published();
                *current = next;
                is_new
            });
        }
        self.shared.published.send_replace(true);
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

    fn compiled(&self) -> MutexGuard<'_, Compiled> {
        self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compiled {
    /// What nodes of a class get now.
    fn snapshot(&mut self, class: &NodeClass) -> Arc<XdsSnapshot> {
        let compiler = self.compilers.entry(class.kind).or_insert_with(|| {
            let mut compiler = Compiler::new(class.kind);
            if let Err(problems) = compiler.update(&self.config, &self.endpoints) {
                tracing::error!(%problems, "a configuration is not sent");
            }
            compiler
        });
        snapshot(compiler, class)
    }
}

fn snapshot(compiler: &mut Compiler, class: &NodeClass) -> Arc<XdsSnapshot> {
    match &class.service {
        Some(service) => compiler.scoped(service),
        None => compiler.whole(),
    }
}
