//! The embedded store: one redb file in the data directory.
//!
//! A batch is one write transaction: resources, history and revision together, synced to disk in
//! two phases before it is acknowledged. The newest configuration is also kept in memory, where it
//! is read, and a commit reads and writes only what it changes. The history holds for each
//! revision what its resources were before it, so an old configuration is read by walking back
//! from the newest.

mod file;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use imbl::OrdMap;
use segue_shared::ids::Revision;
use tokio::sync::watch;

use super::batch::{self, Replayed, Step};
use super::contract::{
    Backup, Commit, History, MOST_HISTORY, RevisionRecord, Store, StoreError, StoredCommit,
    StoredConfiguration,
};
use super::current::Current;
use super::record;

/// Format of the file that this release writes.
const FORMAT: u64 = 1;

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
        let (database, lock, path) = file::open(directory)?;
        Self::on(database, Some(lock), &path, retention)
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
        self.run(move |inner| inner.write(|base| committed(base, &commit)))
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
                let (past, value) = past.map_err(failed)?;
                let (_, befores) = record::decode_revision(Revision(past.value()), value.value())?;
                batch::take_back(&mut then, befores);
            }
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
                    let past = record::decode_revision(Revision(revision.value()), value.value())?;
                    Ok(past.0)
                })
                .collect::<Result<Vec<RevisionRecord>, StoreError>>()?;
            Ok(History { revisions, oldest: oldest(&read, newest.revision)? })
        })
    }

    fn commits(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredCommit>, StoreError>> {
        self.run(move |inner| {
            let (mut then, read) = inner.read()?;
            let newest = then.revision;
            batch::check_kept(after, oldest(&read, newest)?, newest)?;
            let history = read.open_table(HISTORY).map_err(failed)?;
            let last = after.0.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
            let mut commits = Vec::new();
            for past in history.range(after.next().0..=newest.0).map_err(failed)?.rev() {
                let (past, value) = past.map_err(failed)?;
                let past = Revision(past.value());
                let (record, befores) = record::decode_revision(past, value.value())?;
                if past.0 <= last {
                    commits.push(batch::again(&record, |key| then.resources.get(key)));
                }
                batch::take_back(&mut then, befores);
            }
            commits.reverse();
            Ok(commits)
        })
    }

    fn restore(&self, backup: Backup) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.run(move |inner| inner.write(|base| restored(base, backup)))
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

    /// Writes what `work` makes of the newest configuration, and publishes it.
    fn write(
        &self,
        work: impl FnOnce(&StoredConfiguration) -> Result<Written, StoreError>,
    ) -> Result<Revision, StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = self.stopped.get() {
            return Err(StoreError::Stopped(reason.clone()));
        }
        let base = self.current.load();
        let written = work(&base)?;
        let after = match &written {
            Written::Nothing => return Ok(base.revision),
            Written::Commits(replayed) => replayed.last().map_or(base, |last| last.after.clone()),
            Written::Whole(configuration) => configuration.clone(),
        };
        if let Err(error) = self.write_through(&written) {
            let _first_reason_stays = self.stopped.set(error.to_string());
            return Err(error);
        }
        let revision = after.revision;
        self.current.publish(after);
        Ok(revision)
    }

    /// On return all of it is on disk.
    fn write_through(&self, written: &Written) -> Result<(), StoreError> {
        let mut write = self.database.begin_write().map_err(failed)?;
        write.set_durability(Durability::Immediate).map_err(failed)?;
        write.set_two_phase_commit(true);
        match written {
            Written::Nothing => {}
            Written::Commits(replayed) => {
                for commit in replayed {
                    self.put(&write, &commit.steps, &commit.record)?;
                }
            }
            Written::Whole(configuration) => put_whole(&write, configuration)?,
        }
        write.commit().map_err(failed)
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

/// What is to be written.
enum Written {
    Nothing,
    Commits(Vec<Replayed>),
    Whole(StoredConfiguration),
}

fn committed(base: &StoredConfiguration, commit: &Commit) -> Result<Written, StoreError> {
    batch::check_base(commit.expected, base.revision)?;
    let steps = batch::plan(base, commit)?;
    if steps.is_empty() {
        return Ok(Written::Nothing);
    }
    let after = batch::apply(base, &steps);
    let record = batch::record(commit, after.revision, &steps);
    Ok(Written::Commits(vec![Replayed { record, steps, after }]))
}

fn restored(base: &StoredConfiguration, backup: Backup) -> Result<Written, StoreError> {
    match backup {
        Backup::Full(configuration) => {
            batch::check_empty(base.revision)?;
            Ok(Written::Whole(configuration))
        }
        Backup::Continued(commits) => {
            batch::check_continues(&commits, base.revision)?;
            Ok(Written::Commits(batch::replay(base, commits)?))
        }
    }
}

fn put_whole(
    write: &WriteTransaction,
    configuration: &StoredConfiguration,
) -> Result<(), StoreError> {
    let mut table = write.open_table(RESOURCES).map_err(failed)?;
    for (key, stored) in &configuration.resources {
        let value = record::encode_resource(stored);
        table.insert(record::table_key(key).as_str(), value.as_slice()).map_err(failed)?;
    }
    let mut meta = write.open_table(META).map_err(failed)?;
    meta.insert("revision", configuration.revision.0).map_err(failed)?;
    Ok(())
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

fn failed(error: impl Into<::redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}
