//! Where revisions are kept: whole batches, one monotone [`Revision`], a bounded history.
//!
//! [`Revision`]: segue_shared::ids::Revision

mod batch;
mod contract;
mod current;
mod etcd;
mod memory;
mod record;
mod redb;

#[cfg(test)]
mod tests;

pub use batch::{Replayed, replay};
pub use contract::{
    Backup, ChangeKind, Commit, History, MOST_HISTORY, RecordedChange, RevisionRecord, Store,
    StoreError, StoredCommit, StoredConfiguration, StoredResource,
};
pub use etcd::{EtcdSettings, EtcdStore, Follower, Following, Lead, News, Note, Tidying};
pub use memory::MemoryStore;
pub use redb::RedbStore;
