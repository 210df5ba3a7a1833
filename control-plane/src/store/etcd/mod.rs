//! The store of several control planes: one log of commits in etcd.
//!
//! A commit is one transaction that compares the head and replaces it, so exactly one of several
//! writers wins, and it is there whole or not at all. Every control plane holds the newest
//! configuration in memory and follows the log by a watch; what it reads lags behind another's
//! commit by a network trip, unless it asks for the latest. A checkpoint every some revisions
//! keeps the start short; whoever leads writes it and removes what is older than the history.
//!
//! While etcd does not answer, reads go on from memory and commits fail.

mod api;
mod connection;
mod content;
mod election;
mod follow;
mod following;
mod keys;
mod notes;
mod past;
mod settings;
mod tidy;
mod value;
mod write;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use segue_shared::ids::Revision;
use tokio::sync::{Mutex, watch};

use self::connection::Connection;
pub use self::election::Lead;
pub use self::follow::Follower;
use self::following::Doubt;
pub use self::following::Following;
use self::keys::Keys;
pub use self::notes::{News, Note};
pub use self::settings::EtcdSettings;
pub use self::tidy::Tidying;
use super::contract::{
    Backup, Commit, History, Store, StoreError, StoredCommit, StoredConfiguration,
};
use super::current::Current;

/// Revisions between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// Names a commit or a content; drawn at random.
type Id = u128;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    keys: Keys,
    retention: u64,
    checkpoint_every: u64,
    current: Current,
    /// Whoever moves this process to a newer revision, by reading or by writing, holds it.
    known: Mutex<Known>,
    /// Why this process takes no more commits.
    stopped: OnceLock<String>,
    following: watch::Sender<Following>,
}

/// What this process knows of the log.
#[derive(Default)]
struct Known {
    configuration: StoredConfiguration,
    /// etcd's revision of the head that led here; 0: there was none. Where it is too old, a
    /// commit that compares it fails, as it should.
    head: i64,
    /// Which store it is; empty before the first commit.
    store: Vec<u8>,
    /// An answer that tells of less than all this.
    doubt: Option<Doubt>,
}

impl EtcdStore {
    /// Connects and reads the newest configuration; whoever runs the follower follows it from then
    /// on. Shows the newest `retention` revisions, at least one. Fails where no member answers
    /// within some seconds.
    pub async fn open(
        settings: &EtcdSettings,
        retention: usize,
    ) -> Result<(Self, Follower), StoreError> {
        Self::open_with(settings, retention, CHECKPOINT_EVERY).await
    }

    async fn open_with(
        settings: &EtcdSettings,
        retention: usize,
        checkpoint_every: u64,
    ) -> Result<(Self, Follower), StoreError> {
        let inner = Arc::new(Inner {
            connection: Connection::new(settings)?,
            keys: Keys::new(&settings.prefix),
            retention: u64::try_from(retention.max(1)).unwrap_or(u64::MAX),
            checkpoint_every,
            current: Current::new(StoredConfiguration::default()),
            known: Mutex::default(),
            stopped: OnceLock::new(),
            following: watch::Sender::new(Following::begun()),
        });
        let seen = inner.catch_up(&mut *inner.known.lock().await).await?;
        let follower = Follower::new(&inner, seen);
        Ok((Self { inner }, follower))
    }

    /// How well the log is followed, now and after each change.
    pub fn following(&self) -> watch::Receiver<Following> {
        self.inner.following.subscribe()
    }

    /// Runs to its end even where the caller goes away.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> BoxFuture<'static, Result<T, StoreError>>,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let task = tokio::spawn(work(Arc::clone(&self.inner)));
        async move { task.await.map_err(|error| StoreError::Failed(error.to_string()))? }.boxed()
    }
}

impl Store for EtcdStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.run(|inner| async move { inner.commit(commit).await }.boxed())
    }

    fn load(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        ready(Ok(self.inner.current.load())).boxed()
    }

    fn latest(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        self.inner.latest().boxed()
    }

    fn at(&self, revision: Revision) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        self.inner.at(revision).boxed()
    }

    fn history(
        &self,
        before: Option<Revision>,
        limit: usize,
    ) -> BoxFuture<'_, Result<History, StoreError>> {
        self.inner.history(before, limit).boxed()
    }

    fn commits(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredCommit>, StoreError>> {
        self.inner.commits(after, limit).boxed()
    }

    fn restore(&self, backup: Backup) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.run(|inner| async move { inner.restore(backup).await }.boxed())
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.inner.current.watch()
    }
}

impl Inner {
    fn check_running(&self) -> Result<(), StoreError> {
        self.stopped.get().map_or(Ok(()), |reason| Err(StoreError::Stopped(reason.clone())))
    }

    async fn latest(&self) -> Result<StoredConfiguration, StoreError> {
        self.check_running()?;
        let mut known = self.known.lock().await;
        self.catch_up(&mut known).await?;
        Ok(known.configuration.clone())
    }
}

fn draw_id() -> Result<Id, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(Id::from_be_bytes(bytes))
}
