//! A change to the configuration: read, check of what it touches, commit. One at a time.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use segue_control_plane_core::config::{
    self, Admitted, Base, Batch, Fault, Faults, ResourceKey, SourceText,
};
use segue_control_plane_core::diff::{ChangeKind, ResourceChange, diff};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};

use crate::access::{Call, Foreign};
use crate::declared::{Current, Declared, FollowError, difference};
use crate::metrics::Metrics;
use crate::store::{Commit, Store, StoreError, StoredConfiguration};

/// Times that a change whose base moved away is checked anew, where the caller named no base.
/// Several control planes on one store take turns this way.
const ATTEMPTS: usize = 8;

/// The one way to change the store.
pub struct Ledger {
    declared: Declared,
    /// Most resources of a whole configuration.
    most_resources: usize,
    /// Checks are made against what the commit is put on top of.
    turn: Arc<Mutex<()>>,
    /// Dry runs wait for each other only.
    dry_turn: Arc<Mutex<()>>,
    metrics: Metrics,
}

/// What shall become of the configuration.
#[derive(Clone)]
pub enum Edit {
    /// These are created or replaced.
    Put { files: Vec<SourceText>, typed: Vec<Resource> },
    /// These are removed.
    Remove {
        keys: Vec<ResourceKey>,
        /// Whether a key that does not exist is no failure.
        ignore_missing: bool,
    },
    /// All is as it was at a revision. `None`: one step further back than the newest revision.
    Restore(Option<Revision>),
}

/// On which terms, and who says so.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The change happens only on top of this revision. `None`: on top of whatever is newest.
    pub expected: Option<Revision>,
    /// Check and compare, commit nothing.
    pub dry_run: bool,
    pub message: String,
    pub author: String,
    /// Whose change it is: one that touches what is not theirs is refused.
    pub call: Call,
}

/// What a change did or, in a dry run, would do.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The revision that holds the change; the newest where nothing changed or in a dry run.
    pub revision: Revision,
    /// In the order of keys.
    pub changes: Vec<ResourceChange>,
    /// What the change says that nothing acts on yet.
    pub warnings: Vec<String>,
}

/// A change that does not happen.
#[derive(Debug, Error)]
pub enum ChangeError {
    #[error(transparent)]
    Faults(#[from] Faults),
    #[error("the batch holds no resource: apply files with at least one document")]
    Empty,
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("not found: {}", list(.0))]
    NotFound(Vec<ResourceKey>),
    #[error("there is nothing to undo")]
    NothingToUndo,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the check broke off: {0}")]
    Interrupted(#[from] JoinError),
}

impl From<FollowError> for ChangeError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Store(error) => Self::Store(error),
            FollowError::Interrupted(error) => Self::Interrupted(error),
        }
    }
}

impl Ledger {
    /// A configuration holds at most `most_resources`.
    pub fn new(declared: Declared, most_resources: usize, metrics: Metrics) -> Self {
        let (turn, dry_turn) = <(Arc<Mutex<()>>, Arc<Mutex<()>>)>::default();
        Self { declared, most_resources, turn, dry_turn, metrics }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        self.declared.store()
    }

    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    pub fn most_resources(&self) -> usize {
        self.most_resources
    }

    /// Changes the configuration, or says all that stands against it.
    pub async fn change(&self, edit: Edit, terms: Terms) -> Result<Outcome, ChangeError> {
        let begun = Instant::now();
        let edit = Arc::new(edit);
        let mut attempt = 1;
        let result = loop {
            match self.attempt(&edit, &terms).await {
                // Another control plane was first, or a commit whose caller went away.
                Err(ChangeError::Store(StoreError::Conflict { .. }))
                    if terms.expected.is_none() && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => break result,
            }
        };
        self.metrics.change_ended(begun.elapsed(), result.is_ok());
        result
    }

    async fn attempt(&self, edit: &Arc<Edit>, terms: &Terms) -> Result<Outcome, ChangeError> {
        let turn = if terms.dry_run { &self.dry_turn } else { &self.turn };
        let turn = Arc::clone(turn).lock_owned().await;
        // Another control plane may have acknowledged what this one has not heard of: "unchanged"
        // must be true of that too.
        self.store().latest().await?;
        let current = self.declared.catch_up().await?;
        let base = current.stored.revision;
        if let Some(expected) = terms.expected.filter(|expected| *expected != base) {
            return Err(StoreError::Conflict { expected, found: base }.into());
        }
        let restores = match **edit {
            Edit::Restore(Some(to)) => Some(to),
            Edit::Restore(None) => Some(self.one_step_back(base).await?),
            Edit::Put { .. } | Edit::Remove { .. } => None,
        };
        let then = match restores {
            Some(to) => Some(self.store().at(to).await?),
            None => None,
        };
        let (edit, most) = (Arc::clone(edit), self.most_resources);
        // A check goes on where its caller goes away, and so does its turn: whoever comes and goes
        // has one running, not many.
        let (call, dry_run) = (terms.call.clone(), terms.dry_run);
        let touch = move |keys: &[ResourceKey]| call.touch(keys.iter(), dry_run);
        let draft = move || (draft(&edit, then.as_ref(), &current, most, touch), turn);
        let (draft, _turn) = spawn_blocking(draft).await?;
        let Draft { admitted: Admitted { batch, next }, deletes, changes, warnings } = draft?;
        terms.call.touch(changes.iter().map(|change| &change.key), terms.dry_run)?;
        let idle = changes.iter().all(|change| change.kind == ChangeKind::Unchanged);
        if idle || terms.dry_run {
            return Ok(Outcome { revision: base, changes, warnings });
        }
        let message = match restores {
            Some(to) if terms.message.is_empty() => format!("undo to revision {to}"),
            _ => terms.message.clone(),
        };
        let commit = Commit {
            expected: Some(base),
            upserts: batch,
            deletes,
            author: terms.author.clone(),
            message: message.clone(),
            restores,
            at: SystemTime::now(),
        };
        self.declared.expect(next);
        let revision = self.store().commit(commit).await?;
        self.metrics.committed();
        tracing::info!(%revision, author = terms.author, reason = message, "committed");
        Ok(Outcome { revision, changes, warnings })
    }
}

