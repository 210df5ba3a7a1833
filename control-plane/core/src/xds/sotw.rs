//! The state-of-the-world variant: a response of listeners or clusters holds all of them.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use segue_shared::ids::Revision;
use xxhash_rust::xxh3::Xxh3;

use super::order::{Part, has_legacy_wildcard, is_full_state};
use super::response::Client;
use super::subscription::{Makes, Subscription, WILDCARD};
use super::variant::{Content, Extent, Heartbeat, Variant};
use super::wire::{self, Fields};
use crate::snapshot::{Batch, EncodedResource, Resources, Transitions};

/// `StreamAggregatedResources`.
#[derive(Debug)]
pub enum StateOfTheWorld {}

impl Variant for StateOfTheWorld {
    const FIELDS: &'static Fields = &wire::STATE_OF_THE_WORLD;

    type Request = DiscoveryRequest;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn answer_of(request: &Self::Request) -> (&str, Option<&str>) {
        let error = request.error_detail.as_ref().map(|status| status.message.as_str());
        (&request.response_nonce, error)
    }

    fn brings_along(request: &Self::Request) -> bool {
        !request.version_info.is_empty()
    }

    fn extent(request: &Self::Request) -> Extent {
        Extent::of(request.resource_names.iter())
    }

    /// A request holds all names that the client wants. Where it answers an older response, a
    /// newer request is on its way and counts alone.
    fn subscribe(
        to: &mut Subscription,
        request: Self::Request,
        first: bool,
        target: &Resources,
    ) -> Vec<Arc<str>> {
        if !first && !to.answers.is_current(&request.response_nonce) {
            return Vec::new();
        }
        let mut names: BTreeSet<&str> = request.resource_names.iter().map(String::as_str).collect();
        let star = names.remove(WILDCARD);
        to.explicit |= star || !names.is_empty();
        let wildcard = star || !to.explicit && has_legacy_wildcard(&request.type_url);
        if first {
            // Which resources the client brought along it cannot say.
            let names = names.into_iter().map(str::to_owned);
            to.begin(wildcard, names, HashMap::new(), target);
            return Vec::new();
        }
        let known = |name: &str| to.names.contains(name);
        if wildcard == to.wildcard
            && names.len() == to.names.len()
            && names.iter().all(|name| known(name))
        {
            return Vec::new();
        }
        let dropped: Vec<Arc<str>> =
            to.names.iter().filter(|name| !names.contains(&***name)).cloned().collect();
        let new: Vec<&str> = names.iter().copied().filter(|name| !known(name)).collect();
        if wildcard && !to.wildcard {
            to.widen();
        }
        for name in new {
            to.subscribe(name);
        }
        if !wildcard && to.wildcard {
            to.narrow();
        }
        for name in &dropped {
            to.unsubscribe(name, false);
        }
        dropped
    }

    fn content(
        of: &mut Subscription,
        type_url: &str,
        target: &Resources,
        ways: &Transitions,
        part: Part,
    ) -> Option<Content> {
        let makes = if part.makes() { of.take_makes(target, ways) } else { Makes::default() };
        let removed = if part.breaks() { of.take_breaks(target) } else { Vec::new() };
        let due = part.makes() && mem::take(&mut of.answer_due);
        let whole = is_full_state(type_url, of.wildcard);
        // Of the other types, absence says nothing: what is gone goes with what named it.
        if makes.is_empty() && !due && (!whole || removed.is_empty()) {
            return None;
        }
        let mut content = Content::new(makes, Vec::new(), whole);
        if whole {
            // What is not yet to be taken away is in it, as absence would do that.
            content.resources = if of.has_just(target) {
                Arc::clone(&ways.between(&Resources::new(), target).makes)
            } else {
                Batch::single(of.in_sync().chain(of.kept()).cloned().collect())
            };
        }
        Some(content)
    }

    fn version_info(resources: &Batch, _revision: Revision) -> String {
        resources.digest(digest)
    }

    fn ttl(client: &Client) -> Option<Duration> {
        client.ttl.filter(|_| client.resource_in_sotw)
    }

    /// With bodies. Envoy takes a resource without one for a heartbeat where its version, for
    /// which it takes the response's, is that of the last response that it accepted. Then it takes
    /// it out of the response before it looks at times to live, so that nothing is prolonged, and
    /// what is left of a response of clusters or listeners is one of none at all.
    fn heartbeat(of: &Subscription, type_url: &str) -> Heartbeat {
        let whole = is_full_state(type_url, of.wildcard);
        let refused = of.answers.refused();
        let held = of.had().chain(of.kept());
        // Absence of what was refused would take away what the client runs on in its place.
        let is_told = |one: &&Arc<EncodedResource>| whole || !refused.contains_key(&**one.name());
        let resources = held.filter(is_told).cloned().collect();
        Heartbeat { resources, whole, bodiless: false }
    }
}

fn digest(resources: &[Arc<EncodedResource>]) -> String {
    let mut digest = Xxh3::new();
    for resource in resources {
        for part in [&**resource.name(), resource.version()] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
    }
    format!("{:016x}", digest.digest())
}
