//! What a batch does to a configuration: pure, the same for every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use segue_control_plane_core::config::{self, ResourceKey};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::contract::{
    ChangeKind, Commit, RecordedChange, RevisionRecord, StoreError, StoredConfiguration,
    StoredResource,
};

/// One resource before and after a batch; they differ.
pub struct Step {
    pub key: ResourceKey,
    pub before: Option<Arc<StoredResource>>,
    pub after: Option<Arc<StoredResource>>,
}

/// The steps of `commit` on top of `base`, in the order of keys.
pub fn plan(base: &StoredConfiguration, commit: &Commit) -> Result<Vec<Step>, StoreError> {
    let revision = base.revision.next();
    let mut wanted: BTreeMap<ResourceKey, Option<&Resource>> =
        commit.deletes.iter().map(|key| (key.clone(), None)).collect();
    for resource in &commit.upserts {
        if resource.resource.is_none() {
            return Err(StoreError::Nameless);
        }
        let key = config::key(resource);
        if key.name.is_empty() {
            return Err(StoreError::Nameless);
        }
        wanted.insert(key, Some(resource));
    }
    let mut steps = Vec::with_capacity(wanted.len());
    for (key, resource) in wanted {
        let before = base.resources.get(&key).cloned();
        if before.as_ref().map(|stored| &stored.resource) == resource {
            continue;
        }
        let after = resource.map(|resource| {
            Arc::new(StoredResource {
                key: key.clone(),
                resource: resource.clone(),
                revision,
                created_at: before.as_ref().map_or(commit.at, |stored| stored.created_at),
                changed_at: commit.at,
            })
        });
        steps.push(Step { key, before, after });
    }
    Ok(steps)
}

/// `base` after `steps`: the next revision. Costs what changes.
pub fn apply(base: &StoredConfiguration, steps: &[Step]) -> StoredConfiguration {
    let mut resources = base.resources.clone();
    for step in steps {
        match &step.after {
            Some(after) => resources.insert(step.key.clone(), Arc::clone(after)),
            None => resources.remove(&step.key),
        };
    }
    StoredConfiguration { revision: base.revision.next(), resources }
}

/// What the history says about the steps.
pub fn record(commit: Commit, revision: Revision, steps: &[Step]) -> RevisionRecord {
    let changes = steps
        .iter()
        .map(|step| {
            let kind = match (&step.before, &step.after) {
                (None, _) => ChangeKind::Created,
                (Some(_), Some(_)) => ChangeKind::Configured,
                (Some(_), None) => ChangeKind::Deleted,
            };
            RecordedChange { key: step.key.clone(), kind }
        })
        .collect();
    RevisionRecord {
        revision,
        at: commit.at,
        author: commit.author,
        message: commit.message,
        changes,
    }
}

/// Refuses a commit whose base is not the newest revision.
pub fn check_base(expected: Option<Revision>, found: Revision) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != found => Err(StoreError::Conflict { expected, found }),
        _ => Ok(()),
    }
}

/// Refuses a revision that was not made yet or is not kept any more.
pub fn check_kept(
    revision: Revision,
    oldest: Revision,
    newest: Revision,
) -> Result<(), StoreError> {
    if revision < oldest || revision > newest {
        return Err(StoreError::NotKept { revision, oldest, newest });
    }
    Ok(())
}
