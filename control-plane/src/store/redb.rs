//! The embedded store: one redb file in the data directory.
//!
//! A batch is one write transaction: resources, history and revision together, synced to disk in
//! two phases before it is acknowledged. The newest configuration is also kept in memory, where it
//! is read, and a commit reads and writes only what it changes. The history holds for each
//! revision what its resources were before it, so an old configuration is read by walking back
//! from the newest.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use imbl::OrdMap;
use segue_shared::ids::Revision;
use tokio::sync::watch;

use super::batch::{self, Step};
use super::contract::{
    Commit, History, MOST_HISTORY, RevisionRecord, Store, StoreError, StoredConfiguration,
};
use super::current::Current;
use super::record;

/// Format of the file that this release writes.
const FORMAT: u64 = 1;
const FILE: &str = "segue.redb";
const LOCK_FILE: &str = "segue.lock";
/// Pages of the file that are kept in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RESOURCES: TableDefinition<&str, &[u8]> = TableDefinition::new("resources");
const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");

/// See the module.
#[derive(Clone)]
pub struct RedbStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    /// Held as long as the store is open; `None` where there is no directory.
    _lock: Option<File>,
    retention: u64,
    current: Current,
    /// One writer at a time, in the order of asking.
    writer: Mutex<()>,
    /// Why nothing is written any more. After a failed sync nobody knows what is on disk, so a
    /// second try could acknowledge what a crash would lose.
    stopped: OnceLock<String>,
}

impl RedbStore {
    /// Opens the store in `directory`, which is made (mode 0700) where it does not exist, and
    /// checks every page of it. Keeps the newest `retention` revisions, at least one. Blocks.
    pub fn open(directory: &Path, retention: usize) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let fail = |reason: String| StoreError::Open { file: path.display().to_string(), reason };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| fail(error.to_string()))?;
        let taken = lock(directory)
            .map_err(&fail)?
            .ok_or_else(|| StoreError::InUse { file: path.display().to_string() })?;
        if !path.exists() {
            tracing::warn!(directory = %directory.display(), "no store is there: a new one begins");
            create(directory, &path)?;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| fail(error.to_string()))?;
        let database = Database::builder()
            .set_check_integrity_on_open(true)
            .set_cache_size(CACHE_BYTES)
            .open(&path)
            .map_err(|error| open_error(&path, error))?;
        Self::on(database, Some(taken), &path, retention)
    }

    /// A store on an open database that [`prepare`] has seen; `lock` is held as long as it is open,
    /// `path` is for messages.
    pub(super) fn on(
        database: Database,
        lock: Option<File>,
        path: &Path,
        retention: usize,
    ) -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { file: path.display().to_string(), reason };
        let read = database.begin_read().map_err(|error| fail(error.to_string()))?;
        let format = meta(&read, "format")?;
        if format > FORMAT {
            let file = path.display().to_string();
            return Err(StoreError::NewerFormat { file, found: format, known: FORMAT });
        }
        let configuration = configuration(&read)?;
        // A read that is still open would hold old pages forever.
        drop(read);
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                _lock: lock,
                retention: u64::try_from(retention.max(1)).unwrap_or(u64::MAX),
                current: Current::new(configuration),
                writer: Mutex::new(()),
                stopped: OnceLock::new(),
            }),
        })
    }

    /// The disk is slow, so all work runs where blocking is allowed, and to its end.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::task::spawn_blocking(move || work(&inner));
        async move { task.await.map_err(|error| StoreError::Failed(error.to_string()))? }.boxed()
    }
}

impl Store for RedbStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.run(move |inner| inner.commit(commit))
    }

    fn load(&self) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        ready(Ok(self.inner.current.load())).boxed()
    }

    fn at(&self, revision: Revision) -> BoxFuture<'_, Result<StoredConfiguration, StoreError>> {
        self.run(move |inner| {
            let (mut then, read) = inner.read()?;
            batch::check_kept(revision, oldest(&read, then.revision)?, then.revision)?;
            let history = read.open_table(HISTORY).map_err(failed)?;
            let later = revision.next().0..=then.revision.0;
            for past in history.range(later).map_err(failed)?.rev() {
                let (_, value) = past.map_err(failed)?;
                for (key, before) in record::decode_before(value.value())? {
                    match before {
                        Some(before) => then.resources.insert(key, Arc::new(before)),
                        None => then.resources.remove(&key),
                    };
                }
            }
            then.revision = revision;
            Ok(then)
        })
    }

    fn history(
        &self,
        before: Option<Revision>,
        limit: usize,
    ) -> BoxFuture<'_, Result<History, StoreError>> {
        self.run(move |inner| {
            let (newest, read) = inner.read()?;
            let history = read.open_table(HISTORY).map_err(failed)?;
            let end = before.unwrap_or(newest.revision.next()).0;
            let revisions = history
                .range(..end)
                .map_err(failed)?
                .rev()
                .take(limit.min(MOST_HISTORY))
                .map(|past| {
                    let (revision, value) = past.map_err(failed)?;
                    record::decode_revision(Revision(revision.value()), value.value())
                })
                .collect::<Result<Vec<RevisionRecord>, StoreError>>()?;
            Ok(History { revisions, oldest: oldest(&read, newest.revision)? })
        })
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.inner.current.watch()
    }
}

