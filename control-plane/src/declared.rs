//! What is declared: the newest configuration of the store, checked and typed.
//!
//! The store may hold what a newer release's rules refuse. Then the last good configuration of
//! this process is served on; where there is none, nothing is streamed at all and sidecars keep
//! what they run on, until a change mends it.

use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::{self, MeshConfig};
use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::sync::watch;

use crate::admin::parsed;
use crate::store::{Store, StoreError, StoredConfiguration};

/// Follows the store.
pub struct Declared {
    store: Arc<dyn Store>,
    state: watch::Sender<State>,
}

/// What is known of the newest revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The newest good configuration; `None` before the first.
    pub config: Option<Arc<MeshConfig>>,
    /// What is wrong with the newest revision.
    pub fault: Option<String>,
}

#[derive(Debug, Error)]
enum Unusable {
    #[error("revision {0} of the store does not pass the checks of this release:\n{1}")]
    Faults(Revision, config::Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Declared {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, state: watch::Sender::default() }
    }

    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Runs until the drain signal.
    pub async fn run(self, drain: DrainSignal) {
        let mut newest = self.store.watch();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            newest.mark_unchanged();
            let again = match self.read().await {
                Ok(config) => {
                    backoff.reset();
                    self.state.send_replace(State { config: Some(Arc::new(config)), fault: None });
                    None
                }
                Err(error) => {
                    tracing::error!("{error}");
                    let pause = backoff.next_pause(0.5);
                    self.state.send_modify(|state| state.fault = Some(error.to_string()));
                    // What is stored stays wrong until the next commit; a disk may recover.
                    matches!(error, Unusable::Store(_)).then_some(pause)
                }
            };
            let pause = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = pause => {}
                () = drain.cancelled() => return,
            }
        }
    }

    async fn read(&self) -> Result<MeshConfig, Unusable> {
        let StoredConfiguration { revision, resources } = self.store.load().await?;
        parsed(resources.values().map(AsRef::as_ref))
            .and_then(|parsed| config::check(revision, &parsed))
            .map_err(|faults| Unusable::Faults(revision, faults))
    }
}
