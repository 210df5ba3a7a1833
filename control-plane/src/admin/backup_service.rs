//! `segue.admin.v1.BackupService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use imbl::OrdMap;
use prost::Message as _;
use segue_control_plane_core::backup::{BackupFault, Check, FORMAT, Seal, Whole};
use segue_control_plane_core::config::{self, Base, Declaration};
use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::backup_record::Record;
use segue_proto::admin::v1::backup_service_server::BackupService;
use segue_shared::ids::Revision;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::answer;
use super::change::Ledger;
use super::in_flight::InFlight;
use crate::access::{Call, Rights};
use crate::declared::difference;
use crate::store::{
    Backup, Store, StoreError, StoredCommit, StoredConfiguration, StoredResource, replay,
};

/// Largest backup that is taken back: it is held in memory until it is known to be whole.
const MOST_BACKUP_BYTES: usize = 1024 * 1024 * 1024;
/// Commits that are read from the store at one time.
const PAGE: usize = 32;
/// Time for a caller to send one more record: the others wait for their turn.
const NEXT_RECORD: Duration = Duration::from_secs(30);

/// See the module.
pub struct Backups {
    pub ledger: Arc<Ledger>,
    pub in_flight: InFlight,
    /// One at a time: each is held in memory.
    pub restoring: Semaphore,
}

#[tonic::async_trait]
impl BackupService for Backups {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<api::BackupRecord, Status>> + Send>>;

    async fn backup(
        &self,
        request: Request<api::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let place = self.in_flight.stream()?;
        let since = Revision(request.into_inner().since_revision);
        let store = Arc::clone(self.ledger.store());
        let newest = store.latest().await.map_err(|error| answer::store_status(&error))?;
        // What is not kept any more is told before the first record.
        if since > Revision::NONE {
            let kept = store.commits(since, 0).await;
            kept.map_err(|error| answer::store_status(&error))?;
        }
        let records = records(store, newest, since);
        Ok(Response::new(Box::pin(async_stream::stream! {
            let _place = place;
            for await record in records {
                yield record;
            }
        })))
    }

    async fn restore(
        &self,
        request: Request<Streaming<api::BackupRecord>>,
    ) -> Result<Response<api::RestoreResponse>, Status> {
        let _place = self.in_flight.stream()?;
        let (metadata, extensions, records) = request.into_parts();
        let _turn = self.restoring.try_acquire().map_err(|_| {
            Status::resource_exhausted("another backup is being restored: try again shortly")
        })?;
        let (whole, backup) = receive(records).await?;
        // Without a commit there is nothing to do but to say whether it fits.
        if let Backup::Continued(commits) = &backup
            && commits.is_empty()
        {
            Call::of(&extensions).restores("incremental", 0);
            return self.fits(whole).await;
        }
        let call = Call::of(&extensions);
        let backup = self.checked(backup, &call, &metadata).await?;
        // Those who may do this may be others by now.
        Rights::confirm(&extensions)?;
        let restored = self.ledger.store().restore(backup).await;
        let revision = restored.map_err(|error| answer::store_status(&error))?;
        call.committed(revision.0);
        tracing::info!(%revision, since = whole.since, "restored a backup");
        self.restored(revision).await
    }
}

impl Backups {
    async fn fits(&self, whole: Whole) -> Result<Response<api::RestoreResponse>, Status> {
        let newest = self.ledger.store().latest().await;
        let found = newest.map_err(|error| answer::store_status(&error))?.revision;
        let expected = Revision(whole.since);
        if found != expected {
            return Err(answer::store_status(&StoreError::Conflict { expected, found }));
        }
        self.restored(found).await
    }

    async fn restored(&self, revision: Revision) -> Result<Response<api::RestoreResponse>, Status> {
        let now = self.ledger.store().load().await;
        let resources = now.map_err(|error| answer::store_status(&error))?.resources.len();
        let resources = u64::try_from(resources).unwrap_or(u64::MAX);
        Ok(Response::new(api::RestoreResponse { revision: revision.0, resources }))
    }

    /// The backup, if what it leads to passes the checks of this release.
    async fn checked(
        &self,
        backup: Backup,
        call: &Call,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Result<Backup, Status> {
        let call = call.clone();
        let store = self.ledger.store();
        store.latest().await.map_err(|error| answer::store_status(&error))?;
        let current = self.ledger.declared().catch_up().await;
        let current = current.map_err(|error| answer::status(error.into(), metadata))?;
        let most = self.ledger.most_resources();
        let check = move || {
            let (before, base) = match &backup {
                // Nothing is there, or the store says no.
                Backup::Full(_) => {
                    (StoredConfiguration::default(), Base::Checked(Declaration::default()))
                }
                Backup::Continued(_) => (current.stored, current.base),
            };
            let kind = match &backup {
                Backup::Full(_) => "full",
                Backup::Continued(_) => "incremental",
            };
            let after = match &backup {
                Backup::Full(configuration) => configuration.clone(),
                Backup::Continued(commits) => {
                    let first = commits.first().map_or(0, |commit| commit.revision.0);
                    let expected = Revision(first.saturating_sub(1));
                    if expected != before.revision {
                        let found = before.revision;
                        return Err(StoreError::Conflict { expected, found }.into());
                    }
                    let replayed = replay(&before, commits.clone())?;
                    replayed.into_iter().next_back().map_or(before.clone(), |last| last.after)
                }
            };
            let (upserts, deletes) = difference(&before, &after);
            call.restores(kind, upserts.len() + deletes.len());
            let upserts: Vec<_> = upserts.iter().map(|stored| stored.resource.clone()).collect();
            let admitted = base.admit(after.revision, &[], &upserts, &deletes)?;
            super::change::check_size(&base, admitted.next.len(), most)?;
            Ok::<_, super::change::ChangeError>(backup)
        };
        let checked = spawn_blocking(check).await;
        checked
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| answer::status(error, metadata))
    }
}