impl Inner {
    /// The newest configuration and a history that leads to it. The file may already be ahead by
    /// the commit that is being published; it is never behind.
    fn read(&self) -> Result<(StoredConfiguration, ReadTransaction), StoreError> {
        let newest = self.current.load();
        Ok((newest, self.database.begin_read().map_err(failed)?))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = self.stopped.get() {
            return Err(StoreError::Stopped(reason.clone()));
        }
        let result = self.write(commit);
        if let Err(StoreError::Failed(reason)) = &result {
            let _first_reason_stays = self.stopped.set(reason.clone());
        }
        match result? {
            Some(after) => {
                let revision = after.revision;
                self.current.publish(after);
                Ok(revision)
            }
            None => Ok(self.current.load().revision),
        }
    }

    /// The new configuration; `None` where nothing changes.
    fn write(&self, commit: Commit) -> Result<Option<StoredConfiguration>, StoreError> {
        let base = self.current.load();
        batch::check_base(commit.expected, base.revision)?;
        let steps = batch::plan(&base, &commit)?;
        if steps.is_empty() {
            return Ok(None);
        }
        let after = batch::apply(&base, &steps);
        let mut write = self.database.begin_write().map_err(failed)?;
        write.set_durability(Durability::Immediate).map_err(failed)?;
        write.set_two_phase_commit(true);
        self.put(&write, &steps, &batch::record(commit, after.revision, &steps))?;
        write.commit().map_err(failed)?;
        Ok(Some(after))
    }

    fn put(
        &self,
        write: &WriteTransaction,
        steps: &[Step],
        record: &RevisionRecord,
    ) -> Result<(), StoreError> {
        let mut table = write.open_table(RESOURCES).map_err(failed)?;
        for step in steps {
            let key = record::table_key(&step.key);
            match &step.after {
                Some(after) => {
                    let value = record::encode_resource(after);
                    table.insert(key.as_str(), value.as_slice()).map_err(failed)?;
                }
                None => {
                    table.remove(key.as_str()).map_err(failed)?;
                }
            }
        }
        let mut history = write.open_table(HISTORY).map_err(failed)?;
        let value = record::encode_revision(record, steps);
        history.insert(record.revision.0, value.as_slice()).map_err(failed)?;
        while history.len().map_err(failed)? > self.retention {
            history.pop_first().map_err(failed)?;
        }
        let mut meta = write.open_table(META).map_err(failed)?;
        meta.insert("revision", record.revision.0).map_err(failed)?;
        Ok(())
    }
}

/// Takes the directory for this process. redb locks its file too, but two processes that begin at
/// one time would each make a file of their own. `None`: another one has it.
fn lock(directory: &Path) -> Result<Option<File>, String> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK_FILE))
        .map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Makes the file aside and moves it into place whole, so that a crash here leaves no half file.
fn create(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let fail = |reason: String| StoreError::Open { file: path.display().to_string(), reason };
    let aside: PathBuf = directory.join(format!("{FILE}.new"));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(|error| fail(error.to_string()))?;
    let database = Database::create(&aside).map_err(|error| open_error(path, error))?;
    prepare(&database).map_err(|error| fail(error.to_string()))?;
    drop(database);
    fs::rename(&aside, path)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| fail(error.to_string()))
}

/// Makes the tables of an empty database.
pub(super) fn prepare(database: &Database) -> Result<(), ::redb::Error> {
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 0)?;
        write.open_table(RESOURCES)?;
        write.open_table(HISTORY)?;
    }
    write.commit()?;
    Ok(())
}

fn meta(read: &ReadTransaction, key: &str) -> Result<u64, StoreError> {
    let table = read.open_table(META).map_err(failed)?;
    let value = table.get(key).map_err(failed)?;
    value
        .map(|value| value.value())
        .ok_or_else(|| StoreError::Unreadable(format!("no {key} is written in it")))
}

/// The oldest commit that is kept can be taken back: the revision before it can be read.
fn oldest(read: &ReadTransaction, newest: Revision) -> Result<Revision, StoreError> {
    let history = read.open_table(HISTORY).map_err(failed)?;
    let first = history.first().map_err(failed)?.map(|(revision, _)| revision.value());
    Ok(first.map_or(newest, |first| Revision(first.saturating_sub(1))))
}

fn configuration(read: &ReadTransaction) -> Result<StoredConfiguration, StoreError> {
    let table = read.open_table(RESOURCES).map_err(failed)?;
    let mut resources = OrdMap::new();
    for entry in table.iter().map_err(failed)? {
        let (_, value) = entry.map_err(failed)?;
        let stored = record::decode_resource(value.value())?;
        resources.insert(stored.key.clone(), Arc::new(stored));
    }
    Ok(StoredConfiguration { revision: Revision(meta(read, "revision")?), resources })
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let file = path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { file }
        }
        other => StoreError::Open { file, reason: other.to_string() },
    }
}

fn failed(error: impl Into<::redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}
