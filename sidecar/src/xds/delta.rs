//! Delta xDS, one stream: which requests follow from which responses. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use segue_shared::xds_names::{SNAPSHOT_MARK, type_urls};
use segue_sidecar_core::reject::Reject;

use super::inbox::{Inbox, Incoming, TYPES, nack_message};

/// What this stream is subscribed to. Wildcards are not in it.
#[derive(Debug, Default)]
pub(crate) struct DeltaStream {
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
}

impl DeltaStream {
    /// The first requests of a stream. They tell what is here already, so that only changes come.
    pub fn open(node: Node, inbox: &Inbox, ask_marks: bool) -> (Self, Vec<DeltaDiscoveryRequest>) {
        let mut stream = Self::default();
        let mut requests = Vec::new();
        for type_url in TYPES {
            if type_url == type_urls::SNAPSHOT_MARK {
                if ask_marks {
                    let names = BTreeSet::from([SNAPSHOT_MARK.to_owned()]);
                    requests.extend(stream.subscribe(type_url, names, inbox));
                }
            } else if let Some(names) = inbox.wanted(type_url) {
                requests.extend(stream.subscribe(type_url, names, inbox));
            } else {
                requests.push(DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    initial_resource_versions: inbox.versions(type_url),
                    ..Default::default()
                });
            }
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(node);
        }
        (stream, requests)
    }

    /// Takes a response: its acknowledgement, then changed subscriptions.
    pub fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        inbox: &mut Inbox,
    ) -> (Vec<DeltaDiscoveryRequest>, Vec<Reject>) {
        let DeltaDiscoveryResponse { resources, type_url, removed_resources, nonce, .. } = response;
        // A resource without a body only prolongs the life of what is here.
        let resources = resources
            .into_iter()
            .filter_map(|resource| {
                Some(Incoming {
                    name: Some(resource.name),
                    version: resource.version,
                    resource: resource.resource?,
                })
            })
            .collect();
        let rejects = inbox.receive(&type_url, resources, &removed_resources);
        let error_detail = (!rejects.is_empty()).then(|| nack(&rejects));
        let mut requests = vec![DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..Default::default()
        }];
        for type_url in [type_urls::ENDPOINT, type_urls::ROUTE] {
            let names = inbox.wanted(type_url).unwrap_or_default();
            requests.extend(self.subscribe(type_url, names, inbox));
        }
        (requests, rejects)
    }

    /// The request that makes `names` the subscription of a type, where it differs. The first one
    /// tells the versions that are here; one without names would mean all, so it waits for a name.
    fn subscribe(
        &mut self,
        type_url: &'static str,
        names: BTreeSet<String>,
        inbox: &Inbox,
    ) -> Option<DeltaDiscoveryRequest> {
        let first = !self.subscribed.contains_key(type_url);
        if first && names.is_empty() {
            return None;
        }
        let before = self.subscribed.entry(type_url).or_default();
        let added: Vec<String> = names.difference(before).cloned().collect();
        let gone: Vec<String> = before.difference(&names).cloned().collect();
        if added.is_empty() && gone.is_empty() {
            return None;
        }
        *before = names;
        let mut versions = if first { inbox.versions(type_url) } else { HashMap::new() };
        versions.retain(|name, _| before.contains(name));
        Some(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: added,
            resource_names_unsubscribe: gone,
            initial_resource_versions: versions,
            ..Default::default()
        })
    }
}

/// `INVALID_ARGUMENT` with a line for each refused resource.
pub(crate) fn nack(rejects: &[Reject]) -> Status {
    Status { code: 3, message: nack_message(rejects), details: Vec::new() }
}
