//! A stream of what is and then of what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::Stream;
use segue_control_plane_core::config::{Kind, ResourceKey};
use segue_proto::admin::v1 as api;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tonic::Status;

use super::answer;
use super::conditions::Outlook;
use super::in_flight::Place;
use crate::access::Caller;
use crate::fleet::Fleet;
use crate::store::{Store, StoredResource};

/// Which resources a caller asks for.
pub struct Filter {
    kind: Option<Kind>,
    namespace: String,
    name: String,
    caller: Arc<Caller>,
}

impl Filter {
    /// Empty words match anything that the caller may see.
    pub fn new(
        kind: &str,
        namespace: String,
        name: String,
        caller: Arc<Caller>,
    ) -> Result<Self, Status> {
        Ok(Self { kind: answer::read_kind(kind)?, namespace, name, caller })
    }

    pub fn matches(&self, key: &ResourceKey) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind)
            && (self.namespace.is_empty() || self.namespace == key.namespace)
            && (self.name.is_empty() || self.name == key.name)
            && self.caller.sees(&key.namespace)
    }
}

/// What exists, then what each commit changed. Commits that come faster than the caller reads are
/// told as one.
pub fn watch(
    store: Arc<dyn Store>,
    fleet: Fleet,
    filter: Filter,
    drain: DrainSignal,
    place: Place,
) -> impl Stream<Item = Result<api::WatchResponse, Status>> + Send {
    async_stream::try_stream! {
        let _place = place;
        let mut newest = store.watch();
        let mut known: Option<BTreeMap<ResourceKey, Revision>> = None;
        loop {
            newest.mark_unchanged();
            let configuration =
                store.load().await.map_err(|error| answer::store_status(&error))?;
            let revision = configuration.revision;
            let resources =
                configuration.listed().into_iter().filter(|stored| filter.matches(&stored.key)).collect();
            let first = known.is_none();
            let outlook = Outlook::new(fleet.standings());
            let response = step(known.get_or_insert_default(), revision, resources, &outlook);
            if first || !response.upserted.is_empty() || !response.deleted.is_empty() {
                yield response;
            }
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

/// What is new since `known`, which is brought up to date.
fn step(
    known: &mut BTreeMap<ResourceKey, Revision>,
    revision: Revision,
    resources: Vec<StoredResource>,
    outlook: &Outlook,
) -> api::WatchResponse {
    let now: BTreeMap<ResourceKey, Revision> =
        resources.iter().map(|stored| (stored.key.clone(), stored.revision)).collect();
    let deleted = known.keys().filter(|key| !now.contains_key(*key)).map(answer::key).collect();
    let upserted = resources
        .into_iter()
        .filter(|stored| known.get(&stored.key) != Some(&stored.revision))
        .map(|stored| answer::entry(stored, Some(outlook)))
        .collect();
    *known = now;
    api::WatchResponse { revision: revision.0, upserted, deleted }
}
