//! The delta variant: each resource has a version of its own, and only changes travel.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};

use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use super::order::{Part, has_legacy_wildcard};
use super::session::{Outgoing, Variant};
use super::subscription::{Held, Subscription, WILDCARD};
use crate::snapshot::Resources;

/// `DeltaAggregatedResources`.
#[derive(Debug)]
pub enum Delta {}

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

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

    fn holds_resources(request: &Self::Request) -> bool {
        !request.initial_resource_versions.is_empty()
    }

    /// Changes of a subscription count whatever the nonce says.
    fn subscribe(to: &mut Subscription, mut request: Self::Request, first: bool) {
        let subscribe = std::mem::take(&mut request.resource_names_subscribe);
        let unsubscribe = std::mem::take(&mut request.resource_names_unsubscribe);
        if subscribe.is_empty() && unsubscribe.is_empty() && !first {
            return;
        }
        to.look_again();
        if first && subscribe.is_empty() && has_legacy_wildcard(&request.type_url) {
            to.wildcard = true;
            to.answer_due = true;
        }
        let brought = if first { request.initial_resource_versions } else { HashMap::new() };
        for name in subscribe {
            if name == WILDCARD {
                to.wildcard = true;
                // Even where there is nothing, the client waits to be told so.
                to.answer_due = true;
                continue;
            }
            // What the client brought along is answered by what changed, or by its removal.
            if !brought.contains_key(&name) {
                to.due.insert(name.clone());
            }
            to.names.insert(name);
        }
        for (name, version) in brought {
            if to.covers(&name) {
                to.held.insert(name, Held { version, resource: None });
            }
        }
        for name in unsubscribe {
            if name == WILDCARD {
                to.wildcard = false;
            } else if to.names.remove(&name) && to.wildcard {
                // The client dropped it, and `*` still covers it.
                to.due.insert(name);
            }
        }
        to.forget_uncovered();
    }

    fn is_whole(_type_url: &str) -> bool {
        false
    }

    fn respond(
        to: &mut Subscription,
        resources: &Resources,
        part: Part,
        outgoing: &Outgoing<'_>,
    ) -> Option<(Self::Response, Vec<String>)> {
        let mut updated = Vec::new();
        let mut removed = Vec::new();
        if part != Part::Break {
            for (name, resource) in resources {
                let current = |held: &Held| held.version == resource.version();
                if to.due.contains(&**name)
                    || to.covers(name) && !to.held.get(&**name).is_some_and(current)
                {
                    updated.push(resource);
                }
            }
            let unknown = |name: &&String| {
                !resources.contains_key(name.as_str()) && !to.held.contains_key(*name)
            };
            removed.extend(to.due.iter().filter(unknown).cloned());
        }
        if part != Part::Make {
            removed.extend(
                to.held.keys().filter(|name| !resources.contains_key(name.as_str())).cloned(),
            );
        }
        if updated.is_empty() && removed.is_empty() && !(to.answer_due && part != Part::Break) {
            return None;
        }
        for resource in &updated {
            to.hold(resource);
            to.due.remove(&**resource.name());
        }
        for name in &removed {
            to.drop_held(name);
            // It is watched on: the answer comes when there is such a resource.
            to.due.remove(name);
        }
        to.answer_due &= part == Part::Break;
        let names = updated.iter().map(|resource| resource.name().to_string()).collect();
        let resources = updated.into_iter().map(|resource| Resource {
            name: resource.name().to_string(),
            version: resource.version().to_owned(),
            resource: Any::decode(resource.any()).ok(),
            ..Resource::default()
        });
        let response = DeltaDiscoveryResponse {
            system_version_info: format!("{}-{:016x}", outgoing.revision, outgoing.digest),
            resources: resources.collect(),
            type_url: outgoing.type_url.to_owned(),
            removed_resources: removed,
            nonce: outgoing.nonce.to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        Some((response, names))
    }
}
