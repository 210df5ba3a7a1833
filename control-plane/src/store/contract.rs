//! What every store promises, whatever it is made of. `store/tests.rs` holds each one to it.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use imbl::OrdMap;
use segue_control_plane_core::config::ResourceKey;
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;
use thiserror::Error;
use tokio::sync::watch;

/// Most revisions that one call of [`Store::history`] gives.
pub const MOST_HISTORY: usize = 500;

/// Keeps the configuration.
///
/// * A commit is there whole or not at all, and what was acknowledged survives a crash.
/// * Revisions are dense: each commit that changes something takes the next number.
/// * A reader sees one revision, never parts of two.
pub trait Store: Send + Sync + 'static {
    /// Commits a batch on top of the newest revision and gives the revision that holds it. A batch
    /// that changes nothing is no commit: the newest revision comes back. Once begun, a commit
    /// runs to its end even where the returned future is dropped.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// The newest configuration that this process knows, from memory: costs nothing.
    fn load(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>>;

    /// The newest configuration of all processes on one store: everything that was acknowledged to
    /// anyone before this call. Costs a round trip where others may write too, and fails with
    /// [`StoreError::Unreachable`] where nobody answers.
    fn latest(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        self.load()
    }

    /// The configuration as it was at `revision`.
    fn at(&self, revision: Revision) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>>;

    /// What was committed below `before` (`None`: up to the newest), the newest first; at most
    /// `limit` and never more than [`MOST_HISTORY`].
    fn history(
        &self,
        before: Option<Revision>,
        limit: usize,
    ) -> BoxFuture<'_, Result<History, StoreError>>;

    /// Commits after `after`, the oldest first, at most `limit`: what it takes to make them again.
    fn commits(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredCommit>, StoreError>>;

    /// Takes a backup, whole or not at all, and gives the revision that it leads to. Revisions,
    /// times and authors are those of the backup.
    fn restore(&self, backup: Backup) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// The newest revision, now and after each commit.
    fn watch(&self) -> watch::Receiver<Revision>;
}

/// What a store can be given back.
#[derive(Clone, Debug)]
pub enum Backup {
    /// A whole configuration, for an empty store ([`StoreError::NotEmpty`] otherwise).
    Full(StoredConfiguration),
    /// Commits that go on exactly where the store is ([`StoreError::Conflict`] otherwise).
    Continued(Vec<StoredCommit>),
}

/// A commit, to be made again.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCommit {
    pub revision: Revision,
    pub at: SystemTime,
    pub author: String,
    pub message: String,
    /// As in [`Commit`].
    pub restores: Option<Revision>,
    /// Resources created or replaced, in the order of keys.
    pub upserts: Vec<Resource>,
    /// Resources removed, in the order of keys.
    pub deletes: Vec<ResourceKey>,
}

/// A whole configuration. Copies share everything, and one shares with the one before it what did
/// not change, so that comparing them costs what differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredConfiguration {
    pub revision: Revision,
    pub resources: OrdMap<ResourceKey, Arc<StoredResource>>,
}

impl StoredConfiguration {
    /// The resources in the order of keys.
    pub fn listed(&self) -> Vec<StoredResource> {
        self.resources.values().map(|stored| StoredResource::clone(stored)).collect()
    }
}

/// A batch.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The commit happens only on top of this revision. `None`: on top of whatever is newest.
    pub expected: Option<Revision>,
    /// Resources to create or replace. One that is equal to what is stored is left as it is.
    pub upserts: Vec<Resource>,
    /// Resources to remove. One that does not exist is passed over; one that is also in `upserts`
    /// stays.
    pub deletes: Vec<ResourceKey>,
    pub author: String,
    pub message: String,
    /// The revision whose configuration this brings back, where the commit is an undo.
    pub restores: Option<Revision>,
    /// The store has no clock of its own.
    pub at: SystemTime,
}

/// A resource and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResource {
    pub key: ResourceKey,
    pub resource: Resource,
    /// The revision that last changed it.
    pub revision: Revision,
    pub created_at: SystemTime,
    pub changed_at: SystemTime,
}

/// A part of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The newest first.
    pub revisions: Vec<RevisionRecord>,
    /// The oldest revision that [`Store::at`] can still read. 0: the empty configuration.
    pub oldest: Revision,
}

/// One commit.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionRecord {
    pub revision: Revision,
    pub at: SystemTime,
    pub author: String,
    pub message: String,
    /// As in [`Commit`].
    pub restores: Option<Revision>,
    /// In the order of keys.
    pub changes: Vec<RecordedChange>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedChange {
    pub key: ResourceKey,
    pub kind: ChangeKind,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Configured,
    Deleted,
}

/// A store that does not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the configuration moved on: expected revision {expected}, found {found}")]
    Conflict { expected: Revision, found: Revision },
    #[error("revision {revision} is not kept: revisions {oldest} to {newest} are")]
    NotKept { revision: Revision, oldest: Revision, newest: Revision },
    #[error("a resource of the batch has no kind or no name")]
    Nameless,
    #[error("the store is not empty: it holds revision {found}, and a full backup needs a new one")]
    NotEmpty { found: Revision },
    #[error("the backup is not whole: {0}")]
    BadBackup(String),
    #[error(
        "{bytes} bytes are more than this store takes at one time ({most}): commit less at once"
    )]
    TooLarge { bytes: usize, most: usize },
    #[error("{setting} {value}: {reason}")]
    Setting { setting: &'static str, value: String, reason: String },
    #[error("etcd cannot be reached, and nothing was committed: try again ({0})")]
    Unreachable(String),
    #[error(
        "nobody can tell whether revision {revision} was committed, because etcd stopped \
         answering ({reason}): look at the history before you try again"
    )]
    Unsettled { revision: Revision, reason: String },
    #[error(
        "the store {file} was written by a newer release (format {found}, this release knows \
         {known}): run that release or give another --data-dir"
    )]
    NewerFormat { file: String, found: u64, known: u64 },
    #[error("the store {file} is in use by another process: stop it or give another --data-dir")]
    InUse { file: String },
    #[error("the store {file} cannot be opened: {reason}")]
    Open { file: String, reason: String },
    #[error("the store holds what this release cannot read: {0}")]
    Unreadable(String),
    #[error("the store failed: {0}")]
    Failed(String),
    #[error(
        "the store takes no more commits because of an earlier fault ({0}): mend it and restart \
         the control plane"
    )]
    Stopped(String),
}
