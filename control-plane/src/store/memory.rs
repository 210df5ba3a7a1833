//! A store that forgets with its process: for tests and for trying things out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use segue_shared::ids::Revision;
use tokio::sync::watch;

use super::batch::{self, Replayed};
use super::contract::{
    Backup, Commit, History, MOST_HISTORY, RevisionRecord, Store, StoreError, StoredCommit,
    StoredConfiguration,
};
use super::current::Current;

/// See the module.
pub struct MemoryStore {
    current: Current,
    history: Mutex<BTreeMap<Revision, Past>>,
    retention: usize,
}

/// A commit and what it was made on: configurations share what they have in common.
struct Past {
    record: RevisionRecord,
    before: StoredConfiguration,
}

impl MemoryStore {
    /// An empty store that keeps the newest `retention` revisions, at least one.
    pub fn new(retention: usize) -> Self {
        Self {
            current: Current::new(StoredConfiguration::default()),
            history: Mutex::default(),
            retention: retention.max(1),
        }
    }

    /// Also the turn of writers. A panic while it is held leaves the history as it was.
    fn past(&self) -> MutexGuard<'_, BTreeMap<Revision, Past>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let mut past = self.past();
        let before = self.current.load();
        batch::check_base(commit.expected, before.revision)?;
        let steps = batch::plan(&before, commit)?;
        if steps.is_empty() {
            return Ok(before.revision);
        }
        let after = batch::apply(&before, &steps);
        let revision = after.revision;
        let record = batch::record(commit, revision, &steps);
        self.keep(&mut past, record, before);
        self.current.publish(after);
        Ok(revision)
    }

    fn keep(
        &self,
        past: &mut BTreeMap<Revision, Past>,
        record: RevisionRecord,
        before: StoredConfiguration,
    ) {
        past.insert(record.revision, Past { record, before });
        while past.len() > self.retention {
            past.pop_first();
        }
    }

    fn commits_now(&self, after: Revision, limit: usize) -> Result<Vec<StoredCommit>, StoreError> {
        let past = self.past();
        let newest = self.current.load();
        batch::check_kept(after, oldest(&past, newest.revision), newest.revision)?;
        let commits = past.range(after.next()..).take(limit).map(|(revision, commit)| {
            let then = past.get(&revision.next()).map_or(&newest, |next| &next.before);
            batch::again(&commit.record, |key| then.resources.get(key))
        });
        Ok(commits.collect())
    }

    fn restore_now(&self, backup: Backup) -> Result<Revision, StoreError> {
        let mut past = self.past();
        let mut newest = self.current.load();
        match backup {
            Backup::Full(configuration) => {
                batch::check_empty(newest.revision)?;
                newest = configuration;
            }
            Backup::Continued(commits) => {
                batch::check_continues(&commits, newest.revision)?;
                for Replayed { record, after, .. } in batch::replay(&newest, commits)? {
                    self.keep(&mut past, record, newest);
                    newest = after;
                }
            }
        }
        let revision = newest.revision;
        self.current.publish(newest);
        Ok(revision)
    }

    fn at_now(&self, revision: Revision) -> Result<StoredConfiguration, StoreError> {
        let past = self.past();
        let newest = self.current.load();
        batch::check_kept(revision, oldest(&past, newest.revision), newest.revision)?;
        Ok(past.get(&revision.next()).map_or(newest, |next| next.before.clone()))
    }

    fn history_now(&self, before: Option<Revision>, limit: usize) -> History {
        let past = self.past();
        let newest = self.current.load().revision;
        let revisions = past
            .range(..before.unwrap_or(newest.next()))
            .rev()
            .take(limit.min(MOST_HISTORY))
            .map(|(_, past)| past.record.clone())
            .collect();
        History { revisions, oldest: oldest(&past, newest) }
    }
}

/// The oldest commit that is kept knows what was before it.
fn oldest(past: &BTreeMap<Revision, Past>, newest: Revision) -> Revision {
    past.first_key_value().map_or(newest, |(_, first)| first.before.revision)
}

impl Store for MemoryStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, StoreError>> {
        ready(self.commit_now(&commit)).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        ready(Ok(self.current.load())).boxed()
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

    fn commits(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredCommit>, StoreError>> {
        ready(self.commits_now(after, limit)).boxed()
    }

    fn restore(&self, backup: Backup) -> BoxFuture<'_, Result<Revision, StoreError>> {
        ready(self.restore_now(backup)).boxed()
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.current.watch()
    }
}
