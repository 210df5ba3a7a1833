//! A change to the configuration: draft, check of the whole, commit. One at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use segue_control_plane_core::config::{self, Fault, Faults, Parsed, ResourceKey};
use segue_control_plane_core::diff::{ChangeKind, ResourceChange, diff};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::metrics::Metrics;
use crate::store::{Commit, Store, StoreError, StoredResource};

/// Times that a change whose base moved away is drafted anew, where the caller named no base.
const ATTEMPTS: usize = 3;
/// Resources of a whole configuration: every check reads them all.
const MOST_RESOURCES: usize = 20_000;

/// The one way to change the store.
pub struct Ledger {
    store: Arc<dyn Store>,
    /// Checks are made against what the commit is put on top of.
    turn: Mutex<()>,
    metrics: Metrics,
}

/// What shall become of the configuration.
#[derive(Clone)]
pub enum Edit {
    /// These are created or replaced.
    Put(Vec<Parsed>),
    /// These are removed.
    Remove {
        keys: Vec<ResourceKey>,
        /// Whether a key that does not exist is no failure.
        ignore_missing: bool,
    },
    /// All is as it was at a revision. `None`: the one before the newest.
    Restore(Option<Revision>),
}

/// On which terms, and who says so.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The change happens only on top of this revision. `None`: on top of whatever is newest.
    pub expected: Option<Revision>,
    /// Check and compare, commit nothing.
    pub dry_run: bool,
    pub message: String,
    pub author: String,
}

/// What a change did or, in a dry run, would do.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The revision that holds the change; the newest where nothing changed or in a dry run.
    pub revision: Revision,
    /// In the order of keys.
    pub changes: Vec<ResourceChange>,
}

