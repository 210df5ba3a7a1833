//! Commits: content first, then one transaction that makes it count.

use std::time::Duration;

use prost::Message as _;
use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use tokio::time::{Instant, sleep};

use super::api::{self, Compare, KeyValue, Operation, Txn};
use super::connection::Trouble;
use super::content::{self, Sent};
use super::keys::Part;
use super::past::floor_of;
use super::value::{self, CheckpointValue, FORMAT, HeadValue, RecordValue};
use super::{Id, Inner, Known, draw_id};
use crate::store::batch::{self, Replayed};
use crate::store::contract::{Backup, Commit, StoreError, StoredConfiguration};

/// Longest try of a commit, with all its attempts.
const COMMIT_MOST: Duration = Duration::from_secs(10);

/// What became of a transaction that compares the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The head is ours, at this revision of etcd.
    Won(i64),
    /// The head had moved, or was moved so that our transaction can never happen.
    Beaten,
    /// The head moved on so far that what we wrote would be gone by now as well.
    Forgotten,
}

/// No key was written by this revision of etcd, so a commit on top of it looks again.
const BEFORE_ANY: i64 = 1;

impl Inner {
    pub(super) async fn commit(&self, commit: Commit) -> Result<Revision, StoreError> {
        let deadline = Instant::now() + COMMIT_MOST;
        let mut known = self.known.lock().await;
        self.check_running()?;
        if commit.expected.is_some_and(|expected| expected > known.configuration.revision) {
            self.catch_up(&mut known).await?;
        }
        loop {
            let base = known.configuration.revision;
            batch::check_base(commit.expected, base)?;
            let steps = batch::plan(&known.configuration, &commit)?;
            if steps.is_empty() {
                // Only on top of the newest is that the truth.
                self.catch_up(&mut known).await?;
                if known.configuration.revision == base {
                    return Ok(base);
                }
                continue;
            }
            let after = batch::apply(&known.configuration, &steps);
            let record = batch::record(&commit, after.revision, &steps);
            let replayed = [Replayed { record, steps, after }];
            if let Some(revision) = self.append(&mut known, &replayed).await? {
                return Ok(revision);
            }
            self.catch_up(&mut known).await?;
            if Instant::now() > deadline {
                return Err(StoreError::Unreachable("others commit faster".to_owned()));
            }
        }
    }

    pub(super) async fn restore(&self, backup: Backup) -> Result<Revision, StoreError> {
        let mut known = self.known.lock().await;
        self.check_running()?;
        self.catch_up(&mut known).await?;
        let newest = known.configuration.revision;
        let done = match backup {
            Backup::Full(configuration) => {
                batch::check_empty(newest)?;
                self.begin_with(&mut known, configuration).await?
            }
            Backup::Continued(commits) => {
                batch::check_continues(&commits, newest)?;
                let replayed = batch::replay(&known.configuration, commits)?;
                self.append(&mut known, &replayed).await?
            }
        };
        if let Some(revision) = done {
            return Ok(revision);
        }
        self.catch_up(&mut known).await?;
        let found = known.configuration.revision;
        Err(StoreError::Conflict { expected: newest, found })
    }

    /// Puts commits behind the head as one. `None`: the head had moved.
    pub(super) async fn append(
        &self,
        known: &mut Known,
        replayed: &[Replayed],
    ) -> Result<Option<Revision>, StoreError> {
        let (Some(first), Some(last)) = (replayed.first(), replayed.last()) else {
            return Ok(Some(known.configuration.revision));
        };
        let (first, after) = (first.after.revision, &last.after);
        let id = draw_id()?;
        let place = (Part::Record, after.revision, id);
        let bytes = value::encode_commits(replayed);
        let sent = content::send(&self.connection, &self.keys, place, bytes).await?;
        let record = RecordValue {
            first: first.0,
            last: after.revision.0,
            commit: id.to_be_bytes().to_vec(),
            content: Some(sent.value.clone()),
        };
        let key = self.keys.record(after.revision);
        let puts = vec![api::put(key, record.encode_to_vec())];
        self.move_head(known, (after.clone(), id), puts, sent).await
    }

    /// Begins an empty log with a checkpoint. `None`: it had begun.
    async fn begin_with(
        &self,
        known: &mut Known,
        configuration: StoredConfiguration,
    ) -> Result<Option<Revision>, StoreError> {
        let id = draw_id()?;
        let revision = configuration.revision;
        let place = (Part::Checkpoint, revision, id);
        let bytes = value::encode_configuration(&configuration);
        let sent = content::send(&self.connection, &self.keys, place, bytes).await?;
        let checkpoint =
            CheckpointValue { revision: revision.0, content: Some(sent.value.clone()) };
        let puts = vec![
            api::put(self.keys.checkpoint(revision), checkpoint.encode_to_vec()),
            api::put(self.keys.floor(), revision.0.to_string()),
        ];
        self.move_head(known, (configuration, id), puts, sent).await
    }