impl Ledger {
    /// The revision before the newest one. An undo stands for the revision that it went back to,
    /// so that one after the other leads further back and never forth again.
    async fn one_step_back(&self, newest: Revision) -> Result<Revision, ChangeError> {
        let mut there = newest;
        loop {
            let history = self.store().history(Some(there.next()), 1).await?;
            let record = history.revisions.into_iter().find(|record| record.revision == there);
            match record.and_then(|record| record.restores) {
                Some(to) if to < there => there = to,
                _ => break,
            }
        }
        there.0.checked_sub(1).map(Revision).ok_or(ChangeError::NothingToUndo)
    }
}

/// A configuration that may come to be.
struct Draft {
    admitted: Admitted,
    deletes: Vec<ResourceKey>,
    /// In the order of keys.
    changes: Vec<ResourceChange>,
    warnings: Vec<String>,
}

/// Reads and checks an edit. `then` is the configuration to be restored, where one is. `touch` is
/// told what a batch names before it is checked: faults are told of what is the caller's alone, and
/// a batch that is refused for them is known for what it would have changed.
fn draft(
    edit: &Edit,
    then: Option<&StoredConfiguration>,
    current: &Current,
    most_resources: usize,
    touch: impl FnOnce(&[ResourceKey]) -> Result<(), Foreign>,
) -> Result<Draft, ChangeError> {
    let Current { stored, base } = current;
    let next = stored.revision.next();
    let (admitted, deletes) = match edit {
        Edit::Put { files, typed } => {
            let batch = Batch::read(files, typed);
            touch(&batch.keys().collect::<Vec<_>>())?;
            let admitted = base.admit_batch(next, batch, &[])?;
            if admitted.batch.is_empty() {
                return Err(ChangeError::Empty);
            }
            (admitted, Vec::new())
        }
        Edit::Remove { keys, ignore_missing } => {
            let deletes = existing(stored, keys, *ignore_missing)?;
            (base.admit(next, &[], &[], &deletes)?, deletes)
        }
        Edit::Restore(_) => {
            let (upserts, deletes) = then.map(|then| difference(stored, then)).unwrap_or_default();
            let upserts: Vec<Resource> = upserts.iter().map(|it| it.resource.clone()).collect();
            (base.admit(next, &[], &upserts, &deletes)?, deletes)
        }
    };
    check_size(base, admitted.next.len(), most_resources)?;
    let touched = admitted.batch.iter().map(config::key).chain(deletes.iter().cloned());
    let before: Vec<Resource> = touched
        .filter_map(|key| stored.resources.get(&key).map(|stored| stored.resource.clone()))
        .collect();
    let changes = diff(&before, &admitted.batch);
    let warnings = config::notices(&admitted.batch);
    Ok(Draft { admitted, deletes, changes, warnings })
}

/// Those of the keys that exist, each once.
fn existing(
    stored: &StoredConfiguration,
    keys: &[ResourceKey],
    ignore_missing: bool,
) -> Result<Vec<ResourceKey>, ChangeError> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let (there, missing): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| stored.resources.contains_key(key));
    if missing.is_empty() || ignore_missing {
        Ok(there)
    } else {
        Err(ChangeError::NotFound(missing))
    }
}

/// Refuses what makes a configuration larger than it may be; whatever makes it smaller is welcome.
pub fn check_size(base: &Base, next: usize, most: usize) -> Result<(), Faults> {
    let present = match base {
        Base::Checked(declaration) => declaration.len(),
        Base::Unchecked(resources) => resources.len(),
    };
    if next <= most || next < present {
        return Ok(());
    }
    Err(Faults(vec![Fault {
        message: format!("the configuration would hold {next} resources"),
        hint: format!(
            "at most {most}: delete what is not used any more, or raise --max-resources of the \
             control plane"
        ),
        ..Fault::default()
    }]))
}

fn list(keys: &[ResourceKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
