//! A stream of what is and then of what changes.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use segue_control_plane_core::config::ResourceKey;
use segue_proto::admin::v1 as api;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::answer;
use super::conditions::Outlook;
use super::in_flight::Place;
use super::listing::{Filter, fill};
use crate::declared::difference;
use crate::fleet::Fleet;
use crate::store::{Store, StoredConfiguration, StoredResource};

/// Names of deleted resources in one message: with the longest names, half of 4 MiB.
const MOST_DELETED: usize = 10_000;

/// What exists, then what each commit changed, at the cost of the change. Commits that come faster
/// than the caller reads are told as one.
pub fn watch(
    store: Arc<dyn Store>,
    fleet: Fleet,
    filter: Filter,
    drain: DrainSignal,
    place: Place,
) -> impl Stream<Item = Result<api::WatchResponse, Status>> + Send {
    async_stream::try_stream! {
        let _place = place;
        let names_nodes = filter.sees_everything();
        let mut newest = store.watch();
        let mut known: Option<StoredConfiguration> = None;
        loop {
            newest.mark_unchanged();
            let now = store.load().await.map_err(|error| answer::store_status(&error))?;
            let mut news = News::since(known.as_ref(), &now, &filter);
            // What exists is told even where nothing does.
            let mut go_on = known.is_none() || !news.is_told();
            while go_on {
                let fleet = fleet.clone();
                let tell = move || (news.tell(&Outlook::new(fleet.standings(), names_nodes)), news);
                let told = spawn_blocking(tell).await;
                let (response, rest) = told.map_err(|error| Status::internal(error.to_string()))?;
                news = rest;
                go_on = response.more;
                yield response;
            }
            known = Some(now);
            let go_on = tokio::select! {
                changed = newest.changed() => changed.is_ok(),
                () = drain.cancelled() => false,
            };
            if !go_on {
                Err(Status::unavailable("the control plane is stopping"))?;
            }
        }
    }
}

/// What is still to be told of one revision.
struct News {
    revision: Revision,
    deleted: VecDeque<ResourceKey>,
    upserted: VecDeque<Arc<StoredResource>>,
}

impl News {
    /// What matches in `now` and is new since `before`; all of it where there is no before.
    fn since(
        before: Option<&StoredConfiguration>,
        now: &StoredConfiguration,
        filter: &Filter,
    ) -> Self {
        let (upserted, deleted) = match before {
            None => (filter.select(now, None).map(Arc::clone).collect(), VecDeque::new()),
            Some(before) => {
                let (upserts, deletes) = difference(before, now);
                (
                    upserts.into_iter().filter(|stored| filter.matches(&stored.key)).collect(),
                    deletes.into_iter().filter(|key| filter.matches(key)).collect(),
                )
            }
        };
        Self { revision: now.revision, deleted, upserted }
    }

    fn is_told(&self) -> bool {
        self.deleted.is_empty() && self.upserted.is_empty()
    }

    /// The next message. Takes as long as its resources take to print.
    fn tell(&mut self, outlook: &Outlook) -> api::WatchResponse {
        let deleted: Vec<_> = self
            .deleted
            .drain(..self.deleted.len().min(MOST_DELETED))
            .map(|key| answer::key(&key))
            .collect();
        // A message of names may be half full already.
        let upserted = if deleted.is_empty() {
            fill(&mut self.upserted, usize::MAX, Some(outlook))
        } else {
            Vec::new()
        };
        let more = !self.is_told();
        api::WatchResponse { revision: self.revision.0, upserted, deleted, more }
    }
}