/// All records of a backup up to `newest`: whole (`since` 0) or as commits.
fn records(
    store: Arc<dyn Store>,
    newest: StoredConfiguration,
    since: Revision,
) -> impl Stream<Item = Result<api::BackupRecord, Status>> + Send {
    async_stream::try_stream! {
        let header = api::BackupHeader {
            format: FORMAT,
            since_revision: since.0,
            revision: newest.revision.0,
            made_at: Some(answer::time(SystemTime::now())),
        };
        let mut seal = Seal::default();
        yield sealed(&mut seal, Record::Header(header));
        if since == Revision::NONE {
            for stored in newest.resources.values() {
                yield sealed(&mut seal, Record::Resource(resource(stored)));
            }
        } else {
            let mut after = since;
            while after < newest.revision {
                let left = usize::try_from(newest.revision.0 - after.0).unwrap_or(PAGE);
                let page = store.commits(after, left.min(PAGE)).await;
                let page = page.map_err(|error| answer::store_status(&error))?;
                after = page
                    .last()
                    .map(|commit| commit.revision)
                    .ok_or_else(|| Status::data_loss(format!("no commit follows {after}")))?;
                for commit in page {
                    yield sealed(&mut seal, Record::Commit(again(commit)));
                }
            }
        }
        yield seal.footer();
    }
}

fn sealed(seal: &mut Seal, record: Record) -> api::BackupRecord {
    let record = api::BackupRecord { record: Some(record) };
    seal.take(&record);
    record
}

/// Takes all records, and believes none before the last.
async fn receive(mut records: Streaming<api::BackupRecord>) -> Result<(Whole, Backup), Status> {
    let refuse = |fault: BackupFault| {
        Status::invalid_argument(format!("the backup is not whole, nothing was restored: {fault}"))
    };
    let mut check = Check::default();
    let mut revision = Revision::NONE;
    let mut resources = OrdMap::new();
    let mut commits = Vec::new();
    let mut bytes = 0;
    loop {
        let next = timeout(NEXT_RECORD, records.message()).await.map_err(|_| {
            Status::deadline_exceeded(format!(
                "no record came within {NEXT_RECORD:?}: nothing was restored"
            ))
        })?;
        let Some(record) = next? else { break };
        bytes += record.encoded_len();
        if bytes > MOST_BACKUP_BYTES {
            return Err(Status::resource_exhausted(format!(
                "the backup is larger than {MOST_BACKUP_BYTES} bytes"
            )));
        }
        check.take(&record).map_err(refuse)?;
        match record.record {
            Some(Record::Header(header)) => revision = Revision(header.revision),
            Some(Record::Resource(resource)) => {
                let stored = stored(resource)?;
                if stored.revision > revision {
                    return Err(Status::invalid_argument(format!(
                        "{} is of revision {}, after the backup's {revision}",
                        stored.key, stored.revision
                    )));
                }
                resources.insert(stored.key.clone(), Arc::new(stored));
            }
            Some(Record::Commit(commit)) => commits.push(commit_of(commit)?),
            Some(Record::Footer(_)) | None => {}
        }
    }
    let whole = check.end().map_err(refuse)?;
    let backup = match whole.since {
        0 if revision == Revision::NONE => {
            return Err(Status::invalid_argument("the backup is of an empty store: nothing to do"));
        }
        0 => Backup::Full(StoredConfiguration { revision, resources }),
        _ => Backup::Continued(commits),
    };
    Ok((whole, backup))
}

fn resource(stored: &StoredResource) -> api::BackupResource {
    api::BackupResource {
        resource: Some(stored.resource.clone()),
        revision: stored.revision.0,
        created_at: Some(answer::time(stored.created_at)),
        changed_at: Some(answer::time(stored.changed_at)),
    }
}

fn stored(resource: api::BackupResource) -> Result<StoredResource, Status> {
    let body =
        resource.resource.filter(|resource| resource.resource.is_some()).ok_or_else(|| {
            Status::invalid_argument("a resource of a kind that this release does not know")
        })?;
    Ok(StoredResource {
        key: config::key(&body),
        resource: body,
        revision: Revision(resource.revision),
        created_at: time(resource.created_at)?,
        changed_at: time(resource.changed_at)?,
    })
}

fn again(commit: StoredCommit) -> api::BackupCommit {
    api::BackupCommit {
        revision: commit.revision.0,
        committed_at: Some(answer::time(commit.at)),
        author: commit.author,
        message: commit.message,
        restored_revision: commit.restores.map(|revision| revision.0),
        upserts: commit.upserts,
        deletes: commit.deletes.iter().map(answer::key).collect(),
    }
}

fn commit_of(commit: api::BackupCommit) -> Result<StoredCommit, Status> {
    Ok(StoredCommit {
        revision: Revision(commit.revision),
        at: time(commit.committed_at)?,
        author: commit.author,
        message: commit.message,
        restores: commit.restored_revision.map(Revision),
        upserts: commit.upserts,
        deletes: commit.deletes.iter().map(answer::read_key).collect::<Result<_, _>>()?,
    })
}

fn time(at: Option<prost_types::Timestamp>) -> Result<SystemTime, Status> {
    at.and_then(|at| SystemTime::try_from(at).ok())
        .ok_or_else(|| Status::invalid_argument("a record without a time"))
}
