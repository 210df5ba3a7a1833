//! Compiled snapshots, one for each class of node, shared by all streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segue_control_plane_core::compile::{NodeClass, ResolvedEndpoints, compile};
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
        let first = Arc::new(compile(&compiled.config, &compiled.endpoints, &class));
        let (sender, receiver) = watch::channel(first);
        compiled.classes.insert(class, sender);
        Some(receiver)
    }

    /// Compiles every known class anew and hands the snapshots to their streams. Resources that
    /// did not change stay the same `Arc`.
    pub fn publish(&self, config: Arc<MeshConfig>, endpoints: Arc<ResolvedEndpoints>) {
        let mut compiled = self.compiled();
        for (class, sender) in &compiled.classes {
            let next = compile(&config, &endpoints, class);
            sender.send_if_modified(|current| {
                if current.digest == next.digest && self.is_published() {
                    return false;
                }
                *current = Arc::new(next.sharing(current));
                true
            });
        }
        compiled.config = config;
        compiled.endpoints = endpoints;
        drop(compiled);
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
