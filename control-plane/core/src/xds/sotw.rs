//! The state-of-the-world variant: a response of listeners or clusters holds all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use xxhash_rust::xxh3::Xxh3;

use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use super::order::{Part, has_legacy_wildcard, is_full_state};
use super::session::{Outgoing, Variant};
use super::subscription::{Held, Subscription, WILDCARD};
use crate::snapshot::{EncodedResource, Resources};

/// `StreamAggregatedResources`.
#[derive(Debug)]
pub enum StateOfTheWorld {}

impl Variant for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn holds_resources(request: &Self::Request) -> bool {
        !request.version_info.is_empty()
    }

    fn answer_of(request: &Self::Request) -> (&str, Option<&str>) {
        let error = request.error_detail.as_ref().map(|status| status.message.as_str());
        (&request.response_nonce, error)
    }

    /// A request holds all names that the client wants. Where it answers an older response, a
    /// newer request is on its way and counts alone.
    fn subscribe(to: &mut Subscription, request: Self::Request, first: bool) {
        let stale = to.last_nonce.as_deref().unwrap_or_default() != request.response_nonce;
        if stale && !first {
            return;
        }
        let mut names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let star = names.remove(WILDCARD);
        to.explicit |= star || !names.is_empty();
        let wildcard = star || !to.explicit && has_legacy_wildcard(&request.type_url);
        if !first && wildcard == to.wildcard && names == to.names {
            return;
        }
        to.look_again();
        to.answer_due |= wildcard && !to.wildcard;
        to.due.extend(names.difference(&to.names).cloned());
        to.wildcard = wildcard;
        to.names = names;
        to.forget_uncovered();
    }

    fn is_whole(type_url: &str) -> bool {
        is_full_state(type_url)
    }

    fn respond(
        to: &mut Subscription,
        resources: &Resources,
        part: Part,
        outgoing: &Outgoing<'_>,
    ) -> Option<(Self::Response, Vec<String>)> {
        let gone: Vec<String> =
            to.held.keys().filter(|name| !resources.contains_key(name.as_str())).cloned().collect();
        let full = is_full_state(outgoing.type_url);
        let mut sending: Vec<Arc<EncodedResource>> = Vec::new();
        let mut names = Vec::new();
        for (name, resource) in resources.iter().filter(|(name, _)| to.covers(name)) {
            let current = |held: &Held| held.version == resource.version();
            let news = part != Part::Break
                && (to.due.contains(&**name) || !to.held.get(&**name).is_some_and(current));
            if news {
                names.push(name.to_string());
            }
            if news || full {
                sending.push(Arc::clone(resource));
            }
        }
        let owed = part != Part::Break && (to.answer_due || full && !to.due.is_empty());
        let breaks = part != Part::Make && !gone.is_empty();
        if part != Part::Break {
            to.due.clear();
            to.answer_due = false;
        }
        if breaks {
            for name in &gone {
                to.drop_held(name);
            }
        } else if full {
            // Not yet to be taken away, and absence would do that.
            let kept = gone.iter().filter_map(|name| to.held.get(name)?.resource.clone());
            sending.extend(kept);
        }
        if names.is_empty() && !owed && !(breaks && full) {
            return None;
        }
        for resource in &sending {
            to.hold(resource);
        }
        let response = DiscoveryResponse {
            version_info: version_info(&to.held),
            resources: sending
                .iter()
                .map(|resource| Any::decode(resource.any()).unwrap_or_default())
                .collect(),
            type_url: outgoing.type_url.to_owned(),
            nonce: outgoing.nonce.to_owned(),
            ..DiscoveryResponse::default()
        };
        Some((response, names))
    }
}

/// The state that the client has after a response: equal states have equal versions.
fn version_info(held: &BTreeMap<String, Held>) -> String {
    let mut digest = Xxh3::new();
    for (name, held) in held {
        for part in [name, &held.version] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
    }
    format!("{:016x}", digest.digest())
}
