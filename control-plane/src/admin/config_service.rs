//! `segue.admin.v1.ConfigService`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use prost::Message as _;
use segue_control_plane_core::config::{ResourceKey, SourceText};
use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::config_service_server::ConfigService;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tonic::{Request, Response, Status};

use super::change::{Edit, Ledger, Outcome, Terms};
use super::conditions::Outlook;
use super::in_flight::InFlight;
use super::watch::{Filter, watch};
use super::{answer, change};
use crate::access::Call;
use crate::fleet::Fleet;
use crate::store::{StoredConfiguration, StoredResource};

/// Resources and revisions a page.
const MOST_PAGE: u32 = 500;
const REVISIONS_PAGE: u32 = 20;
/// A page ends early here: common clients take messages of 4 MiB.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Longest author and message of a commit, in bytes.
const MOST_AUTHOR_BYTES: usize = 256;
const MOST_MESSAGE_BYTES: usize = 4096;

/// See the module.
pub struct Configuration {
    pub ledger: Arc<Ledger>,
    pub fleet: Fleet,
    pub in_flight: InFlight,
    pub drain: DrainSignal,
}

#[tonic::async_trait]
impl ConfigService for Configuration {
    async fn apply(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        let _place = self.in_flight.call()?;
        let (metadata, extensions, request) = request.into_parts();
        let call = Call::of(&extensions);
        let terms = terms(
            request.expected_revision,
            request.dry_run,
            request.message,
            &request.author,
            call.clone(),
        )?;
        let edit = Edit::Put { files: files(request.files), typed: request.resources };
        let outcome = self.change(edit, terms, &metadata).await?;
        let warnings = outcome.warnings.clone();
        let (revision, changes) = told(outcome, &call);
        Ok(Response::new(api::ApplyResponse { revision, changes, warnings }))
    }

