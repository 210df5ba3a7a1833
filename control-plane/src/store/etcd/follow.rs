//! From the log in etcd to the configuration in memory.

use std::sync::Weak;
use std::time::Duration;

use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use tonic::Streaming;

use super::api::{self, KeyValue, WatchResponse};
use super::keys::Part;
use super::value::{self, CheckpointValue, FORMAT, HeadValue, RecordValue};
use super::{Inner, Known, content};
use crate::store::batch;
use crate::store::contract::{StoreError, StoredCommit, StoredConfiguration};

/// Records of one answer: each is at most some 300 KiB.
pub const PAGE_RECORDS: i64 = 32;

/// Follows until the store is dropped. Everything up to etcd's revision `seen` is known.
pub async fn follow(store: Weak<Inner>, mut seen: i64) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut lost = false;
    loop {
        let Some(inner) = store.upgrade() else { return };
        let watching = inner.connection.watch(inner.keys.log(), seen + 1).await;
        drop(inner);
        let end = match watching {
            Ok(mut stream) => {
                if std::mem::take(&mut lost) {
                    tracing::info!("etcd answers again");
                }
                backoff.reset();
                receive(&store, &mut stream).await
            }
            Err(trouble) => Err(trouble.into()),
        };
        let Some(inner) = store.upgrade() else { return };
        // Whatever ended the watch, a read tells what it missed: a compaction makes no difference.
        let caught_up = match end {
            Ok(()) => inner.catch_up(&mut *inner.known.lock().await).await,
            Err(error) => Err(error),
        };
        match caught_up {
            Ok(at) => seen = at,
            Err(_) if inner.stopped.get().is_some() => return,
            Err(error) => {
                if !std::mem::replace(&mut lost, true) {
                    tracing::warn!(%error, "etcd is not followed: reads go on from memory");
                }
                drop(inner);
                tokio::time::sleep(backoff.next_pause(0.5)).await;
                // Read before watching again: meanwhile it may have been compacted.
                let Some(inner) = store.upgrade() else { return };
                if let Ok(at) = inner.catch_up(&mut *inner.known.lock().await).await {
                    seen = at;
                }
            }
        }
    }
}

/// Takes what the watch tells, until that needs a read; an error where the watch ends.
async fn receive(
    store: &Weak<Inner>,
    stream: &mut Streaming<WatchResponse>,
) -> Result<(), StoreError> {
    loop {
        let message = stream.message().await;
        let Some(inner) = store.upgrade() else { return Ok(()) };
        let response = match message {
            Ok(Some(response)) if !response.canceled => response,
            // Whatever the reason, a watch that ends again and again is not begun without a pause.
            Ok(_) => return Err(StoreError::Unreachable("the watch was ended".to_owned())),
            Err(status) => {
                inner.connection.broken();
                return Err(StoreError::Unreachable(status.message().to_owned()));
            }
        };
        let mut known = inner.known.lock().await;
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            if !inner.take(&mut known, &kv).await? {
                return Ok(());
            }
        }
    }
}

impl Inner {
    /// Takes one key of the log. `false`: something is missing between it and what is known.
    async fn take(&self, known: &mut Known, kv: &KeyValue) -> Result<bool, StoreError> {
        if kv.key != self.keys.head().as_bytes() {
            return self.take_record(known, value::decode(&kv.value)?).await;
        }
        let head: HeadValue = value::decode(&kv.value)?;
        let fits = head.store == known.store && head.revision == known.configuration.revision.0;
        if fits {
            known.head = kv.mod_revision;
        }
        // One that is behind was overtaken by a read.
        Ok(fits || kv.mod_revision < known.head)
    }

    /// `false`: a commit before it is missing.
    async fn take_record(
        &self,
        known: &mut Known,
        record: RecordValue,
    ) -> Result<bool, StoreError> {
        let newest = known.configuration.revision;
        if record.last <= newest.0 {
            return Ok(true);
        }
        if record.first > newest.next().0 {
            return Ok(false);
        }
        let commits = self.commits_of(record).await?.into_iter().map(|past| past.commit);
        let commits = commits.filter(|commit| commit.revision > newest).collect();
        if let Some(configuration) = replay(&known.configuration, commits)? {
            self.publish(known, configuration);
        }
        Ok(true)
    }

