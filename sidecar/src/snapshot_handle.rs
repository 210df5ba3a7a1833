//! The one place where the snapshot that requests run on is swapped.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use segue_sidecar_core::snapshot::CompiledSnapshot;
use tokio::sync::watch;

/// The current snapshot. Clones share it; one task publishes.
#[derive(Clone)]
pub struct SnapshotHandle {
    current: Arc<ArcSwap<CompiledSnapshot>>,
    swaps: watch::Sender<u64>,
}

impl Default for SnapshotHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotHandle {
    /// A handle on the empty snapshot of generation 0.
    pub fn new() -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(CompiledSnapshot::default())),
            swaps: watch::Sender::new(0),
        }
    }

    /// The current snapshot, from anywhere. Workers keep a [`SnapshotCache`] instead.
    pub fn load(&self) -> Arc<CompiledSnapshot> {
        self.current.load_full()
    }

    /// A reader for one worker, which costs one atomic load as long as nothing changed.
    pub fn cached(&self) -> SnapshotCache {
        SnapshotCache(Cache::new(Arc::clone(&self.current)))
    }

    /// Swaps the snapshot: requests that begin after this see it. Gives the one before.
    pub fn publish(&self, snapshot: CompiledSnapshot) -> Arc<CompiledSnapshot> {
        let generation = snapshot.generation;
        let before = self.current.swap(Arc::new(snapshot));
        self.swaps.send_replace(generation);
        before
    }

    /// Tells the generation after each swap.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }
}

/// A worker's view of the current snapshot.
pub struct SnapshotCache(Cache<Arc<ArcSwap<CompiledSnapshot>>, Arc<CompiledSnapshot>>);

impl SnapshotCache {
    /// The current snapshot. One load a request: keep the `Arc` for the whole of it.
    pub fn load(&mut self) -> &Arc<CompiledSnapshot> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_reader_sees_each_swap_and_keeps_what_it_holds() {
        let handle = SnapshotHandle::new();
        let mut cache = handle.cached();
        let held = Arc::clone(cache.load());
        let before = handle.publish(CompiledSnapshot { generation: 1, ..Default::default() });
        assert_eq!((before.generation, held.generation), (0, 0));
        assert_eq!(cache.load().generation, 1);
        assert_eq!(handle.load().generation, 1);
        assert_eq!(*handle.swaps().borrow(), 1);
    }
}
