//! The delta variant: each resource has a version of its own, and only changes travel.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use segue_shared::ids::Revision;

use super::order::{Part, has_legacy_wildcard};
use super::response::Client;
use super::subscription::{Makes, Subscription, WILDCARD};
use super::variant::{Content, Extent, Heartbeat, Variant};
use super::wire::{self, Fields};
use crate::snapshot::{Batch, Resources, Transitions};

/// `DeltaAggregatedResources`.
#[derive(Debug)]
pub enum Delta {}

impl Variant for Delta {
    const FIELDS: &'static Fields = &wire::DELTA;

    type Request = DeltaDiscoveryRequest;

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
        !request.initial_resource_versions.is_empty()
    }

    fn extent(request: &Self::Request) -> Extent {
        let brought = &request.initial_resource_versions;
        let names = Extent::of(brought.keys().chain(&request.resource_names_subscribe));
        let versions = Extent::of(brought.values());
        Extent { longest_bytes: names.longest_bytes.max(versions.longest_bytes), ..names }
    }

    /// Changes of a subscription count whatever the nonce says.
    fn subscribe(
        to: &mut Subscription,
        mut request: Self::Request,
        first: bool,
        target: &Resources,
    ) -> Vec<Arc<str>> {
        let subscribe = mem::take(&mut request.resource_names_subscribe);
        let star = subscribe.iter().any(|name| name == WILDCARD);
        let empty = subscribe.is_empty();
        let names = subscribe.into_iter().filter(|name| name != WILDCARD);
        if first {
            let wildcard = star || empty && has_legacy_wildcard(&request.type_url);
            to.begin(wildcard, names, request.initial_resource_versions, target);
        } else {
            if star {
                to.widen();
            }
            for name in names {
                to.subscribe(&name);
            }
        }
        let mut dropped = Vec::new();
        for name in request.resource_names_unsubscribe {
            if name == WILDCARD {
                to.narrow();
            } else {
                dropped.extend(to.unsubscribe(&name, true));
            }
        }
        dropped
    }

    fn content(
        of: &mut Subscription,
        _type_url: &str,
        target: &Resources,
        ways: &Transitions,
        part: Part,
    ) -> Option<Content> {
        let makes = if part.makes() { of.take_makes(target, ways) } else { Makes::default() };
        let removed = if part.breaks() { of.take_breaks(target) } else { Vec::new() };
        let due = part.makes() && mem::take(&mut of.answer_due);
        if makes.is_empty() && removed.is_empty() && !due {
            return None;
        }
        let mut content = Content::new(makes, removed, false);
        // It is watched on: the answer comes when there is such a resource.
        content.removed.extend(content.unknown.iter().cloned());
        Some(content)
    }

    fn version_info(_resources: &Batch, revision: Revision) -> String {
        revision.to_string()
    }

    fn ttl(client: &Client) -> Option<Duration> {
        client.ttl
    }

    /// Each resource has a version of its own, by which clients know a heartbeat. What a client
    /// refused it has in another version.
    fn heartbeat(of: &Subscription, _type_url: &str) -> Heartbeat {
        let refused = of.answers.refused();
        let held = of.in_sync().chain(of.kept());
        let resources = held.filter(|one| !refused.contains_key(&**one.name())).cloned().collect();
        Heartbeat { resources, whole: false, bodiless: true }
    }
}