    /// Writes `puts` with a head that leads to the configuration, if the head is still the one
    /// that is known.
    async fn move_head(
        &self,
        known: &mut Known,
        (configuration, id): (StoredConfiguration, Id),
        mut puts: Vec<Operation>,
        sent: Sent,
    ) -> Result<Option<Revision>, StoreError> {
        let revision = configuration.revision;
        let store = match known.store.as_slice() {
            [] => draw_id()?.to_be_bytes().to_vec(),
            store => store.to_vec(),
        };
        let commit = id.to_be_bytes().to_vec();
        let head = HeadValue { format: FORMAT, store: store.clone(), revision: revision.0, commit };
        puts.push(api::put(self.keys.head(), head.encode_to_vec()));
        puts.extend(sent.keep.iter().cloned());
        let txn = Txn { compare: vec![self.head_is(known.head)], success: puts };
        let fate = match self.connection.txn(txn).await {
            Ok(answer) if answer.succeeded => Fate::Won(answer.revision()),
            Ok(_) => Fate::Beaten,
            Err(Trouble::Refused(reason)) => {
                sent.end(&self.connection).await;
                return Err(Trouble::Refused(reason).into());
            }
            // What is open stays so while this fails: the parts must not go before.
            Err(Trouble::Unclear(reason)) => self.settle(known.head, &head, reason).await?,
        };
        sent.end(&self.connection).await;
        let Fate::Won(at) = fate else { return Ok(None) };
        known.head = at;
        known.store = store;
        self.publish(known, configuration);
        Ok(Some(revision))
    }

    /// Finds out whether a transaction happened whose answer is lost. It may still be on its way,
    /// so where it did not happen the head is written anew as it was: then it never will.
    async fn settle(
        &self,
        base: i64,
        ours: &HeadValue,
        reason: String,
    ) -> Result<Fate, StoreError> {
        tracing::warn!(reason, "the answer to a commit is lost: looking whether it was made");
        let revision = Revision(ours.revision);
        let deadline = Instant::now() + COMMIT_MOST;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        while Instant::now() < deadline {
            let reads = [self.keys.head(), self.keys.record(revision), self.keys.floor()];
            if let Ok(mut reading) = self.connection.read(reads.map(api::get)).await {
                let (head, record, floor) = (reading.one(), reading.one(), reading.one());
                match fate(base, ours, head.as_ref(), record.as_ref(), floor_of(floor)?)? {
                    Some(Fate::Forgotten) => break,
                    Some(fate) => return Ok(fate),
                    None => {}
                }
                let same = head.map_or_else(
                    || HeadValue { format: FORMAT, ..HeadValue::default() }.encode_to_vec(),
                    |head| head.value,
                );
                let compare = vec![self.head_is(base)];
                let fence = Txn { compare, success: vec![api::put(self.keys.head(), same)] };
                if matches!(self.connection.txn(fence).await, Ok(answer) if answer.succeeded) {
                    return Ok(Fate::Beaten);
                }
            }
            sleep(backoff.next_pause(0.5)).await;
        }
        Err(StoreError::Unsettled { revision, reason })
    }

    fn head_is(&self, at: i64) -> Compare {
        api::unchanged(self.keys.head(), at)
    }
}

/// `None`: the head is as it was.
fn fate(
    base: i64,
    ours: &HeadValue,
    head: Option<&KeyValue>,
    record: Option<&KeyValue>,
    floor: Revision,
) -> Result<Option<Fate>, StoreError> {
    let Some(head) = head else { return Ok(None) };
    let value: HeadValue = value::decode(&head.value)?;
    if value.commit == ours.commit {
        return Ok(Some(Fate::Won(head.mod_revision)));
    }
    if let Some(record) = record {
        let value: RecordValue = value::decode(&record.value)?;
        if value.commit == ours.commit {
            return Ok(Some(Fate::Won(record.mod_revision)));
        }
    }
    let same_store = value.store == ours.store;
    // Our transaction began this store, and others went on from there.
    if base == 0 && same_store {
        return Ok(Some(Fate::Won(BEFORE_ANY)));
    }
    let lost = if same_store && floor.0 >= ours.revision { Fate::Forgotten } else { Fate::Beaten };
    Ok((head.mod_revision != base).then_some(lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[u8] = b"ours";

    fn head(store: &str, revision: u64, commit: &[u8]) -> HeadValue {
        let (store, commit) = (store.as_bytes().to_vec(), commit.to_vec());
        HeadValue { format: FORMAT, store, revision, commit }
    }

    fn kv(value: &impl prost::Message, at: i64) -> KeyValue {
        KeyValue { value: value.encode_to_vec(), mod_revision: at, ..KeyValue::default() }
    }

    /// What became of a commit of revision 5 on top of the head that etcd's revision `base` wrote.
    fn told(base: i64, now: &HeadValue, record: Option<&[u8]>, floor: u64) -> Option<Fate> {
        let ours = head("store", 5, OURS);
        let record = record.map(|commit| {
            let commit = commit.to_vec();
            kv(&RecordValue { first: 5, last: 5, commit, content: None }, 11)
        });
        let (now, floor) = (kv(now, 12), Revision(floor));
        fate(base, &ours, Some(&now), record.as_ref(), floor).unwrap()
    }

    #[test]
    fn a_commit_is_found_in_the_head_or_in_its_record() {
        assert_eq!(told(10, &head("store", 5, OURS), Some(OURS), 0), Some(Fate::Won(12)));
        assert_eq!(told(10, &head("store", 6, b"next"), Some(OURS), 0), Some(Fate::Won(11)));
        assert_eq!(told(10, &head("store", 5, b"other"), Some(b"other"), 0), Some(Fate::Beaten));
        assert_eq!(told(12, &head("store", 4, b"before"), None, 0), None);
    }

    #[test]
    fn a_restore_on_which_others_committed_happened() {
        let next = head("store", 6, b"next");
        assert_eq!(told(0, &next, None, 5), Some(Fate::Won(BEFORE_ANY)));
        assert_eq!(told(0, &head("other", 6, b"next"), None, 5), Some(Fate::Beaten));
    }

    #[test]
    fn what_is_too_old_to_be_kept_is_not_known_to_have_happened_or_not() {
        let far = head("store", 500, b"far");
        assert_eq!(told(10, &far, None, 400), Some(Fate::Forgotten));
        assert_eq!(told(10, &far, None, 4), Some(Fate::Beaten));
    }
}
