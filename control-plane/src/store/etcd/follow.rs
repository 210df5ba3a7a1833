//! From the log in etcd to the configuration in memory.

use std::sync::{Arc, Weak};
use std::time::Duration;

use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::api::{self, KeyValue, WatchResponse};
use super::connection::Watched;
use super::following::Doubt;
use super::keys::Part;
use super::value::{self, CheckpointValue, FORMAT, HeadValue, RecordValue};
use super::{Inner, Known, content};
use crate::store::batch;
use crate::store::contract::{StoreError, StoredCommit, StoredConfiguration};

/// Records of one answer: each is at most some 300 KiB.
pub const PAGE_RECORDS: i64 = 32;

/// A watch is silent where nothing is committed: after this time a read says whether it is dead.
const CONFIRM_EVERY: Duration = Duration::from_secs(10);
/// How often it is told that etcd is not followed.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Follows the log. Whoever owns it runs it.
pub struct Follower {
    store: Weak<Inner>,
    /// Everything up to this revision of etcd is known.
    seen: i64,
    lost: Option<Lost>,
}

/// etcd is not followed.
struct Lost {
    since: Instant,
    told: Instant,
}

impl Follower {
    pub(super) fn new(store: &Arc<Inner>, seen: i64) -> Self {
        Self { store: Arc::downgrade(store), seen, lost: None }
    }

    /// Follows until the store is dropped. Where it may not be followed any more, the process goes on
    /// with what it knows, and is reminded of it.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let Some(inner) = self.store.upgrade() else { return };
            if let Some(reason) = inner.stopped.get() {
                tracing::error!("{reason}: this process does not follow it until it is restarted");
                drop(inner);
                tokio::time::sleep(TELL_EVERY).await;
                continue;
            }
            let watching =
                inner.connection.watch(inner.keys.log(), self.seen + 1, Watched::Puts).await;
            drop(inner);
            let end = match watching {
                Ok(mut stream) => {
                    self.found();
                    backoff.reset();
                    receive(&self.store, &mut stream).await
                }
                Err(trouble) => Err(trouble.into()),
            };
            // Whatever ended the watch, a read tells what it missed: a compaction makes no
            // difference.
            let caught_up = match end {
                Ok(()) => self.catch_up().await,
                Err(error) => Err(error),
            };
            // Read before watching again: meanwhile it may have been compacted.
            let mut failed = caught_up.err();
            while let Some(error) = failed.filter(|error| !matches!(error, StoreError::Stopped(_)))
            {
                self.lose(&error);
                tokio::time::sleep(backoff.next_pause(0.5)).await;
                failed = self.catch_up().await.err();
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let Some(inner) = self.store.upgrade() else { return Ok(()) };
        self.seen = inner.catch_up(&mut *inner.known.lock().await).await?;
        Ok(())
    }

    fn found(&mut self) {
        if let Some(lost) = self.lost.take() {
            tracing::info!(after = ?lost.since.elapsed(), "etcd is followed again");
        }
        self.tell(false);
    }

    fn lose(&mut self, error: &StoreError) {
        let now = Instant::now();
        let first = self.lost.is_none();
        let lost = self.lost.get_or_insert(Lost { since: now, told: now });
        if first || now - lost.told >= TELL_EVERY {
            lost.told = now;
            let since = lost.since.elapsed();
            tracing::warn!(%error, ?since, "etcd is not followed: reads go on from memory");
        }
        self.tell(true);
    }

    fn tell(&self, lost: bool) {
        if let Some(inner) = self.store.upgrade() {
            inner.following.send_if_modified(|it| std::mem::replace(&mut it.lost, lost) != lost);
        }
    }
}

/// Takes what the watch tells, until that needs a read; an error where the watch ends.
async fn receive(
    store: &Weak<Inner>,
    stream: &mut Streaming<WatchResponse>,
) -> Result<(), StoreError> {
    loop {
        let message = timeout(CONFIRM_EVERY, stream.message()).await;
        let Some(inner) = store.upgrade() else { return Ok(()) };
        let Ok(message) = message else {
            let mut known = inner.known.lock().await;
            let before = known.configuration.revision;
            inner.catch_up(&mut known).await?;
            if known.configuration.revision == before {
                continue;
            }
            // It should have told: another one shall.
            return Ok(());
        };
        let response = match message {
            Ok(Some(response)) if !response.canceled => response,
            // Whatever the reason, a watch that ends again and again is not begun without a pause.
            Ok(_) => return Err(StoreError::Unreachable("the watch was ended".to_owned())),
            Err(status) => {
                inner.connection.broken();
                return Err(StoreError::Unreachable(status.message().to_owned()));
            }
        };
        inner.hear();
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
            let Some(head) = self.check_head(known, head.as_ref(), reading.member)? else {
                known.head = 0;
                self.hear();
                return Ok(reading.at);
            };
            let mut whole = true;
            for record in &records {
                whole = whole && self.take_record(known, value::decode(&record.value)?).await?;
            }
            if known.configuration.revision.0 == head.revision {
                known.head = head.at;
                self.hear();
                return Ok(reading.at);
            }
            // Nothing went on: what lies between was removed behind a checkpoint.
            if known.configuration.revision == from {
                self.take_checkpoint(known).await?;
            }
        }
    }

    pub(super) fn check_head(
        &self,
        known: &mut Known,
        kv: Option<&KeyValue>,
        member: u64,
    ) -> Result<Option<Head>, StoreError> {
        let newest = known.configuration.revision;
        let Some(kv) = kv else {
            if known.store.is_empty() {
                return Ok(None);
            }
            let lost = format!("etcd lost the store that was at revision {newest}");
            return Err(self.doubt(known, member, lost));
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
            let back =
                format!("etcd was put back: it held revision {newest} and now holds {found}");
            return Err(self.doubt(known, member, back));
        }
        known.doubt = None;
        Ok(Some(Head { at: kv.mod_revision, revision: value.revision }))
    }

    /// etcd seems to hold another story than is known here. One answer may be stale, and is only
    /// asked for again.
    fn doubt(&self, known: &mut Known, member: u64, reason: String) -> StoreError {
        let (now, alone) = (Instant::now(), self.connection.has_one_member());
        match known.doubt {
            Some(doubt) if doubt.is_settled(member, alone, now) => return self.stop(reason),
            Some(_) => {}
            None => {
                tracing::warn!(member, "{reason}: looking again, in case this answer is stale");
                known.doubt = Some(Doubt::new(member, now));
            }
        }
        self.connection.broken();
        StoreError::Unreachable(reason)
    }

    /// etcd said what is newest.
    fn hear(&self) {
        let now = Instant::now();
        self.following.send_modify(|following| following.heard = now);
    }

    /// What this process serves and what etcd holds are two stories: it goes on with its own.
    fn stop(&self, reason: String) -> StoreError {
        tracing::error!("{reason}: this process takes no more commits and ends its streams");
        let _first_reason_stays = self.stopped.set(reason.clone());
        self.following.send_modify(|it| it.stopped = Some(reason.as_str().into()));
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

pub(super) struct Head {
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
