//! `segue.admin.v1.ConfigService`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use segue_control_plane_core::config::{self, Kind, ResourceKey, SourceText};
use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::config_service_server::ConfigService;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tonic::{Request, Response, Status};

use super::change::{Edit, Ledger, Outcome, Terms};
use super::conditions::Outlook;
use super::in_flight::InFlight;
use super::listing::{Filter, fill};
use super::watch::watch;
use super::{answer, change};
use crate::access::Call;
use crate::fleet::Fleet;
use crate::store::StoredConfiguration;

/// Resources and revisions a page.
const MOST_PAGE: u32 = 500;
const REVISIONS_PAGE: u32 = 20;
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
        let configuration = self.read(page.revision).await?;
        let revision = configuration.revision;
        let most = page_size(request.page_size, MOST_PAGE);
        let is_newest = *self.ledger.store().watch().borrow() == revision;
        let fleet = is_newest.then(|| self.fleet.clone());
        let print = move || {
            let outlook =
                fleet.map(|fleet| Outlook::new(fleet.standings(), filter.sees_everything()));
            let selected = filter.select(&configuration, page.after.as_ref()).take(most + 1);
            let mut rest: VecDeque<_> = selected.map(Arc::clone).collect();
            (fill(&mut rest, most, outlook.as_ref()), !rest.is_empty())
        };
        let printed = tokio::task::spawn_blocking(print).await;
        let (resources, more) = printed.map_err(|error| Status::internal(error.to_string()))?;
        let last = resources.last().and_then(|entry| entry.resource.as_ref()).filter(|_| more);
        let next_page_token =
            last.map(|last| Page::token(revision, &config::key(last))).unwrap_or_default();
        Ok(Response::new(api::ListResponse { resources, revision: revision.0, next_page_token }))
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

    /// The configuration at a revision; the newest where none is named.
    async fn read(&self, revision: Option<Revision>) -> Result<StoredConfiguration, Status> {
        let store = self.ledger.store();
        let fail = |error| answer::store_status(&error);
        let newest = store.load().await.map_err(fail)?;
        match revision {
            Some(revision) if revision != newest.revision => store.at(revision).await.map_err(fail),
            _ => Ok(newest),
        }
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
    /// `None`: the newest.
    revision: Option<Revision>,
    /// The last resource of the page before.
    after: Option<ResourceKey>,
}

impl Page {
    fn read(token: &str, revision: u64) -> Result<Self, Status> {
        if token.is_empty() {
            let revision = Some(Revision(revision)).filter(|revision| revision.0 > 0);
            return Ok(Self { revision, after: None });
        }
        let words: Vec<&str> = token.split('/').collect();
        let page = || {
            let [revision, kind, namespace, name] = words.as_slice() else { return None };
            let revision = Some(Revision(revision.parse().ok()?));
            let after = Some(ResourceKey::new(Kind::parse(kind)?, *namespace, *name));
            Some(Self { revision, after })
        };
        page().ok_or_else(|| Status::invalid_argument("the page token is not one of ours"))
    }

    fn token(revision: Revision, last: &ResourceKey) -> String {
        format!("{revision}/{}/{}/{}", last.kind, last.namespace, last.name)
    }
}