    async fn list(
        &self,
        request: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        let _place = self.in_flight.call()?;
        let caller = Call::of(request.extensions()).caller;
        let request = request.into_inner();
        let filter = Filter::new(&request.kind, request.namespace, request.name, caller)?;
        let page = Page::read(&request.page_token, request.revision)?;
        let store = self.ledger.store();
        let StoredConfiguration { revision, resources } = match page.revision {
            0 => store.load().await,
            pinned => store.at(Revision(pinned)).await,
        }
        .map_err(|error| answer::store_status(&error))?;
        let most = page_size(request.page_size, MOST_PAGE);
        let is_newest = *store.watch().borrow() == revision;
        let outlook = is_newest.then(|| Outlook::new(self.fleet.standings()));
        let mut matching =
            resources.values().filter(|stored| filter.matches(&stored.key)).skip(page.offset);
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < most && bytes < PAGE_BYTES {
            let Some(stored) = matching.next() else { break };
            let entry = answer::entry(StoredResource::clone(stored), outlook.as_ref());
            bytes += entry.encoded_len();
            entries.push(entry);
        }
        let next_page_token = if matching.next().is_some() {
            format!("{revision}/{}", page.offset + entries.len())
        } else {
            String::new()
        };
        let revision = revision.0;
        Ok(Response::new(api::ListResponse { resources: entries, revision, next_page_token }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteRequest>,
    ) -> Result<Response<api::DeleteResponse>, Status> {
        let _place = self.in_flight.call()?;
        let (metadata, extensions, request) = request.into_parts();
        let call = Call::of(&extensions);
        let terms = terms(
            request.expected_revision,
            request.dry_run,
            request.message,
            &request.author,
            call.clone(),
        )?;
        if request.keys.is_empty() {
            return Err(Status::invalid_argument("no resource is named"));
        }
        let keys =
            request.keys.iter().map(answer::read_key).collect::<Result<Vec<ResourceKey>, _>>()?;
        // Before it is told which of them exist.
        call.touch(keys.iter(), request.dry_run)?;
        let outcome = self
            .change(
                Edit::Remove { keys, ignore_missing: request.ignore_not_found },
                terms,
                &metadata,
            )
            .await?;
        let (revision, changes) = told(outcome, &call);
        Ok(Response::new(api::DeleteResponse { revision, changes }))
    }

    async fn list_revisions(
        &self,
        request: Request<api::ListRevisionsRequest>,
    ) -> Result<Response<api::ListRevisionsResponse>, Status> {
        let _place = self.in_flight.call()?;
        let caller = Call::of(request.extensions()).caller;
        let request = request.into_inner();
        let before = Some(Revision(request.before_revision)).filter(|before| before.0 > 0);
        let limit = page_size(request.page_size, REVISIONS_PAGE);
        let history = self.ledger.store().history(before, limit).await;
        let history = history.map_err(|error| answer::store_status(&error))?;
        let mut revisions: Vec<_> = history.revisions.into_iter().map(answer::revision).collect();
        // Each commit is told, and of what it changed only what the caller may see.
        for change in &mut revisions {
            let sees = |change: &api::Change| {
                change.key.as_ref().is_some_and(|key| caller.sees(&key.namespace))
            };
            change.changes.retain(sees);
        }
        Ok(Response::new(api::ListRevisionsResponse {
            revisions,
            oldest_revision: history.oldest.0,
        }))
    }

    async fn undo(
        &self,
        request: Request<api::UndoRequest>,
    ) -> Result<Response<api::UndoResponse>, Status> {
        let _place = self.in_flight.call()?;
        let (metadata, extensions, request) = request.into_parts();
        let call = Call::of(&extensions);
        let terms = terms(
            request.expected_revision,
            request.dry_run,
            request.message,
            &request.author,
            call.clone(),
        )?;
        let to = Some(Revision(request.to_revision)).filter(|to| to.0 > 0);
        if to.is_none() && *self.ledger.store().watch().borrow() == Revision::NONE {
            return Err(Status::failed_precondition("there is nothing to undo"));
        }
        let outcome = self.change(Edit::Restore(to), terms, &metadata).await?;
        let (revision, changes) = told(outcome, &call);
        // What an undo leaves alone is not its story.
        let unchanged = i32::from(api::change::Kind::Unchanged);
        let changes = changes.into_iter().filter(|change| change.kind != unchanged).collect();
        Ok(Response::new(api::UndoResponse { revision, changes }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<api::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.in_flight.stream()?;
        let caller = Call::of(request.extensions()).caller;
        let request = request.into_inner();
        let filter = Filter::new(&request.kind, request.namespace, request.name, caller)?;
        let store = Arc::clone(self.ledger.store());
        let fleet = self.fleet.clone();
        Ok(Response::new(Box::pin(watch(store, fleet, filter, self.drain.clone(), place))))
    }
}

impl Configuration {
    async fn change(
        &self,
        edit: Edit,
        terms: Terms,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Result<change::Outcome, Status> {
        let result = self.ledger.change(edit, terms).await;
        result.map_err(|error| answer::status(error, metadata))
    }
}

fn files(files: Vec<api::SourceFile>) -> Vec<SourceText> {
    files.into_iter().map(|file| SourceText { name: file.name, content: file.content }).collect()
}

fn terms(
    expected_revision: u64,
    dry_run: bool,
    message: String,
    said: &str,
    call: Call,
) -> Result<Terms, Status> {
    if said.len() > MOST_AUTHOR_BYTES || message.len() > MOST_MESSAGE_BYTES {
        return Err(Status::invalid_argument(format!(
            "an author has at most {MOST_AUTHOR_BYTES} bytes and a message {MOST_MESSAGE_BYTES}"
        )));
    }
    let expected = Some(Revision(expected_revision)).filter(|expected| expected.0 > 0);
    let author = call.caller.author(said);
    Ok(Terms { expected, dry_run, message, author, call })
}

fn told(outcome: Outcome, call: &Call) -> (u64, Vec<api::Change>) {
    call.committed(outcome.revision.0);
    (outcome.revision.0, outcome.changes.into_iter().map(answer::change).collect())
}

fn page_size(asked: u32, default: u32) -> usize {
    let size = if asked == 0 { default } else { asked.min(MOST_PAGE) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Where a page begins. All pages of one listing are of one revision.
struct Page {
    /// 0: the newest.
    revision: u64,
    offset: usize,
}

impl Page {
    fn read(token: &str, revision: u64) -> Result<Self, Status> {
        if token.is_empty() {
            return Ok(Self { revision, offset: 0 });
        }
        token
            .split_once('/')
            .and_then(|(revision, offset)| {
                Some(Self { revision: revision.parse().ok()?, offset: offset.parse().ok()? })
            })
            .ok_or_else(|| Status::invalid_argument("the page token is not one of ours"))
    }
}
