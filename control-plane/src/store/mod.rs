//! Where revisions are kept: whole batches, one monotone [`Revision`], a bounded history.
//!
//! [`Revision`]: segue_shared::ids::Revision

mod batch;
mod contract;
mod current;
mod memory;
mod record;
mod redb;

#[cfg(test)]
mod tests;

pub use contract::{
    ChangeKind, Commit, History, MOST_HISTORY, RecordedChange, RevisionRecord, Store, StoreError,
    StoredConfiguration, StoredResource,
};
pub use memory::MemoryStore;
pub use redb::RedbStore;