    pub(super) async fn commits_of(
        &self,
        record: RecordValue,
    ) -> Result<Vec<value::Past>, StoreError> {
        let content = record.content.unwrap_or_default();
        let place = (Part::Record, Revision(record.last));
        let bytes = content::receive(&self.connection, &self.keys, place, content).await?;
        value::decode_commits(&bytes)
    }

    pub(super) fn publish(&self, known: &mut Known, configuration: StoredConfiguration) {
        known.configuration = configuration.clone();
        self.current.publish(configuration);
    }

    /// Reads all that was committed before this call. Gives etcd's revision that it is of.
    pub(super) async fn catch_up(&self, known: &mut Known) -> Result<i64, StoreError> {
        loop {
            let from = known.configuration.revision;
            let records = self.keys.records_from(from.next());
            let reads = [api::get(self.keys.head()), api::first_of(records, PAGE_RECORDS)];
            let mut reading = self.connection.read(reads).await?;
            let (head, records) = (reading.one(), reading.range());
            let Some(head) = self.check_head(known, head.as_ref())? else {
                known.head = 0;
                return Ok(reading.at);
            };
            let mut whole = true;
            for record in &records {
                whole = whole && self.take_record(known, value::decode(&record.value)?).await?;
            }
            if known.configuration.revision.0 == head.revision {
                known.head = head.at;
                return Ok(reading.at);
            }
            // Nothing went on: what lies between was removed behind a checkpoint.
            if known.configuration.revision == from {
                self.take_checkpoint(known).await?;
            }
        }
    }

    fn check_head(
        &self,
        known: &mut Known,
        kv: Option<&KeyValue>,
    ) -> Result<Option<Head>, StoreError> {
        let newest = known.configuration.revision;
        let Some(kv) = kv else {
            if known.store.is_empty() {
                return Ok(None);
            }
            return Err(self.stop(format!("etcd lost the store that was at revision {newest}")));
        };
        let value: HeadValue = value::decode(&kv.value)?;
        if value.format > FORMAT {
            let file = String::from_utf8_lossy(&kv.key).into_owned();
            let (found, known) = (u64::from(value.format), u64::from(FORMAT));
            return Err(StoreError::NewerFormat { file, found, known });
        }
        if known.store.is_empty() {
            known.store = value.store;
        } else if known.store != value.store || value.revision < newest.0 {
            let found = value.revision;
            return Err(self.stop(format!(
                "etcd was put back: it held revision {newest} and now holds {found}"
            )));
        }
        Ok(Some(Head { at: kv.mod_revision, revision: value.revision }))
    }

    /// What this process serves and what etcd holds are two stories: it goes on with its own.
    fn stop(&self, reason: String) -> StoreError {
        tracing::error!("{reason}: this process serves what it knows and takes no more commits");
        let _first_reason_stays = self.stopped.set(reason.clone());
        StoreError::Stopped(reason)
    }

    async fn take_checkpoint(&self, known: &mut Known) -> Result<(), StoreError> {
        let newest = known.configuration.revision;
        match self.checkpoint_before(Revision(u64::MAX - 1)).await? {
            Some(configuration) if configuration.revision > newest => {
                self.publish(known, configuration);
                Ok(())
            }
            _ => Err(StoreError::Unreadable(format!("no revision {}", newest.next()))),
        }
    }

    /// The newest checkpoint that is not beyond `last`.
    pub(super) async fn checkpoint_before(
        &self,
        last: Revision,
    ) -> Result<Option<StoredConfiguration>, StoreError> {
        let last = api::last_of(self.keys.checkpoints_to(last));
        let Some(kv) = self.connection.read([last]).await?.one() else { return Ok(None) };
        let value: CheckpointValue = value::decode(&kv.value)?;
        let revision = Revision(value.revision);
        let content = value.content.unwrap_or_default();
        let place = (Part::Checkpoint, revision);
        let bytes = content::receive(&self.connection, &self.keys, place, content).await?;
        value::decode_configuration(revision, &bytes).map(Some)
    }
}

struct Head {
    at: i64,
    revision: u64,
}

/// `base` after `commits`; `None` where there are none.
pub fn replay(
    base: &StoredConfiguration,
    commits: Vec<StoredCommit>,
) -> Result<Option<StoredConfiguration>, StoreError> {
    let replayed = batch::replay(base, commits)
        .map_err(|error| StoreError::Unreadable(format!("commits that do not fit: {error}")))?;
    Ok(replayed.into_iter().next_back().map(|last| last.after))
}
