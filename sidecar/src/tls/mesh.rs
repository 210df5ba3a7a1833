//! The mesh as this sidecar stands in it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::handshakes::Handshakes;
use super::identity::Identity;

/// Who the sidecar is now, if anybody, and what became of its handshakes. Clones share it.
#[derive(Clone, Default)]
pub struct Mesh {
    identity: Arc<ArcSwapOption<Identity>>,
    /// Who is believed, in PEM, where the control plane has told that; whoever holds this writes.
    authorities: Arc<Mutex<Option<Box<[u8]>>>>,
    changes: Arc<watch::Sender<u64>>,
    tellings: Arc<watch::Sender<u64>>,
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

    /// From now on it shows this. Whom the control plane has told to believe is believed still.
    pub fn become_known_as(&self, identity: Identity) {
        let told = self.authorities();
        let believing = told.as_deref().map(|told| identity.believing(told));
        self.show(match believing {
            Some(Ok(believing)) => believing,
            Some(Err(error)) => {
                tracing::warn!(%error, "the authorities of the mesh are not believed");
                identity
            }
            None => identity,
        });
    }

    /// From now on these are believed (PEM), whichever certificate it shows.
    pub fn believe(&self, authorities: Box<[u8]>) {
        let mut told = self.authorities();
        if let Some(identity) = self.identity() {
            match identity.believing(&authorities) {
                Ok(identity) => self.show(identity),
                Err(error) => {
                    tracing::warn!(%error, "the authorities of the mesh are not believed");
                }
            }
        }
        *told = Some(authorities);
        drop(told);
        self.tellings.send_modify(|tellings| *tellings += 1);
    }

    /// Counts how often the control plane has told whom to believe.
    pub fn tellings(&self) -> watch::Receiver<u64> {
        self.tellings.subscribe()
    }

    fn show(&self, identity: Identity) {
        self.identity.store(Some(Arc::new(identity)));
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn authorities(&self) -> MutexGuard<'_, Option<Box<[u8]>>> {
        self.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is somebody.
    pub async fn joined(&self) {
        // The sender lives as long as this.
        let _ = self.changes.subscribe().wait_for(|changes| *changes > 0).await;
    }
}
