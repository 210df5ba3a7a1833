//! What a batch does to a configuration: pure, the same for every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use segue_control_plane_core::config::{self, ResourceKey};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::contract::{
    ChangeKind, Commit, RecordedChange, RevisionRecord, StoreError, StoredCommit,
    StoredConfiguration, StoredResource,
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

/// What a key was before a revision.
pub type Before = (ResourceKey, Option<Arc<StoredResource>>);

/// Takes the newest commit of `configuration` back.
pub fn take_back(configuration: &mut StoredConfiguration, befores: Vec<Before>) {
    for (key, before) in befores {
        match before {
            Some(before) => configuration.resources.insert(key, before),
            None => configuration.resources.remove(&key),
        };
    }
    configuration.revision = Revision(configuration.revision.0.saturating_sub(1));
}

/// What the history says about the steps.
pub fn record(commit: &Commit, revision: Revision, steps: &[Step]) -> RevisionRecord {
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
        author: commit.author.clone(),
        message: commit.message.clone(),
        restores: commit.restores,
        changes,
    }
}

/// A commit made again: what it did and what came of it.
pub struct Replayed {
    pub record: RevisionRecord,
    pub steps: Vec<Step>,
    pub after: StoredConfiguration,
}

/// Makes `commits` again on top of `base`. Each has the next revision and changes something, or
/// they are not what a store once committed.
pub fn replay(
    base: &StoredConfiguration,
    commits: Vec<StoredCommit>,
) -> Result<Vec<Replayed>, StoreError> {
    let mut base = base.clone();
    let mut replayed = Vec::with_capacity(commits.len());
    for commit in commits {
        let expected = base.revision.next();
        if commit.revision != expected {
            let found = commit.revision;
            return Err(StoreError::BadBackup(format!("revision {expected} is not {found}")));
        }
        let commit = Commit {
            expected: None,
            upserts: commit.upserts,
            deletes: commit.deletes,
            author: commit.author,
            message: commit.message,
            restores: commit.restores,
            at: commit.at,
        };
        let steps = plan(&base, &commit)?;
        if steps.is_empty() {
            return Err(StoreError::BadBackup(format!("revision {expected} changes nothing")));
        }
        let record = record(&commit, expected, &steps);
        base = apply(&base, &steps);
        replayed.push(Replayed { record, steps, after: base.clone() });
    }
    Ok(replayed)
}

/// What it takes to make the commit of `record` again. `after` finds what its resources became.
pub fn again<'a>(
    record: &RevisionRecord,
    after: impl Fn(&ResourceKey) -> Option<&'a Arc<StoredResource>>,
) -> StoredCommit {
    let mut upserts = Vec::new();
    let mut deletes = Vec::new();
    for change in &record.changes {
        match after(&change.key) {
            Some(stored) => upserts.push(stored.resource.clone()),
            None => deletes.push(change.key.clone()),
        }
    }
    StoredCommit {
        revision: record.revision,
        at: record.at,
        author: record.author.clone(),
        message: record.message.clone(),
        restores: record.restores,
        upserts,
        deletes,
    }
}

/// Refuses a whole configuration where there is one already.
pub fn check_empty(found: Revision) -> Result<(), StoreError> {
    if found == Revision::NONE { Ok(()) } else { Err(StoreError::NotEmpty { found }) }
}

/// Refuses commits that do not go on where the store is.
pub fn check_continues(commits: &[StoredCommit], found: Revision) -> Result<(), StoreError> {
    let first = commits
        .first()
        .ok_or_else(|| StoreError::BadBackup("it holds no commit".to_owned()))?
        .revision;
    check_base(Some(Revision(first.0.saturating_sub(1))), found)
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
