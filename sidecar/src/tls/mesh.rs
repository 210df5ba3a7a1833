//! The mesh as this sidecar stands in it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::handshakes::Handshakes;
use super::identity::Identity;

/// Who the sidecar is now, if anybody, and what became of its handshakes. Clones share it.
#[derive(Clone, Default)]
pub struct Mesh {
    identity: Arc<ArcSwapOption<Identity>>,
    changes: Arc<watch::Sender<u64>>,
    pub handshakes: Arc<Handshakes>,
}

/// Who it is, and nothing of what it has to show that.
impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.identity().map(|identity| identity.id().to_string());
        f.debug_tuple("Mesh").field(&id).finish()
    }
}

impl Mesh {
    /// Who it is now. New connections ask each time.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// From now on it shows this.
    pub fn become_known_as(&self, identity: Identity) {
        self.identity.store(Some(Arc::new(identity)));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until it is somebody.
    pub async fn joined(&self) {
        // The sender lives as long as this.
        let _ = self.changes.subscribe().wait_for(|changes| *changes > 0).await;
    }
}
