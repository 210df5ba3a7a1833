//! A store that forgets with its process: for tests and for trying things out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use imbl::OrdMap;
use segue_control_plane_core::config::ResourceKey;
use segue_shared::ids::Revision;
use tokio::sync::watch;

use super::batch::{self, Step};
use super::contract::{
    Commit, History, MOST_HISTORY, RevisionRecord, Store, StoreError, StoredConfiguration,
    StoredResource,
};

/// See the module.
pub struct MemoryStore {
    state: Mutex<State>,
    retention: usize,
    newest: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    revision: Revision,
    current: OrdMap<ResourceKey, Arc<StoredResource>>,
    history: BTreeMap<Revision, Past>,
}

/// A commit and how to take it back.
struct Past {
    record: RevisionRecord,
    steps: Vec<Step>,
}

impl MemoryStore {
    /// An empty store that keeps the newest `retention` revisions, at least one.
    pub fn new(retention: usize) -> Self {
        Self {
            state: Mutex::default(),
            retention: retention.max(1),
            newest: watch::Sender::new(Revision::NONE),
        }
    }

    /// A panic while the lock was held leaves the state as it was: it is assigned last.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, commit: Commit) -> Result<Revision, StoreError> {
        let mut state = self.state();
        batch::check_base(commit.expected, state.revision)?;
        let revision = state.revision.next();
        let steps = batch::plan(&commit, revision, |key| {
            Ok(state.current.get(key).map(|stored| StoredResource::clone(stored)))
        })?;
        if steps.is_empty() {
            return Ok(state.revision);
        }
        for step in &steps {
            match &step.after {
                Some(after) => state.current.insert(step.key.clone(), Arc::new(after.clone())),
                None => state.current.remove(&step.key),
            };
        }
        let record = batch::record(commit, revision, &steps);
        state.history.insert(revision, Past { record, steps });
        while state.history.len() > self.retention {
            state.history.pop_first();
        }
        state.revision = revision;
        self.newest.send_replace(revision);
        Ok(revision)
    }

    fn at_now(&self, revision: Revision) -> Result<StoredConfiguration, StoreError> {
        let state = self.state();
        batch::check_kept(revision, state.oldest(), state.revision)?;
        let mut then = state.current.clone();
        for (_, past) in state.history.range(revision.next()..).rev() {
            for step in &past.steps {
                match &step.before {
                    Some(before) => then.insert(step.key.clone(), Arc::new(before.clone())),
                    None => then.remove(&step.key),
                };
            }
        }
        Ok(StoredConfiguration { revision, resources: then })
    }

    fn history_now(&self, before: Option<Revision>, limit: usize) -> History {
        let state = self.state();
        let end = before.unwrap_or(state.revision.next());
        let revisions = state
            .history
            .range(..end)
            .rev()
            .take(limit.min(MOST_HISTORY))
            .map(|(_, past)| past.record.clone())
            .collect();
        History { revisions, oldest: state.oldest() }
    }
}

impl State {
    /// The oldest commit that is kept can be taken back: the one before it can be read.
    fn oldest(&self) -> Revision {
        self.history
            .first_key_value()
            .map_or(self.revision, |(revision, _)| Revision(revision.0.saturating_sub(1)))
    }
}

impl Store for MemoryStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, StoreError>> {
        ready(self.commit_now(commit)).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        let state = self.state();
        let resources = state.current.clone();
        ready(Ok(StoredConfiguration { revision: state.revision, resources })).boxed()
    }

    fn at(&self, revision: Revision) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        ready(self.at_now(revision)).boxed()
    }

    fn history(
        &self,
        before: Option<Revision>,
        limit: usize,
    ) -> BoxFuture<'_, Result<History, StoreError>> {
        ready(Ok(self.history_now(before, limit))).boxed()
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}