/// A change that does not happen.
#[derive(Debug, Error)]
pub enum ChangeError {
    #[error(transparent)]
    Faults(#[from] Faults),
    #[error("not found: {}", list(.0))]
    NotFound(Vec<ResourceKey>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    pub fn new(store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self { store, turn: Mutex::new(()), metrics }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Changes the configuration, or says all that stands against it.
    pub async fn change(&self, edit: Edit, terms: Terms) -> Result<Outcome, ChangeError> {
        let begun = Instant::now();
        let result = self.attempt(&edit, &terms).await;
        self.metrics.change_ended(begun.elapsed(), result.is_ok());
        result
    }

    async fn attempt(&self, edit: &Edit, terms: &Terms) -> Result<Outcome, ChangeError> {
        let mut attempt = 1;
        loop {
            // A caller that went away may have left its commit running, so that even in turn the
            // base can move: the store has the last word.
            let result = {
                let _turn = self.turn.lock().await;
                self.change_in_turn(edit, terms).await
            };
            match result {
                Err(ChangeError::Store(StoreError::Conflict { .. }))
                    if terms.expected.is_none() && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn change_in_turn(&self, edit: &Edit, terms: &Terms) -> Result<Outcome, ChangeError> {
        let current = self.store.load().await?;
        let base = current.revision;
        if let Some(expected) = terms.expected.filter(|expected| *expected != base) {
            return Err(StoreError::Conflict { expected, found: base }.into());
        }
        let draft = self.draft(edit, base, current.listed()).await?;
        check_size(&draft.whole)?;
        config::check(base.next(), &draft.whole)?;
        let changes = diff(&draft.before, &draft.after);
        let idle = changes.iter().all(|change| change.kind == ChangeKind::Unchanged);
        if idle || terms.dry_run {
            return Ok(Outcome { revision: base, changes });
        }
        let deletes = changes
            .iter()
            .filter(|change| change.kind == ChangeKind::Deleted)
            .map(|change| change.key.clone())
            .collect();
        let commit = Commit {
            expected: Some(base),
            upserts: draft.after,
            deletes,
            author: terms.author.clone(),
            message: terms.message.clone(),
            at: SystemTime::now(),
        };
        let revision = self.store.commit(commit).await?;
        self.metrics.committed();
        tracing::info!(%revision, author = terms.author, reason = terms.message, "committed");
        Ok(Outcome { revision, changes })
    }

    async fn draft(
        &self,
        edit: &Edit,
        base: Revision,
        current: Vec<StoredResource>,
    ) -> Result<Draft, ChangeError> {
        match edit {
            Edit::Put(batch) => put(current, batch),
            Edit::Remove { keys, ignore_missing } => remove(current, keys, *ignore_missing),
            Edit::Restore(to) => {
                let to = to.unwrap_or(Revision(base.0.saturating_sub(1)));
                let then = self.store.at(to).await?.listed();
                Ok(Draft {
                    whole: parsed(then.iter())?,
                    before: resources(current.iter()),
                    after: resources(then.iter()),
                })
            }
        }
    }
}

/// A configuration that may come to be.
struct Draft {
    /// All of it, to be checked.
    whole: Vec<Parsed>,
    /// What the change touches, as it is.
    before: Vec<Resource>,
    /// What the change touches, as it shall be.
    after: Vec<Resource>,
}

fn put(current: Vec<StoredResource>, batch: &[Parsed]) -> Result<Draft, ChangeError> {
    let keys: BTreeSet<ResourceKey> =
        batch.iter().map(|parsed| config::key(&parsed.resource)).collect();
    let (touched, rest): (Vec<_>, Vec<_>) =
        current.into_iter().partition(|stored| keys.contains(&stored.key));
    let mut whole = parsed(rest.iter())?;
    whole.extend_from_slice(batch);
    Ok(Draft {
        whole,
        before: resources(touched.iter()),
        after: batch.iter().map(|parsed| parsed.resource.clone()).collect(),
    })
}

fn remove(
    current: Vec<StoredResource>,
    keys: &[ResourceKey],
    ignore_missing: bool,
) -> Result<Draft, ChangeError> {
    let keys: BTreeSet<&ResourceKey> = keys.iter().collect();
    let (touched, rest): (Vec<_>, Vec<_>) =
        current.into_iter().partition(|stored| keys.contains(&stored.key));
    let missing: Vec<ResourceKey> = keys
        .into_iter()
        .filter(|key| touched.iter().all(|stored| stored.key != **key))
        .cloned()
        .collect();
    if !missing.is_empty() && !ignore_missing {
        return Err(ChangeError::NotFound(missing));
    }
    let whole = parsed(rest.iter())?;
    Ok(Draft { whole, before: resources(touched.iter()), after: Vec::new() })
}

fn resources<'a>(stored: impl Iterator<Item = &'a StoredResource>) -> Vec<Resource> {
    stored.map(|stored| stored.resource.clone()).collect()
}

/// Resources of the store by today's rules, or all that is wrong with them.
pub fn parsed<'a>(stored: impl Iterator<Item = &'a StoredResource>) -> Result<Vec<Parsed>, Faults> {
    typed(stored.map(|stored| stored.resource.clone()))
}

/// Resources that came as messages, or all that is wrong with them.
pub fn typed(resources: impl Iterator<Item = Resource>) -> Result<Vec<Parsed>, Faults> {
    let mut parsed = Vec::new();
    let mut faults = Vec::new();
    for resource in resources {
        match config::parse_typed(resource) {
            Ok(good) => parsed.push(good),
            Err(more) => faults.extend(more.0),
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(Faults(faults)) }
}

fn check_size(whole: &[Parsed]) -> Result<(), Faults> {
    if whole.len() <= MOST_RESOURCES {
        return Ok(());
    }
    Err(Faults(vec![Fault {
        message: format!("the configuration would hold {} resources", whole.len()),
        hint: format!("at most {MOST_RESOURCES}: delete what is not used any more"),
        ..Fault::default()
    }]))
}

fn list(keys: &[ResourceKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
