//! What is declared: the newest configuration of the store, checked and typed. Each commit costs
//! what it changes.
//!
//! The store may hold what a newer release's rules refuse. Then the last good configuration of
//! this process is served on; where there is none, nothing is streamed at all and sidecars keep
//! what they run on, until a change mends it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imbl::ordmap::DiffItem;
use segue_control_plane_core::config::{Base, Declaration, Fault, Faults, MeshConfig, ResourceKey};
use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};

use crate::fleet::{Refused, Rejection};
use crate::store::{Store, StoreError, StoredConfiguration, StoredResource};

/// Follows the store; clones share what is known.
#[derive(Clone)]
pub struct Declared {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    /// One follows at a time; the others find what it found.
    known: tokio::sync::Mutex<Known>,
    /// What the next revision would be if a commit that is on its way succeeds.
    expected: Mutex<Option<Declaration>>,
    state: watch::Sender<State>,
}

/// What is known of the newest revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The newest good configuration; `None` before the first.
    pub config: Option<Arc<MeshConfig>>,
    /// Why the newest revision is not served.
    pub fault: Option<Arc<Unserved>>,
}

/// Why the newest revision is not served.
#[derive(Debug, Error)]
pub enum Unserved {
    #[error("revision {revision} of the store does not pass the checks of this release:\n{faults}")]
    Faulty { revision: Revision, faults: Faults },
    #[error(transparent)]
    Unknown(#[from] FollowError),
}

/// The newest revision of the store, and what a change is checked on top of.
pub struct Current {
    pub stored: StoredConfiguration,
    pub base: Base,
}

/// Why the store cannot be followed.
#[derive(Debug, Error)]
pub enum FollowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the check of the configuration broke off: {0}")]
    Interrupted(#[from] JoinError),
}

/// How far the store was followed.
#[derive(Default)]
struct Known {
    /// The newest revision that was looked at; `None` before the first.
    seen: Option<Revision>,
    /// Why it is not `good`.
    fault: Option<Arc<Unserved>>,
    /// The newest good configuration, as stored and as checked.
    good: (StoredConfiguration, Declaration),
}

impl State {
    /// What of the newest revision does not pass the checks.
    pub fn held_back(&self) -> Vec<Refused> {
        let Some(Unserved::Faulty { revision, faults }) = self.fault.as_deref() else {
            return Vec::new();
        };
        let kept = self.config.as_ref().map_or(Revision::NONE, |config| config.revision);
        let refused = faults.0.iter().map(|fault| {
            let (kind, name) = fault.resource.split_once(' ').unwrap_or_default();
            let Fault { field_path, message, hint, .. } = fault.clone();
            let reason = Fault { message, hint, ..Fault::default() };
            let rejection = Rejection {
                type_url: kind.to_owned(),
                resource: name.to_owned(),
                field_path,
                reason: reason.to_string().into(),
                revision: *revision,
            };
            Refused::held_back(rejection, kept)
        });
        refused.collect()
    }
}

impl Declared {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let inner = Inner {
            store,
            known: tokio::sync::Mutex::default(),
            expected: Mutex::default(),
            state: watch::Sender::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn watch(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Runs until the drain signal.
    pub async fn run(self, drain: DrainSignal) {
        let mut newest = self.inner.store.watch();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            newest.mark_unchanged();
            let again = match self.catch_up().await {
                Ok(_) => {
                    backoff.reset();
                    None
                }
                Err(error) => {
                    tracing::error!("{error}");
                    let fault = Some(Arc::new(error.into()));
                    self.inner.state.send_modify(|state| state.fault = fault);
                    Some(backoff.next_pause(0.5))
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

    /// Looks at the newest revision, checks what differs from the last good one, and tells those
    /// who watch.
    pub async fn catch_up(&self) -> Result<Current, FollowError> {
        let mut known = self.inner.known.lock().await;
        let stored = self.inner.store.load().await?;
        if known.seen != Some(stored.revision) {
            let checked = self.checked(&known.good, stored.clone()).await?;
            known.seen = Some(stored.revision);
            match checked {
                Ok(declaration) => {
                    let config = Some(Arc::clone(declaration.mesh()));
                    known.good = (stored.clone(), declaration);
                    known.fault = None;
                    self.inner.state.send_replace(State { config, fault: None });
                }
                // What is stored stays wrong until the next commit.
                Err(faults) => {
                    let fault = Arc::new(Unserved::Faulty { revision: stored.revision, faults });
                    tracing::error!("{fault}");
                    known.fault = Some(fault);
                }
            }
        }
        // A store that could not be read for a while is as it was before.
        let is_told = |state: &State| match (&state.fault, &known.fault) {
            (Some(told), Some(fault)) => Arc::ptr_eq(told, fault),
            (told, fault) => told.is_none() && fault.is_none(),
        };
        self.inner.state.send_if_modified(|state| {
            let is_news = !is_told(state);
            state.fault.clone_from(&known.fault);
            is_news
        });
        let base = if known.fault.is_some() {
            Base::Unchecked(stored.resources.values().map(|it| it.resource.clone()).collect())
        } else {
            Base::Checked(known.good.1.clone())
        };
        Ok(Current { stored, base })
    }

    /// Says what a commit that is about to be made would lead to, so that it need not be checked
    /// again when it is there.
    pub fn expect(&self, next: Declaration) {
        *self.inner.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    /// The declaration of `stored`, or all that is wrong with it.
    async fn checked(
        &self,
        (before, base): &(StoredConfiguration, Declaration),
        stored: StoredConfiguration,
    ) -> Result<Result<Declaration, Faults>, JoinError> {
        let expected = self.inner.expected.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (before, base) = (before.clone(), base.clone());
        spawn_blocking(move || {
            let (upserts, deletes) = difference(&before, &stored);
            // Another one's commit may have come first.
            if let Some(expected) = expected
                && expected.revision() == stored.revision
                && expected.differences(&base) == upserts.len() + deletes.len()
                && upserts.iter().all(|it| expected.get(&it.key) == Some(&it.resource))
                && deletes.iter().all(|key| expected.get(key).is_none())
            {
                return Ok(expected);
            }
            let upserts: Vec<_> = upserts.iter().map(|stored| stored.resource.clone()).collect();
            base.admit(stored.revision, &[], &upserts, &deletes).map(|admitted| admitted.next)
        })
        .await
    }
}

/// What leads from one configuration to another: what is created or replaced, and what is removed,
/// each in the order of keys.
pub fn difference(
    before: &StoredConfiguration,
    after: &StoredConfiguration,
) -> (Vec<Arc<StoredResource>>, Vec<ResourceKey>) {
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    for item in before.resources.diff(&after.resources) {
        match item {
            DiffItem::Add(_, stored) | DiffItem::Update { new: (_, stored), .. } => {
                upserts.push(Arc::clone(stored));
            }
            DiffItem::Remove(key, _) => deletes.push(key.clone()),
        }
    }
    (upserts, deletes)
}

#[cfg(test)]
mod tests;
