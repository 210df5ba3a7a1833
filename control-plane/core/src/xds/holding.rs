//! What a client asked for and holds, as status services tell it.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::answers::{News, Refusal};
use super::subscription::{Had, Owed, Subscription, covered};
use crate::snapshot::{EncodedResource, Resources};

/// What a client holds at one moment. It shares its maps with the snapshot, so that it is cheap to
/// make, to copy and to keep.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    pub types: Vec<HeldType>,
}

/// What a client holds of one type.
#[derive(Clone, Debug)]
pub struct HeldType {
    pub type_url: Arc<str>,
    /// Whether it wants all of the type.
    pub wildcard: bool,
    /// The names that it wants.
    pub names: OrdSet<Arc<str>>,
    base: Resources,
    owed: OrdMap<Arc<str>, Owed>,
    gone: OrdMap<Arc<str>, Had>,
    refused: OrdMap<Arc<str>, Arc<Refusal>>,
    /// What was new in responses that the client has not answered.
    unanswered: Vec<News>,
}

/// A resource that a client has been sent, or brought along.
#[derive(Clone, Copy, Debug)]
pub struct HeldResource<'a> {
    pub name: &'a Arc<str>,
    pub version: &'a str,
    /// `None` where the client brought another version along than we have.
    pub resource: Option<&'a Arc<EncodedResource>>,
    /// The client refused this version and runs on with what it had before.
    pub refusal: Option<&'a Refusal>,
    /// This version was sent, and the client has neither taken nor refused it.
    pub is_unanswered: bool,
}

impl HeldType {
    pub(super) fn of(type_url: &Arc<str>, subscription: &Subscription) -> Self {
        Self {
            type_url: Arc::clone(type_url),
            wildcard: subscription.wildcard,
            names: subscription.names.clone(),
            base: subscription.base().clone(),
            owed: subscription.owed().clone(),
            gone: subscription.gone().clone(),
            refused: subscription.answers.refused().clone(),
            unanswered: subscription.answers.unanswered().cloned().collect(),
        }
    }

    /// What the client holds.
    pub fn resources(&self) -> impl Iterator<Item = HeldResource<'_>> {
        let covered = covered(&self.base, self.wildcard, &self.names);
        let present = covered.filter_map(|(name, resource)| match self.owed.get(name) {
            Some(Owed::New) => None,
            Some(Owed::Other(had)) => Some((name, had.version(), had.resource())),
            Some(Owed::Same) | None => Some((name, resource.version(), Some(resource))),
        });
        let unanswered: BTreeSet<&str> =
            self.unanswered.iter().flat_map(News::names).map(|name| &**name).collect();
        let gone = self.gone.iter().map(|(name, had)| (name, had.version(), had.resource()));
        present.chain(gone).map(move |(name, version, resource)| HeldResource {
            name,
            version,
            resource,
            refusal: self.refused.get(name).map(|refusal| &**refusal),
            is_unanswered: unanswered.contains(&**name),
        })
    }

    /// Whether the client has just what a snapshot has, in the snapshot's own map.
    #[cfg(test)]
    pub(super) fn is_shared_with(&self, resources: &Resources) -> bool {
        self.base.ptr_eq(resources) && self.owed.is_empty() && self.gone.is_empty()
    }

    /// Names that the client asked for and that do not exist.
    pub fn unknown(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names
            .iter()
            .filter(|name| !self.base.contains_key(*name) && !self.gone.contains_key(*name))
    }

    /// Names that exist, that the client wants and that it has not been sent yet.
    pub fn due(&self) -> impl Iterator<Item = &Arc<str>> {
        self.owed.iter().filter(|(_, owed)| matches!(owed, Owed::New)).map(|(name, _)| name)
    }

    /// What the client refuses now.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values().map(|refusal| &**refusal)
    }
}
