//! What was: read from etcd, as memory holds the newest only.

use segue_shared::ids::Revision;

use super::Inner;
use super::api::{self, KeyValue};
use super::follow::{self, PAGE_RECORDS};
use super::value::{self, Past, RecordValue};
use crate::store::batch;
use crate::store::contract::{
    History, MOST_HISTORY, StoreError, StoredCommit, StoredConfiguration,
};

impl Inner {
    pub(super) async fn at(&self, revision: Revision) -> Result<StoredConfiguration, StoreError> {
        let newest = self.newest(revision).await?;
        let floor = self.floor().await?;
        batch::check_kept(revision, self.oldest(floor, newest.revision), newest.revision)?;
        if revision == newest.revision {
            return Ok(newest);
        }
        let base = self.checkpoint_before(revision).await?.unwrap_or_default();
        if base.revision < floor {
            return Err(StoreError::Unreadable(format!("no checkpoint at {floor}")));
        }
        let commits = self.between(base.revision.next(), revision).await?;
        let commits = commits.into_iter().map(|past| past.commit).collect();
        Ok(follow::replay(&base, commits)?.unwrap_or(base))
    }

    pub(super) async fn history(
        &self,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<History, StoreError> {
        let newest = self.newest(Revision::NONE).await?.revision;
        let oldest = self.oldest(self.floor().await?, newest);
        let end = before.map_or(newest.next(), |before| before.min(newest.next()));
        let limit = u64::try_from(limit.min(MOST_HISTORY)).unwrap_or(u64::MAX);
        let first = end.0.saturating_sub(limit).max(oldest.next().0);
        let mut past = self.between(Revision(first), Revision(end.0.saturating_sub(1))).await?;
        past.reverse();
        let revisions = past.into_iter().map(|past| past.record).collect();
        Ok(History { revisions, oldest })
    }

    pub(super) async fn commits(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<StoredCommit>, StoreError> {
        let newest = self.newest(after).await?.revision;
        batch::check_kept(after, self.oldest(self.floor().await?, newest), newest)?;
        let last = after.0.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX)).min(newest.0);
        let past = self.between(after.next(), Revision(last)).await?;
        Ok(past.into_iter().map(|past| past.commit).collect())
    }

    /// The newest configuration, which is not before `revision` if any is.
    async fn newest(&self, revision: Revision) -> Result<StoredConfiguration, StoreError> {
        let newest = self.current.load();
        if revision > newest.revision { self.latest().await } else { Ok(newest) }
    }

    /// The oldest revision that is still there.
    pub(super) async fn floor(&self) -> Result<Revision, StoreError> {
        floor_of(self.connection.read([api::get(self.keys.floor())]).await?.one())
    }

    /// The oldest revision that is shown.
    fn oldest(&self, floor: Revision, newest: Revision) -> Revision {
        floor.max(Revision(newest.0.saturating_sub(self.retention)))
    }

    /// Commits from `first` to `last`, in order; none where there are none between.
    pub(super) async fn between(
        &self,
        first: Revision,
        last: Revision,
    ) -> Result<Vec<Past>, StoreError> {
        let mut commits = Vec::new();
        let mut next = first;
        while next <= last {
            let page = api::first_of(self.keys.records_from(next), PAGE_RECORDS);
            let records = self.connection.read([page]).await?.range();
            if records.is_empty() {
                return Err(self.missing(next).await);
            }
            for record in records {
                let record: RecordValue = value::decode(&record.value)?;
                if record.first > next.0 {
                    return Err(self.missing(next).await);
                }
                next = Revision(record.last).next();
                let wanted = first..=last;
                let past = self.commits_of(record).await?.into_iter();
                commits.extend(past.filter(|past| wanted.contains(&past.record.revision)));
                if next > last {
                    break;
                }
            }
        }
        Ok(commits)
    }

    /// Why there is no record of a revision: it may have grown too old since it was asked for.
    async fn missing(&self, revision: Revision) -> StoreError {
        let newest = self.current.load().revision;
        match self.floor().await {
            Ok(oldest) if revision <= oldest => {
                StoreError::NotKept { revision, oldest: self.oldest(oldest, newest), newest }
            }
            Ok(_) => StoreError::Unreadable(format!("no revision {revision}")),
            Err(error) => error,
        }
    }
}

/// What the key of the floor says.
pub fn floor_of(kv: Option<KeyValue>) -> Result<Revision, StoreError> {
    let Some(kv) = kv else { return Ok(Revision::NONE) };
    let number = std::str::from_utf8(&kv.value).ok().and_then(|number| number.parse().ok());
    number.map(Revision).ok_or_else(|| StoreError::Unreadable("the floor".to_owned()))
}
