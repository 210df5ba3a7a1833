//! Checkpoints, and the end of what is too old. One control plane does it: the one that leads.
//! Two at one time would do no harm, only work.

use std::time::Duration;

use prost::Message as _;
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::api::{self, RangeRequest, Txn};
use super::keys::Part;
use super::value::{self, CheckpointValue};
use super::{EtcdStore, Inner, content, draw_id};
use crate::store::contract::StoreError;

/// etcd keeps every value that a key ever had until it is told otherwise, so it is told, of what
/// is at least this old. The watches of all who use that etcd can go back this far.
const COMPACT_EVERY: Duration = Duration::from_mins(10);

/// What one that leads remembers between two rounds.
#[derive(Debug, Default)]
pub struct Tidying {
    /// The newest revision that a round looked at.
    looked: Revision,
    /// When etcd was at which of its own revisions.
    mark: Option<(Instant, i64)>,
}

impl EtcdStore {
    /// One round: a checkpoint where one is due, then the end of records and checkpoints that are
    /// older than the history. Costs nothing where nothing was committed since the last round.
    pub async fn tidy(&self, tidying: &mut Tidying) -> Result<(), StoreError> {
        let newest = self.inner.current.load().revision;
        if newest != tidying.looked {
            self.inner.add_checkpoint().await?;
            self.inner.remove_old().await?;
            tidying.looked = newest;
        }
        self.inner.compact(tidying).await
    }
}

impl Inner {
    async fn add_checkpoint(&self) -> Result<(), StoreError> {
        let configuration = self.current.load();
        let revision = configuration.revision;
        let last = self.last_checkpoint(revision).await?.unwrap_or_default();
        if revision.0 < last.0 + self.checkpoint_every {
            return Ok(());
        }
        let place = (Part::Checkpoint, revision, draw_id()?);
        let bytes = value::encode_configuration(&configuration);
        let sent = content::send(&self.connection, &self.keys, place, bytes).await?;
        let value = CheckpointValue { revision: revision.0, content: Some(sent.value.clone()) };
        let key = self.keys.checkpoint(revision);
        let mut puts = vec![api::put(key.clone(), value.encode_to_vec())];
        puts.extend(sent.keep.iter().cloned());
        // Where another one wrote it, or no answer comes, the next round sees it.
        let absent = vec![api::unchanged(key, 0)];
        self.connection.txn(Txn { compare: absent, success: puts }).await?;
        sent.end(&self.connection).await;
        tracing::debug!(%revision, "wrote a checkpoint");
        Ok(())
    }

    async fn last_checkpoint(&self, to: Revision) -> Result<Option<Revision>, StoreError> {
        let last = api::last_of(self.keys.checkpoints_to(to));
        let last = RangeRequest { keys_only: true, ..last };
        let Some(kv) = self.connection.read([last]).await?.one() else { return Ok(None) };
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        let number = key.rsplit('/').next().and_then(|number| number.parse().ok());
        number.map(|number| Some(Revision(number))).ok_or(StoreError::Unreadable(key))
    }

    /// Removes what no kept revision needs: what is older than the newest checkpoint that is not
    /// newer than the oldest kept revision.
    async fn remove_old(&self) -> Result<(), StoreError> {
        let newest = self.current.load().revision;
        let oldest = Revision(newest.0.saturating_sub(self.retention));
        let Some(floor) = self.last_checkpoint(oldest).await? else { return Ok(()) };
        if floor <= self.floor().await? {
            return Ok(());
        }
        let success = vec![
            api::put(self.keys.floor(), floor.0.to_string()),
            api::delete(self.keys.records_to(floor)),
            api::delete(self.keys.checkpoints_before(floor)),
            api::delete(self.keys.parts_before(Part::Record, floor.next())),
            api::delete(self.keys.parts_before(Part::Checkpoint, floor)),
        ];
        self.connection.again(Txn { compare: Vec::new(), success }).await?;
        tracing::debug!(oldest = %floor, "removed what is older");
        Ok(())
    }

    async fn compact(&self, tidying: &mut Tidying) -> Result<(), StoreError> {
        if tidying.mark.is_some_and(|(when, _)| when.elapsed() < COMPACT_EVERY) {
            return Ok(());
        }
        let now = self.connection.read([api::get(self.keys.floor())]).await?.at;
        if let Some((_, then)) = tidying.mark.replace((Instant::now(), now)) {
            // Where another one compacted further it is refused, and all is well.
            if let Err(trouble) = self.connection.compact(then).await {
                tracing::debug!(?trouble, "etcd was not compacted");
            }
        }
        Ok(())
    }
}
